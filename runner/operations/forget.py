"""Forgets a job: removes its records from the lockfiles and the ledger."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from runner.context import Context
from runner.errors import BatchspecError
from runner.state.ledger import Create, Ledger
from runner.state.lockfile_lines import BatchLine
from runner.state.locks import write_lock
from runner.state.results import safe_name


@dataclass(frozen=True, slots=True)
class JobRecords:
    """A job's lockfiles and its batches there."""

    address: str
    paths: tuple[str, ...]
    lines: tuple[BatchLine, ...]

    @property
    def batches(self) -> frozenset[str]:
        """The batch ids."""
        return frozenset(line.batch for line in self.lines)


def find_records(context: Context, address: str) -> JobRecords:
    """Return a job's records. Raises BatchspecError without any, or if a batch runs."""
    holding = tuple(path for path in context.lock_paths() if address in context.lockfile(path).addresses())
    if not holding:
        known = sorted({name for path in context.lock_paths() for name in context.lockfile(path).addresses()})
        raise BatchspecError(
            f"no lockfile knows a job {address}",
            hint=f"the jobs they know: {', '.join(known)}" if known else "they know no job of this provider",
            code="BS806",
        )
    lines = tuple(line for path in holding for line in _lines(context, path, address))
    running = [line.batch for line in lines if not (line.ended or line.gone or _is_fetched(context, line))]
    if running:
        raise BatchspecError(
            f"{address} has a batch that runs, or that ended at the service and is not fetched yet: "
            f"{', '.join(running)}",
            hint="`batchspec apply` fetches it, `batchspec cancel` ends it while it runs, and if no spec has "
            "the job, `batchspec apply --prune`; forgetting it could pay for it twice",
            code="BS806",
        )
    return JobRecords(address, holding, lines)


def forget(context: Context, shown: JobRecords) -> None:
    """Forget the records that were `shown`. Raises BatchspecError, and forgets nothing, if they have changed.

    The ledger comes first: after a crash, records left only there would come back, and no command could remove them.
    """
    with ExitStack() as held:
        for path in shown.paths:
            held.enter_context(write_lock(context.places.lock(path)))
        now = find_records(context, shown.address)
        if (now.paths, now.batches) != (shown.paths, shown.batches):
            raise BatchspecError(
                f"{shown.address} has other batches by now than were shown",
                hint="nothing was forgotten; run it again and review the list",
                code="BS806",
            )
        if context.places.ledger.exists():
            ledger = Ledger(context.places.ledger)
            try:
                for path in shown.paths:
                    ledger.forget(_creates(context, ledger, path, shown.address))
            finally:
                ledger.close()
        for path in shown.paths:
            context.save_lockfile(path, context.lockfile(path).without(shown.address))


def _lines(context: Context, path: str, address: str) -> list[BatchLine]:
    lockfile = context.lockfile(path)
    names = frozenset(lockfile.aliases(address))
    return [line for line in lockfile.batches.values() if line.job in names]


def _creates(context: Context, ledger: Ledger, path: str, address: str) -> list[Create]:
    """Return a job's creates that were refused or have a line in the lockfile.

    One without a line stays in the ledger: its batch may be running and billed.
    """
    lines = _lines(context, path, address)
    known = {line.batch for line in lines} | {line.request_id or line.file for line in lines}
    creates = (one for name in context.lockfile(path).aliases(address) for one in ledger.creates(None, name))
    return [one for one in creates if one.state == "refused" or {one.batch_id, one.request_id, one.file_id} & known]


def _is_fetched(context: Context, line: BatchLine) -> bool:
    return safe_name(line.batch) in context.realm_called(line.realm).results.indexed()
