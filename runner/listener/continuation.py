"""Continues jobs as the last apply allowed: download, retry, submit remaining shards, write. Commits nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from runner.api import open_project
from runner.context import Context, Watcher
from runner.executor.apply import apply
from runner.executor.grant import remaining_limits
from runner.executor.in_flight import InFlightLimit
from runner.executor.outcome import Outcome, RenderedJob
from runner.jobspec.job_spec import JobSpec, Project
from runner.operations.closed_partitions import closed_partitions
from runner.operations.notifications import notify_end
from runner.reconciler.observe.observe import ApplyOptions, Resume
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Grant, Ledger
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine


@dataclass(frozen=True, slots=True)
class Continued:
    """How each address ended, and why others could not render. `closed` partitions need nothing."""

    outcomes: Mapping[str, Outcome]
    errors: Mapping[str, str]
    closed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What may be done for a job."""

    resume: Resume
    no_new: bool = False
    limits: PlanLimits | None = None
    override: str = ""


def continue_jobs(
    project: Project,
    addresses: Collection[str],
    environ: Mapping[str, str],
    watcher: Watcher,
    sleep: Callable[[float], None],
    workers: int | None,
) -> Continued:
    """Continue a project's jobs until nothing more can be done now. Raises BatchspecError, Interrupted."""
    specs = [job for job in project.jobs if job.address in addresses]
    recorder = _Recorder(watcher)
    with open_project(project, watcher=recorder, environ=environ, jobs=workers) as opened:
        context = opened.context
        context.sleep = sleep
        closed = frozenset(one.address for one in closed_partitions(context, specs, ApplyOptions()))
        jobs, errors = opened.prepare([spec for spec in specs if spec.address not in closed])
        groups: dict[tuple[Resume, bool], list[RenderedJob]] = {}
        limits: dict[str, PlanLimits] = {}
        for job in jobs:
            allowed = _allowed(context, job)
            groups.setdefault((allowed.resume, allowed.no_new), []).append(replace(job, override=allowed.override))
            if allowed.limits is not None:
                limits[job.desired.spec.address] = allowed.limits
        outcomes: dict[str, Outcome] = {}
        for (resume, no_new), group in groups.items():
            options = ApplyOptions(no_new=no_new, resume=resume)
            in_flight = _in_flight(context, {job.desired.spec.address for job in group})
            found = apply(context, group, options, limits, waiting=False, in_flight=in_flight)
            outcomes |= {outcome.address: outcome for outcome in found}
        ended = [one for one in outcomes.values() if one.address in recorder.written]
        notify_end(context, ended, recorder.written, {})
        return Continued(outcomes, {address: error.coded() for address, error in errors.items()}, closed)


class _Recorder:
    """A watcher that also keeps which jobs got an output."""

    def __init__(self, watcher: Watcher) -> None:
        self.written: set[str] = set()
        self._watcher = watcher
        self.progress = watcher.progress

    def event(self, name: str, **fields: object) -> None:
        if name == "output.written":
            self.written.add(str(fields["job"]))
        self._watcher.event(name, **fields)


def _allowed(context: Context, job: RenderedJob) -> _Allowed:
    """Return what a job's last apply allows, if it submitted requests of these pins."""
    spec, pins = job.desired.spec, job.pins.pins
    lockfile = context.lockfile(spec.lock_path)
    grant, limits = _grant(context, spec, lockfile)
    if grant is None:
        known = lockfile.pins_of(spec.address)
        return _Allowed(Resume.WRITE if known is not None and known.pins == pins else Resume.DOWNLOAD)
    if limits is None and any(line.pins == pins for line in lockfile.batches.values()):
        limits = PlanLimits(grant.requests, grant.retries, grant.in_flight, grant.rounds)
    if grant.pins != pins or limits is None:
        return _Allowed(Resume.DOWNLOAD)
    return _Allowed(Resume.SUBMIT, grant.requests == 0, limits, grant.override)


def _grant(context: Context, spec: JobSpec, lockfile: Lockfile) -> tuple[Grant | None, PlanLimits | None]:
    if not context.places.ledger.exists():
        return None, None
    ledger = Ledger(context.places.ledger)
    try:
        grant = ledger.grant_of(context.realm(spec).name, spec.address)
        if grant is None:
            return None, None
        recorded = {line.request_id for line in lockfile.batches.values()}
        return grant, remaining_limits(ledger, grant, recorded)
    finally:
        ledger.close()


def _in_flight(context: Context, own: Collection[str]) -> InFlightLimit:
    limit = InFlightLimit(context.project.settings.max_in_flight)
    if context.project.settings.max_in_flight is None:
        return limit
    others: dict[str, list[BatchLine]] = {}
    for path in context.lock_paths():
        for line in context.lockfile(path).batches.values():
            if line.job not in own:
                others.setdefault(line.job, []).append(line)
    for address, lines in others.items():
        limit.set_recorded(address, lines)
    return limit
