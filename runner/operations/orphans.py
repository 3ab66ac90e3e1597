"""Orphans: jobs in the lockfiles that no spec defines any more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from runner.context import Context, Profile
from runner.errors import BatchspecError, Conflict, NotFound, ProviderError, TrustError
from runner.executor.fetch import fetch_batch
from runner.jobspec.loader import JobSpec
from runner.providers.protocol import BatchApi, RemoteBatch
from runner.reconciler.observe.batches import ended_line, mark_results_gone, moment_of
from runner.reconciler.observe.consistency import may_lag
from runner.reconciler.plan.job_estimate import with_cost
from runner.reconciler.plan.plan import Orphan
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, PinsLine
from runner.state.locks import write_lock
from runner.state.results import CustomIdMap

CANCEL_POLLS = 30
"""Polls of a cancelled batch, one a second."""


def find_orphans(context: Context, *, ask: bool, prune: bool) -> tuple[Orphan, ...]:
    """Return the orphans. With `ask`, ask the service which batches run.

    All specs must be loaded; otherwise jobs of unread files look like orphans.
    """
    found = []
    live = _live(context)
    for path in context.lock_paths():
        lockfile = context.lockfile(path)
        for address in _without_a_spec(context, lockfile, live):
            names = frozenset(lockfile.aliases(address))
            lines = [line for line in lockfile.batches.values() if line.job in names]
            for realm in sorted({line.realm for line in lines}):
                here = [line for line in lines if line.realm == realm]
                opened = [line for line in here if not (line.ended or line.gone)]
                running = tuple(line.batch for line in opened if _runs(context, line, ask=ask))
                over = tuple(line.batch for line in opened if line.batch not in running)
                orphan = Orphan(address, realm, path, running, len(here) - len(opened), over=over)
                found.append(replace(orphan, cancel=running, fetch=over) if prune else orphan)
    return tuple(orphan for orphan in found if orphan.running or orphan.over)


def renamed_note(context: Context, spec: JobSpec, pins: PinsLine, realm: str) -> str:
    """Return a note if a job that was never applied may be an orphan with a new name; else "".

    It has batches in this realm, and the same lockfile or input; or fewer matrix axes. All specs must be loaded.
    """
    if {spec.address, spec.moved_from} & context.lockfile(spec.lock_path).current.keys():
        return ""
    files = {path: context.lockfile(path) for path in (spec.lock_path, *context.lock_paths())}
    known = {address for lockfile in files.values() for address in lockfile.addresses()}
    if known.intersection({spec.address, spec.moved_from}):
        return ""
    live = _live(context)
    for path, lockfile in files.items():
        orphaned = [
            address for address in _without_a_spec(context, lockfile, live) if lockfile.batches_of(address, realm)
        ]
        found = _renamed(spec, pins, lockfile, orphaned, near=path == spec.lock_path)
        if found:
            shown = context.places.shown(context.places.lockfile(path))
            names, advice = found
            return (
                f"{shown} has {', '.join(names)}, which no spec has now; if this is that job {advice}: its answers are "
                "then used, and not paid again"
            )
    return ""


def _renamed(
    spec: JobSpec, pins: PinsLine, lockfile: Lockfile, orphaned: Sequence[str], *, near: bool
) -> tuple[list[str], str] | None:
    name, bracket = spec.job.name, spec.address[len(spec.job.name) :]
    same = [address for address in orphaned if address.partition("[")[0] + bracket == address]
    if not near:
        same = [a for a in same if (old := lockfile.pins_of(a)) is not None and old.input == pins.input]
    if same:
        names = [address.partition("[")[0] for address in same]
        return same, f"renamed, write `moved: {{from: {names[0] if len(names) == 1 else 'NAME'}}}`"
    values = _values(spec.address)
    for address in orphaned:
        fewer, old = _values(address), lockfile.pins_of(address)
        if address.partition("[")[0] != name or not fewer.items() < values.items() or old is None:
            continue
        if (old.model, old.parameters) == (pins.model, pins.parameters):
            added = ", ".join(f"{axis}: {value}" for axis, value in values.items() if axis not in fewer)
            return [address], f"with fewer axes, write `moved: {{from: {name}, added: {{{added}}}}}`"
    return None


def _values(address: str) -> dict[str, str]:
    inside = address.partition("[")[2].removesuffix("]")
    return dict(part.split("=", 1) for part in inside.split(",") if "=" in part)


def _live(context: Context) -> frozenset[str]:
    return frozenset(name for job in context.project.jobs for name in context.names(job))


def _without_a_spec(context: Context, lockfile: Lockfile, live: Collection[str]) -> Iterator[str]:
    # Other partitions of a job are not orphans.
    for address in lockfile.addresses():
        if address not in live and address.partition("[")[0] not in context.project.partitioned:
            yield address


def prune(context: Context, orphans: Collection[Orphan]) -> tuple[str, ...]:
    """Cancel the plan's batches, keep their answers and record their ends. Return the problems."""
    problems = []
    for orphan in orphans:
        profile = context.profile_of(orphan.realm)
        if profile is None:
            problems.append(f"{orphan.address}: no profile in batchspec.yaml is {orphan.realm}")
            continue
        for batch in (*orphan.cancel, *orphan.fetch):
            try:
                with write_lock(context.places.lock(orphan.lock_path)):
                    act = _cancel_and_wait if batch in orphan.cancel else _fetch_ended
                    act(context, profile, orphan, batch)
            except BatchspecError as error:
                hint = error.hint or f"`batchspec cancel {orphan.address}` looks again"
                problems.append(f"{orphan.address}: batch {batch}: {error.message}\n    {hint}")
    return tuple(problems)


def _runs(context: Context, line: BatchLine, *, ask: bool) -> bool:
    profile = context.profile_of(line.realm)
    if not ask or profile is None:
        return True
    try:
        return not context.api_of(profile).get_batch(line.batch).ended
    except NotFound:
        return False
    except (ProviderError, TrustError):  # no answer, or no key to ask with
        return True


def _cancel_and_wait(context: Context, profile: Profile, orphan: Orphan, batch: str) -> None:
    api = context.api_of(profile)
    remote, refusal = _cancelled(context, api, orphan, batch)
    for _ in range(CANCEL_POLLS):
        if remote.ended:
            break
        context.sleep(1.0)
        remote, refusal = _cancelled(context, api, orphan, batch) if refusal else (api.get_batch(batch), "")
    if not remote.ended:
        why = f"the service does not cancel it ({refusal})" if refusal else "it is cancelled and has not ended yet"
        raise BatchspecError(
            f"{why}: it is {remote.status}, runs on, and what it answers is billed",
            hint=f"`batchspec cancel {orphan.address}` tries again and looks how it ended",
            code="BS807",
        )
    _record_end(context, profile, orphan.lock_path, remote)


def _cancelled(context: Context, api: BatchApi, orphan: Orphan, batch: str) -> tuple[RemoteBatch, str]:
    try:
        remote = api.cancel_batch(batch)
    except Conflict as conflict:
        remote = api.get_batch(batch)  # it has ended, is about to, or can't be cancelled yet
        return remote, "" if remote.ended or remote.status == "cancelling" else conflict.message
    context.watcher.event("batch.cancelled", job=orphan.address, batch=batch, state=remote.status)
    return remote, ""


def _fetch_ended(context: Context, profile: Profile, orphan: Orphan, batch: str) -> None:
    try:
        remote = context.api_of(profile).get_batch(batch)
    except NotFound:
        lockfile = context.lockfile(orphan.lock_path)
        line = lockfile.batches[batch]
        if may_lag(profile.kind, moment_of(line.created_at), context.now()):
            raise
        context.save_lockfile(orphan.lock_path, lockfile.with_batches([mark_results_gone(line, None)]))
    else:
        _record_end(context, profile, orphan.lock_path, remote)


def _record_end(context: Context, profile: Profile, lock_path: str, remote: RemoteBatch) -> None:
    lockfile = context.lockfile(lock_path)
    line = lockfile.batches[remote.batch_id]
    store = context.realm_called(line.realm).results
    mapping = CustomIdMap(None, store.imported_ids(remote.batch_id))
    try:
        index = fetch_batch(context, profile, store, remote, mapping, ended_by=moment_of(line.created_at))
    except NotFound:
        line = mark_results_gone(line, remote)
    else:
        made = lockfile.pins.get(line.pins or "") or lockfile.pins_of(line.job)
        line = with_cost(ended_line(line, remote, index), made, None, context.project.settings)
    context.save_lockfile(lock_path, lockfile.with_batches([line]))
