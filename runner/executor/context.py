"""What one command works with: the project's places, the services, the clock, and who is told what happens.

Clock and sleep are arguments, so that tests hold them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from runner.providers import open_api
from runner.providers.api import BatchApi
from runner.reconciler.lockfile import Lockfile, parse
from runner.spec.load import JobSpec, Project
from runner.spec.realm import realm_folder, realm_of
from runner.spec.trust import find_key
from runner.store.files import write_whole
from runner.store.index import ResultStore
from runner.store.places import Places


class Watcher(Protocol):
    """Who is told what happens. Implementations print, or don't; they never fail."""

    def event(self, name: str, **fields: object) -> None:
        """Something happened: a dotted noun such as `batch.submitted`, with fields such as `job` and `batch`."""
        ...

    def progress(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """How far `what` is: `upload JOB`, `answers JOB`, `write PATH`. Units are bytes, requests or rows."""
        ...


class Silent:
    """A watcher that tells nobody."""

    def event(self, name: str, **fields: object) -> None:
        """Tell nobody."""

    def progress(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm's name and where its raw results and shards are kept."""

    name: str
    results: ResultStore
    shards: Path


@dataclass(slots=True)
class Context:
    """Everything a command's jobs share. Services are opened when they are first needed, one a provider."""

    project: Project
    places: Places
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    watcher: Watcher = field(default_factory=Silent)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    _apis: dict[str, BatchApi] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The project's name."""
        return self.project.settings.project

    def realm(self, spec: JobSpec) -> Realm:
        """The realm of a job."""
        name = realm_of(spec)
        folder = realm_folder(name)
        return Realm(name, ResultStore(self.places.results(folder)), self.places.shards(folder))

    def names(self, spec: JobSpec) -> tuple[str, ...]:
        """A job's address and the ones it had before it was renamed, by its lockfile and its `moved`."""
        names = self.lockfile(spec.lock_path).names(spec.address)
        moved = spec.job.moved
        return names if moved is None or moved.source in names else (*names, moved.source)

    def api(self, spec: JobSpec) -> BatchApi:
        """The service of a job. Raises TrustError or ProviderError where it can't be used."""
        name = realm_of(spec)
        if name not in self._apis:
            key = find_key(spec.profile, self.environ)
            self._apis[name] = open_api(spec.profile, key=key, service_folder=self.places.service, environ=self.environ)
        return self._apis[name]

    def has_key(self, spec: JobSpec) -> bool:
        """Whether the service can be asked at all: a local one, or one with a key."""
        return spec.profile.kind == "local" or find_key(spec.profile, self.environ) is not None

    def close(self) -> None:
        """Close all services."""
        for api in self._apis.values():
            api.close()
        self._apis.clear()

    def lockfile(self, lock_path: str) -> Lockfile:
        """The lockfile at a path of the project, as it is now. Raises LockfileError."""
        path = self.places.lockfile(lock_path)
        data = path.read_bytes() if path.exists() else b""
        return parse(data, self.places.shown(path), self.name)

    def save_lockfile(self, lock_path: str, lockfile: Lockfile) -> None:
        """Write a lockfile, if its bytes differ from those there are."""
        write_whole(self.places.lockfile(lock_path), lockfile.text())
