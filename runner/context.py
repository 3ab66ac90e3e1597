"""What one command works with. Tests control its clock and sleep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Protocol

from runner.base.digest import sha256_file
from runner.base.repository_paths import LOCKFILE_BYTES, read_inside
from runner.errors import disk_error
from runner.jobspec.loader import JobSpec, Project
from runner.jobspec.realm import realm_folder, realm_name, realm_of
from runner.jobspec.settings import DigitalOceanProfile, LocalProfile
from runner.jobspec.trust import find_key
from runner.providers import open_api
from runner.providers.protocol import BatchApi
from runner.state.atomic import atomic_write, holds
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, OutputLine
from runner.state.lockfile_parser import parse
from runner.state.project_paths import ProjectPaths
from runner.state.results import ResultStore, ShardKeys
from runner.state.sorted_file import Stamp, file_stamp

Profile = DigitalOceanProfile | LocalProfile


class Watcher(Protocol):
    """Receives events and progress. Implementations never fail."""

    def event(self, name: str, **fields: object) -> None:
        """Handle an event, such as `batch.submitted`."""
        ...

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Handle progress, from several threads; `total` is 0 if unknown.

        `render JOB`, `upload JOB`, `fetch JOB` and `index JOB` count bytes, `answers JOB` requests, `write JOB` rows.
        """
        ...


class NullWatcher:
    """A watcher that ignores everything."""

    def event(self, name: str, **fields: object) -> None:
        """Ignore the event."""

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm's name, raw results and shards."""

    name: str
    results: ResultStore
    shards: Path
    keys: ShardKeys


@dataclass(slots=True)
class Context:
    """What a command's jobs share. Opens services on first use."""

    project: Project
    places: ProjectPaths
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    watcher: Watcher = field(default_factory=NullWatcher)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    _apis: dict[str, BatchApi] = field(default_factory=dict)
    _realms: dict[str, Realm] = field(default_factory=dict)
    _lockfiles: dict[str, tuple[Stamp, Lockfile]] = field(default_factory=dict)
    _files: dict[str, Path] = field(default_factory=dict)
    _others: LockfileIndex | None = None
    _digests: dict[Path, tuple[Stamp, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The project's name."""
        return self.project.settings.project

    def realm(self, spec: JobSpec) -> Realm:
        """Return a job's realm."""
        return self.realm_called(realm_of(spec))

    def realm_called(self, name: str) -> Realm:
        """Return a realm by name."""
        if name not in self._realms:
            folder = realm_folder(name)
            shards = self.places.shards(folder)
            self._realms[name] = Realm(name, ResultStore(self.places.results(folder)), shards, ShardKeys(shards))
        return self._realms[name]

    def names(self, spec: JobSpec) -> tuple[str, ...]:
        """Return a job's address and its earlier ones."""
        names = self.lockfile(spec.lock_path).aliases(spec.address)
        return names if not spec.moved_from or spec.moved_from in names else (*names, spec.moved_from)

    def api(self, spec: JobSpec) -> BatchApi:
        """Return a job's service. Raises TrustError, ProviderError."""
        return self.api_of(spec.profile)

    def api_of(self, profile: Profile) -> BatchApi:
        """Return a profile's service. Raises TrustError, ProviderError."""
        name = realm_name(profile)
        if name not in self._apis:
            key = find_key(profile, self.environ)
            self._apis[name] = open_api(
                profile, key=key, service_folder=self.places.service, environ=self.environ, sleep=self.sleep
            )
        return self._apis[name]

    def profile_of(self, realm: str) -> Profile | None:
        """Return a realm's profile, or None."""
        settings = self.project.settings
        known = [job.profile for job in self.project.jobs] + list(settings.providers.values())
        known += [profile for name in ("digitalocean", "local") if (profile := settings.profile(name))]
        return next((profile for profile in known if realm_name(profile) == realm), None)

    def has_key(self, spec: JobSpec) -> bool:
        """Return whether a key exists, or a local service can start."""
        if spec.profile.kind == "local":
            folder = next(one for one in (self.places.service, *self.places.service.parents) if one.exists())
            return folder.is_dir() and os.access(folder, os.W_OK)
        return find_key(spec.profile, self.environ) is not None

    def close(self) -> None:
        """Close all services."""
        for api in self._apis.values():
            api.close()
        self._apis.clear()

    def lockfile(self, lock_path: str) -> Lockfile:
        """Return a lockfile as it is now, read again after a change. Raises LockfileError."""
        path = self._files.get(lock_path)
        if path is None:
            path = self._files[lock_path] = self.places.lockfile(lock_path)
        try:
            stamp = file_stamp(str(path))
        except FileNotFoundError:
            return Lockfile(self.name)
        known = self._lockfiles.get(lock_path)
        if known is None or known[0] != stamp:
            known = (stamp, parse(self._read(lock_path), self.places.shown(path), self.name))
            self._lockfiles[lock_path] = known
        return known[1]

    def _read(self, lock_path: str) -> bytes:
        shown = self.places.shown(self.places.lockfile(lock_path))
        try:
            return read_inside(self.places.files, lock_path, LOCKFILE_BYTES)
        except OSError as error:
            raise disk_error(OSError(error.errno, error.strerror, shown)) from error

    def lock_paths(self) -> tuple[str, ...]:
        """Return all lockfiles as of the last `look_again`, even without a spec."""
        return self._index().paths

    def look_again(self) -> None:
        """Look again for lockfiles and their jobs, when next needed."""
        self._others = None

    def _index(self) -> LockfileIndex:
        if self._others is None:
            folders = {"specs", *(str(PurePosixPath(job.lock_path).parent) for job in self.project.jobs)}
            found = {
                path.relative_to(self.places.files).as_posix()
                for folder in folders
                for path in (self.places.files / folder).rglob("*.lock")
                if path.is_file()
            }
            self._others = LockfileIndex(found)
        return self._others

    def _mentioning(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the lockfiles with a batch or an output of these jobs."""
        index = self._index()
        if not index.indexed:
            for path in index.paths:
                index.add(path, self.lockfile(path))
            index.indexed = True
        return index.mentioning(names)

    def batches_in_other_lockfiles(self, spec: JobSpec, names: Sequence[str], realm: str) -> tuple[BatchLine, ...]:
        """Return batches from before the spec moved to another file."""
        wanted = frozenset(names)
        return tuple(
            line
            for path in self._mentioning(names)
            if path != spec.lock_path
            for line in self.lockfile(path).batches.values()
            if line.job in wanted and line.realm == realm
        )

    def outputs_of(self, names: Sequence[str]) -> tuple[OutputLine, ...]:
        """Return these names' recorded outputs."""
        found = (self.lockfile(path).outputs.values() for path in self._mentioning(names))
        return tuple(line for lines in found for line in lines if line.job in names)

    def digest(self, path: Path) -> str:
        """Return a file's SHA-256. Reads it again only after it has changed. Raises OSError."""
        stamp = file_stamp(str(path))
        known = self._digests.get(path)
        if known is None or known[0] != stamp:
            known = self._digests[path] = stamp, sha256_file(path)
        return known[1]

    def errors_recorded(self, spec: JobSpec, line: OutputLine, digest: Callable[[Path], str] = sha256_file) -> bool:
        """Return whether the file of failed rows, if any, is as recorded."""
        path, said = spec.job.output.errors, line.errors
        if path is None:
            return True
        file = self.places.output(path)
        return said is not None and said.path == path and file.is_file() and digest(file) == said.digest

    def save_lockfile(self, lock_path: str, lockfile: Lockfile) -> None:
        """Write a lockfile if its bytes changed."""
        path = self.places.lockfile(lock_path)
        data = lockfile.text()
        if not holds(path, data):
            with atomic_write(path) as file:
                file.write(data)
                file.flush()
                stamp = file_stamp(file.fileno())
            # What was written is known, without reading it. A rename keeps the stamp.
            self._lockfiles[lock_path] = stamp, lockfile.referenced()
        if self._others is not None:
            self._others.add(lock_path, lockfile)


class LockfileIndex:
    """Which lockfiles mention which jobs. `indexed` once all `paths` were added."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.indexed = False
        self._paths = set(paths)
        self._by_job: dict[str, set[str]] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """All lockfiles, sorted."""
        return tuple(sorted(self._paths))

    def add(self, path: str, lockfile: Lockfile) -> None:
        """Add the jobs of a lockfile."""
        self._paths.add(path)
        for job in {line.job for lines in (lockfile.batches, lockfile.outputs) for line in lines.values()}:
            self._by_job.setdefault(job, set()).add(path)

    def mentioning(self, jobs: Iterable[str]) -> tuple[str, ...]:
        """Return the lockfiles that mention any of these jobs, sorted."""
        return tuple(sorted(set().union(*(self._by_job.get(job, ()) for job in jobs))))
