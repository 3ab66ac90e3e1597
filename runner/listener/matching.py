"""Which jobs an event is about."""

from __future__ import annotations

from collections.abc import Sequence

from runner.context import Context
from runner.jobspec.job_spec import JobSpec, Project
from runner.jobspec.realm import realm_name
from runner.listener.events import Event
from runner.state.ledger import Ledger
from runner.state.project_paths import ProjectPaths


class Matcher:
    """Finds addresses by ledger, lockfiles and batch metadata."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._paths = ProjectPaths.for_provider(project.root, project.settings.store, None)
        self._context = Context(project, self._paths)
        self._recorded: dict[tuple[str, str], str] | None = None

    def addresses(self, events: Sequence[Event]) -> dict[Event, frozenset[str]]:
        """Return each event's addresses, none for an unknown batch. Raises BatchspecError."""
        if not self._paths.ledger.exists():
            return {event: self._of(event, None) for event in events}
        ledger = Ledger(self._paths.ledger)
        try:
            return {event: self._of(event, ledger) for event in events}
        finally:
            ledger.close()

    def old_names(self, spec: JobSpec) -> tuple[str, ...]:
        """Return a job's former addresses."""
        return tuple(name for name in self._context.names(spec) if name != spec.address)

    def held_back(self) -> frozenset[str]:
        """Return started jobs that `max_in_flight` may hold back: the end of any batch makes room."""
        if self._project.settings.max_in_flight is None or not self._paths.ledger.exists():
            return frozenset()
        ledger = Ledger(self._paths.ledger)
        try:
            return ledger.held_back()
        finally:
            ledger.close()

    def _of(self, event: Event, ledger: Ledger | None) -> frozenset[str]:
        profile = self._project.settings.profile(event.profile)
        if profile is None:
            return frozenset()
        realm = realm_name(profile)
        created = None if ledger is None else ledger.address_of(realm, event.batch)
        address = created or self._locked().get((realm, event.batch))
        if address is not None:
            return frozenset({address})
        # The create that made the batch may not have got its response yet, or never got it.
        doubtful = frozenset[str]() if ledger is None else ledger.unconfirmed(realm)
        return doubtful | ({event.job} if event.job else frozenset())

    def _locked(self) -> dict[tuple[str, str], str]:
        if self._recorded is None:
            self._recorded = {}
            for path in self._context.lock_paths():
                lockfile = self._context.lockfile(path)
                self._recorded |= {(line.realm, batch): line.job for batch, line in lockfile.batches.items()}
        return self._recorded
