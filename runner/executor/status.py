"""The state of a job's batches without rendering it, and cancelling one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from runner.digest import sha256_file
from runner.errors import Conflict
from runner.executor.batches import gather, list_back
from runner.executor.context import Context
from runner.executor.costs import expected, spent
from runner.providers.api import BatchApi, RemoteBatch
from runner.reconciler.lockfile import Lockfile
from runner.spec.load import JobSpec
from runner.store.ledger import Create, Ledger


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """One batch as status shows it. `adopted` where no lockfile has it yet; `cost` is USD, None where not known."""

    batch: str
    state: str
    ended: bool
    requests: int
    completed: int
    failed: int
    round: int
    adopted: bool
    cost: float | None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as status shows it; `output` is its path and a word on the file; `asked` whether the service was.

    `cost` is USD recorded for batches that have ended; `expected` is what was estimated for those same batches, where
    all of them have an estimate. None where nothing is recorded.
    """

    address: str
    realm: str
    batches: tuple[BatchStatus, ...]
    output: str
    asked: bool
    cost: float | None
    expected: float | None


class Lists:
    """Each service's list of batches, read once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lists: dict[int, dict[str, RemoteBatch]] = {}

    def of(self, api: BatchApi) -> dict[str, RemoteBatch]:
        """One service's batches, as far back as results are kept. Raises ProviderError."""
        if id(api) not in self._lists:
            self._lists[id(api)] = list_back(api, self._context.now())
        return self._lists[id(api)]


def job_status(context: Context, spec: JobSpec, lists: Lists | None) -> JobStatus:
    """A job's batches from lockfile, ledger and, with `lists`, the service. Raises BatchspecError."""
    realm = context.realm(spec)
    lockfile = context.lockfile(spec.lock_path)
    api = context.api(spec) if lists is not None else None
    listed = lists.of(api) if lists is not None and api is not None else None
    creates: tuple[Create, ...] = ()
    if context.places.ledger.exists():
        ledger = Ledger(context.places.ledger)
        try:
            creates = tuple(c for name in context.names(spec) for c in ledger.creates(realm.name, name))
        finally:
            ledger.close()
    lines = lockfile.of(spec.address, realm.name)
    names = context.names(spec)
    elsewhere = context.elsewhere(spec, names, realm.name)
    is_new = partial(context.is_new, spec.profile.kind)
    known = gather(context.name, names, realm, lines, elsewhere, creates, listed, api, is_new)
    batches = []
    for one in known:
        counts = one.line.counts or (one.remote.counts if one.remote else None)
        batches.append(
            BatchStatus(
                one.line.batch,
                one.state,
                one.ended,
                one.line.requests or (counts.total if counts else 0),
                counts.completed if counts else 0,
                counts.failed if counts else 0,
                one.line.round,
                one.adopted,
                one.line.cost,
            )
        )
    recorded = [one.line for one in known if one.line.cost is not None]
    came, foreseen = spent(recorded), expected(recorded)
    return JobStatus(
        spec.address,
        realm.name,
        tuple(batches),
        _output(context, spec, lockfile),
        api is not None,
        None if came is None else float(came),
        None if foreseen is None else float(foreseen),
    )


def _output(context: Context, spec: JobSpec, lockfile: Lockfile) -> str:
    path = context.places.output(spec.job.output.path)
    line = lockfile.outputs.get(spec.job.output.path)
    if not path.is_file():
        said = "not written"
    elif line is None or sha256_file(path) != line.digest:
        said = "not what the lockfile says; apply rewrites it"
    else:
        said = f"{line.rows:,} rows"
    return f"{spec.job.output.path}: {said}"


def cancel_batch(context: Context, spec: JobSpec, batch: str) -> str:
    """Ask the service to cancel a batch; returns what it said, in words. Raises ProviderError."""
    try:
        return context.api(spec).cancel_batch(batch).status
    except Conflict as conflict:
        return f"not cancelled: {conflict.message}"
