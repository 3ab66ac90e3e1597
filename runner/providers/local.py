"""The embedded service as a provider: started in this process, or joined in another.

The first process locks the data folder and writes a private `endpoint.json` (URL, token, process id). When it ends,
another one's next call starts the service again, and its jobs continue.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar

import httpx

from runner.base.digest import sha256_hex
from runner.errors import ProviderError, ServiceError, Unreachable
from runner.providers import logger
from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import Now
from runner.providers.protocol import BatchApi, CreateRequest, FileIntent, Progress, RemoteBatch, Renew, ResultUrls
from runner.providers.retry import RetryPolicy, Sleep
from runner.providers.service_endpoint import (
    ACCOUNT,
    ENDPOINT,
    is_locked,
    load_token,
    process_exists,
    read_endpoint,
    write_private,
)

if TYPE_CHECKING:
    from runner.jobspec.settings import LocalProfile

MAX_START_POLLS = 120
"""Polls of a starting service, one each START_POLL_INTERVAL, before it counts as stuck."""
START_POLL_INTERVAL = 0.5
MAX_RESTARTS = 5
"""How often one call may find the service ended and continue with the next one."""

T = TypeVar("T")


class Running(Protocol):
    """A service in this process."""

    @property
    def url(self) -> str:
        """Return its base URL."""
        ...

    def stop(self) -> None:
        """Stop it. Jobs continue at the next start."""
        ...


Launch = Callable[[Path, str], Running]
"""Starts the service on a data folder, with a token. Raises ServiceError, also if another process has the folder."""


class Local(BatchApi):
    """The embedded service over the data in `data`. The first call starts it.

    Raises ServiceError if it can't start. After its process ended, a call restarts it here; a create with a lost
    response raises Unreachable instead.
    """

    def __init__(self, data: Path, launch: Launch, *, sleep: Sleep = time.sleep, now: Now = time.time) -> None:
        self._data = data
        self._launch = launch
        self._sleep = sleep
        self._now = now
        self._guard = threading.RLock()
        self._service: Running | None = None
        self._connection: _Connection | None = None
        self._connections: list[_Connection] = []

    def __repr__(self) -> str:
        return f"Local({str(self._data)!r})"

    def create_file(self, name: str, size: int) -> FileIntent:
        """Request an upload URL."""
        return self._call(lambda api: api.create_file(name, size))

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file, also after a restart."""
        self._call(lambda api: api.upload(self._rebase_intent(intent), path, progress))

    def create_batch(self, request: CreateRequest) -> RemoteBatch:
        """Create a batch; sent exactly once."""
        return self._connected().api.create_batch(request)

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """Return a batch."""
        return self._call(lambda api: api.get_batch(batch_id))

    def list_batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches once, even after a restart."""
        seen: set[str] = set()
        for _ in range(MAX_RESTARTS):
            connection = self._connected()
            try:
                for batch in connection.api.list_batches():
                    if batch.batch_id not in seen:
                        seen.add(batch.batch_id)
                        yield batch
            except (Unreachable, _ServiceGone):
                if connection.alive():
                    raise
            else:
                return
        raise Unreachable(f"the embedded service in {self._data} stopped {MAX_RESTARTS} times in a row")

    def results(self, batch_id: str) -> ResultUrls:
        """Return fresh URLs."""
        return self._call(lambda api: api.results(batch_id))

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Stream a result file, even after a restart."""
        self._call(lambda api: api.download(self._rebase_url(url), path, progress, renew))

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Request cancellation."""
        return self._call(lambda api: api.cancel_batch(batch_id))

    def close(self) -> None:
        """Disconnect. Stop the service if this object started it."""
        with self._guard:
            service, self._service, self._connection = self._service, None, None
            if service is not None:
                (self._data / ENDPOINT).unlink(missing_ok=True)
                service.stop()
            for connection in self._connections:
                connection.api.close()
            self._connections.clear()

    def _call(self, call: Callable[[DigitalOcean], T]) -> T:
        for _ in range(MAX_RESTARTS):
            connection = self._connected()
            try:
                return call(connection.api)
            except (Unreachable, _ServiceGone):
                if connection.alive():
                    raise
        raise Unreachable(f"the embedded service in {self._data} stopped {MAX_RESTARTS} times in a row")

    def _connected(self) -> _Connection:
        with self._guard:
            if self._connection is None or not self._connection.alive():
                self._connection = self._join_or_start()
                self._connections.append(self._connection)
            return self._connection

    def _join_or_start(self) -> _Connection:
        failed_alone = 0
        for _ in range(MAX_START_POLLS):
            joined = self._join()
            if joined is not None:
                logger.info("service.joined", url=joined.url)
                return joined
            try:
                return self._start()
            except ServiceError:
                # Another process may be starting or stopping it; otherwise the error is the service's own.
                if not is_locked(self._data):
                    failed_alone += 1
                    if failed_alone == 3:
                        raise
                    continue
            self._sleep(START_POLL_INTERVAL)
        raise ServiceError(
            f"another process runs the embedded service in {self._data} but does not respond",
            hint=f"end that process; its id is in {self._data / ENDPOINT}",
        )

    def _start(self) -> _Connection:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            token = load_token(self._data / ACCOUNT)
        except OSError as exc:
            raise ServiceError(f"cannot use the service's folder {self._data}: {exc.strerror or exc}") from exc
        service = self._launch(self._data, token)
        endpoint = {"url": service.url, "token": token, "pid": os.getpid()}
        try:
            write_private(self._data / ENDPOINT, json.dumps(endpoint))
        except OSError as exc:
            service.stop()
            raise ServiceError(f"cannot write {self._data / ENDPOINT}: {exc.strerror or exc}") from exc
        self._service = service
        return _Connection(service.url, token, pid=None, sleep=self._sleep, now=self._now)

    def _join(self) -> _Connection | None:
        found = read_endpoint(self._data / ENDPOINT)
        if found is None:
            return None
        url, token, pid = found
        connection = _Connection(url, token, pid=pid, sleep=self._sleep, now=self._now)
        # A killed service's port may belong to another program now: check before sending the token.
        if connection.alive() and connection.answers():
            return connection
        connection.api.close()
        return None

    def _rebase_intent(self, intent: FileIntent) -> FileIntent:
        return FileIntent(intent.file_id, self._rebase_url(intent.upload_url), intent.expires_at)

    def _rebase_url(self, url: str) -> str:
        with self._guard:
            connection = self._connection
            known = {old.url for old in self._connections}
        origin = next((old for old in known if url.startswith(f"{old}/")), None)
        return url if connection is None or origin is None else connection.url + url[len(origin) :]


class _ServiceGone(ProviderError):
    """The service ended during a call."""


class _Connection:
    """A connection to one run of the service. `pid` is None in this process."""

    def __init__(self, url: str, token: str, *, pid: int | None, sleep: Sleep, now: Now) -> None:
        self.url = url
        self._pid = pid
        self._sleep = sleep
        # On loopback, errors end soon or never.
        retry = RetryPolicy(base_delay=0.1, max_delay=5.0, sleep=self._sleep_while_alive)
        self.api = DigitalOcean(url, token, now=now, retry=retry)
        self._probe = DigitalOcean(url, token, now=now, retry=RetryPolicy(tries=1, sleep=sleep))

    def alive(self) -> bool:
        if self._pid is None:
            return True
        target = httpx.URL(self.url)
        if not process_exists(self._pid):
            return False
        try:
            with socket.create_connection((target.host, target.port or 80), timeout=5):
                return True
        except OSError:
            return False

    def answers(self) -> bool:
        try:
            next(iter(self._probe.list_batches()), None)
        except ProviderError:
            return False
        else:
            return True
        finally:
            self._probe.close()

    def _sleep_while_alive(self, seconds: float) -> None:
        if not self.alive():
            raise _ServiceGone(f"the embedded service at {self.url} has ended")
        self._sleep(seconds)


def embedded(
    service_folder: Path,
    profile: LocalProfile,
    *,
    environ: Mapping[str, str],
    sleep: Sleep = time.sleep,
    now: Now = time.time,
) -> Local:
    """Return a profile's embedded service. Each backend and upstream has its own data.

    BATCHSPEC_SERVICE_FAULTS (separated by commas), BATCHSPEC_SERVICE_SEED and BATCHSPEC_SERVICE_TIME_SCALE work like
    `serve`'s options in the process that starts it.
    """
    upstream = f"-{sha256_hex(profile.base_url.encode())[:8]}" if profile.base_url else ""

    def launch(data: Path, token: str) -> Running:
        from runner.service import BackgroundService, ServiceConfig  # noqa: PLC0415 - a server, only when it is started

        config = ServiceConfig(
            data=data,
            tokens=(token,),
            backend=profile.backend,
            base_url=profile.base_url or "",
            key_env=profile.key.env if profile.key else "",
            concurrency=profile.concurrency,
            webhook_allow=("loopback",),
            **_fault_settings(environ),
        )
        return BackgroundService.start(config)

    return Local(service_folder / f"{profile.backend}{upstream}", launch, sleep=sleep, now=now)


class _FaultSettings(TypedDict):
    faults: tuple[str, ...]
    seed: int
    time_scale: float


def _fault_settings(environ: Mapping[str, str]) -> _FaultSettings:
    prefix = "BATCHSPEC_SERVICE_"
    faults = environ.get(f"{prefix}FAULTS", "")
    seed, scale = environ.get(f"{prefix}SEED") or "0", environ.get(f"{prefix}TIME_SCALE") or "1"
    try:
        return {
            "faults": tuple(part.strip() for part in faults.split(",") if part.strip()),
            "seed": int(seed),
            "time_scale": float(scale),
        }
    except ValueError as exc:
        raise ServiceError(f"{prefix}SEED must be a whole number and {prefix}TIME_SCALE a number: {exc}") from exc
