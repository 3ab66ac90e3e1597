"""A service that sends webhooks, a project whose jobs want them, and a listener in a thread of this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from runner.listener.listen import ListenConfig, Listening
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.service import BackgroundService, ServiceConfig
from tests.executor.conftest import Team
from tests.executor.forked_service import TOKEN

SECRET = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="
ENVIRON = {"BATCHSPEC_TEST_KEY": TOKEN, "BATCHSPEC_WEBHOOK_TEST": SECRET}
FOREVER = 20.0
"""Seconds after which a test gives up."""


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service in this process that may send webhooks to this machine."""
    config = ServiceConfig(
        tmp_path_factory.mktemp("service"), tokens=(TOKEN,), webhook_allow=("loopback",), webhook_backoff=0.05
    )
    with BackgroundService.start(config) as running:
        yield running.url


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded service is one machine: what it shows at once holds."""
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 0.0)


class Scene(Team):
    """A project whose job `job` has a webhook."""

    hook: str = "http://127.0.0.1:9/webhooks/test"

    @property
    def environ(self) -> dict[str, str]:
        return ENVIRON

    def spec(self, name: str = "job", *more: str, file: str = "", output: str = "") -> None:
        webhook = f"webhook: {{url: '{self.hook}', secret: {{env: BATCHSPEC_WEBHOOK_TEST}}}}"
        super().spec(name, webhook, *more, file=file, output=output)

    @property
    def folder(self) -> Path:
        return self.root / ".batchspec/webhooks"

    def events_in(self, state: str) -> int:
        return len(list((self.folder / state).glob("*.json")))

    def send(
        self,
        url: str,
        batch: str,
        *,
        number: str = "1",
        secret: str = SECRET,
        at: float | None = None,
        body: bytes | None = None,
        **fields: Any,
    ) -> httpx.Response:
        """Send a signed webhook about a batch."""
        content = body or json.dumps({"type": "batch.completed", "data": {"id": batch}, **fields}).encode()
        return httpx.post(url, content=content, headers=signed(number, content, secret, at), timeout=FOREVER)

    @contextmanager
    def listening(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[str]:
        """Run a listener, and yield the URL of the profile `test`."""
        ready = threading.Event()
        urls: list[str] = []
        failures: list[BaseException] = []

        def on_ready(found: tuple[str, ...]) -> None:
            urls.extend(found)
            ready.set()

        listening = Listening(ListenConfig(self.root, workers=1), on_ready, watcher=self, environ=self.environ, now=now)

        def serve() -> None:
            try:
                listening.serve()
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=serve)
        thread.start()
        ready.wait(FOREVER)
        try:
            if failures:
                raise failures[0]
            self.hook = urls[0]
            yield urls[0]
        finally:
            listening.stop()
            thread.join(FOREVER)
            assert not thread.is_alive()


def signed(number: str, content: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers of a webhook."""
    moment = int(time.time() if at is None else at)
    webhook_id = f"msg_{number}"
    sign = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(moment, UTC), content.decode())
    return {"webhook-id": webhook_id, "webhook-timestamp": str(moment), "webhook-signature": sign}


def eventually(fact: Callable[[], object], seconds: float = FOREVER) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@pytest.fixture
def scene(tmp_path: Path, service_url: str) -> Scene:
    made = Scene(tmp_path / f"listen-{abs(hash(str(tmp_path))) % 10**8}", service_url)
    profile = {"kind": "digitalocean", "base_url": service_url, "key": {"env": "BATCHSPEC_TEST_KEY"}}
    made.write("batchspec.yaml", json.dumps({"version": 1, "project": made.root.name, "providers": {"test": profile}}))
    made.rows("one", "two", "three")
    made.spec()
    return made
