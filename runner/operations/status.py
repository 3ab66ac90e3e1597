"""Reports a job's batches without rendering it, and cancels a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from runner.base.digest import sha256_file
from runner.base.humanize import counted
from runner.context import Context
from runner.errors import BatchspecError, Conflict, RateLimited, ServerError, Unreachable
from runner.executor.creates import creates_of
from runner.executor.observe_job import rebuild_missing
from runner.jobspec.loader import JobSpec
from runner.jobspec.trust import KEY_NAMES
from runner.outputs.failure_counts import Failed, failed_of
from runner.reconciler.observe.batch_errors import causes
from runner.reconciler.observe.batch_list import BatchListCache
from runner.reconciler.observe.batches import BatchRecord, collect_batches, latest_run
from runner.reconciler.plan.job_estimate import planned, spent, with_cost
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, CountsField, UsageField


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """One batch. `adopted` if the lockfile has no line of it; `cost` in USD."""

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
class Tokens:
    """Tokens of the ended batches: counted and estimated."""

    input: int
    output: int
    expected_input: int | None
    expected_output: int | None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job. None means unknown.

    `requests`, `answered` and `failed` cover the whole output once it is written, until then the newest run. If only a
    canary ran, `requests` is the number of input rows.

    `rate` is requests a minute; `left` is seconds. `tokens` and `cost` (USD) cover all batches. `expected` (USD) is the
    estimate for batches with a recorded cost, an upper limit if `at_most`.

    If the service was not `asked`, `error` is its failure (`passing`: transient), `not_asked` the missing key, and
    `since` the time of the newest recorded fact. `failures` are causes of failed batches.
    """

    address: str
    realm: str
    state: str
    requests: int
    answered: int
    failed: int
    rate: float | None
    left: float | None
    batches: tuple[BatchStatus, ...]
    output: str
    asked: bool
    tokens: Tokens | None
    cost: float | None
    expected: float | None
    error: str = ""
    passing: bool = False
    at_most: bool = False
    failures: tuple[str, ...] = ()
    not_asked: str = ""
    since: str = ""

    @property
    def running(self) -> bool:
        """Whether a batch has not ended."""
        return any(not batch.ended for batch in self.batches)


def job_status(context: Context, spec: JobSpec, lists: BatchListCache | None) -> JobStatus:
    """Return a job's status; asks the service if `lists` is given. Raises BatchspecError."""
    known = _gather(context, spec, lists)
    return _status(context, spec, known, asked=lists is not None)


def status_or_reason(context: Context, spec: JobSpec, lists: BatchListCache | None) -> JobStatus:
    """Return a job's status; if the service can't be asked, the recorded one and why. Raises LockfileError."""
    if lists is not None and not context.has_key(spec):
        return replace(job_status(context, spec, None), not_asked=without_key(spec))
    try:
        return job_status(context, spec, lists)
    except BatchspecError as error:
        passing = isinstance(error, (Unreachable, ServerError, RateLimited))
        return _status(context, spec, _gather(context, spec, None), error=error.message, passing=passing)


def without_key(spec: JobSpec) -> str:
    """Return why the service can't be asked."""
    if spec.profile.kind == "local":
        return "the local service can't be started, because the project's store can't be written"
    name = spec.profile.key.env if spec.profile.key is not None else KEY_NAMES[0]
    return f"the environment has no {name}"


def _gather(context: Context, spec: JobSpec, lists: BatchListCache | None) -> tuple[BatchRecord, ...]:
    realm = context.realm(spec)
    lockfile = context.lockfile(spec.lock_path)
    api = context.api(spec) if lists is not None else None
    listed = lists.of(api) if lists is not None and api is not None else None
    creates = creates_of(context, spec)
    return rebuild_missing(realm, collect_batches(context, spec, lockfile, creates, listed, api))


def _status(
    context: Context,
    spec: JobSpec,
    known: Sequence[BatchRecord],
    *,
    asked: bool = False,
    error: str = "",
    passing: bool = False,
) -> JobStatus:
    known = sorted(known, key=lambda one: (one.line.created_at, one.line.round, one.line.batch))
    lockfile = context.lockfile(spec.lock_path)
    lines = {one.line.batch: _priced(context, spec, lockfile, one) for one in known}
    run = latest_run(known)
    requests = _asked_first(run)
    answered = sum(_counts(one).completed for one in run)
    in_flight = [one for one in run if not one.ended]
    pending = sum(_requests(one) - _counts(one).completed - _counts(one).failed for one in in_flight)
    rate, left = throughput(in_flight, pending, context.now())
    foreseen, at_most = planned(lockfile, [one.line for one in known if one.line.cost is not None])
    output, failures = _output(context, spec, lockfile)
    unanswered = max(0, requests - answered - pending)
    rows = _rows_beyond_canary(lockfile, run) if failures is None else 0
    if failures is None or in_flight:
        shown = (max(requests, rows), min(answered, requests), unanswered)
    else:
        # An output without errors does not show what failed; use the batches.
        failed = failures.failed if failures.has_errors else unanswered
        whole = failures.requests or max(lockfile.outputs[spec.job.output.path].rows, failed)
        shown = (whole, whole - failed, failed)
    return JobStatus(
        spec.address,
        context.realm(spec).name,
        _state(known, run, failures, stopped=bool(rows)),
        *shown,
        rate,
        left,
        tuple(_batch(one, lines[one.line.batch]) for one in known),
        output,
        asked,
        _tokens([one.line for one in known]),
        _usd(spent(list(lines.values()))),
        _usd(foreseen),
        error,
        passing,
        at_most,
        causes(known),
        since="" if asked else _newest_fact(known),
    )


def _newest_fact(known: Sequence[BatchRecord]) -> str:
    moments = [text for one in known for text in (one.line.created_at, one.line.ended_at) if text]
    return max(moments, default="")


def _rows_beyond_canary(lockfile: Lockfile, run: Sequence[BatchRecord]) -> int:
    pins = lockfile.pins.get(run[-1].line.pins or "") if run else None
    return pins.rows if pins is not None and all(one.line.canary and one.ended for one in run) else 0


def _asked_first(run: Sequence[BatchRecord]) -> int:
    first = min((one.line.round for one in run), default=1)
    return sum(_requests(one) for one in run if one.line.round == first)


def _counts(one: BatchRecord) -> CountsField:
    counts = one.line.counts or (one.remote.counts if one.remote else None)
    if counts is None:
        return CountsField(total=0, completed=0, failed=0)
    return CountsField(total=counts.total, completed=counts.completed, failed=counts.failed)


def _requests(one: BatchRecord) -> int:
    return one.line.requests or _counts(one).total


def _batch(one: BatchRecord, priced: BatchLine) -> BatchStatus:
    counts = _counts(one)
    return BatchStatus(
        one.line.batch,
        one.state,
        one.ended,
        _requests(one),
        counts.completed,
        counts.failed,
        one.line.round,
        one.adopted,
        priced.cost,
    )


def _priced(context: Context, spec: JobSpec, lockfile: Lockfile, one: BatchRecord) -> BatchLine:
    if one.line.cost is not None or one.remote is None or one.remote.usage is None:
        return one.line
    used = one.remote.usage
    usage = UsageField(
        input_tokens=used.input_tokens, output_tokens=used.output_tokens, cached_tokens=used.cached_tokens
    )
    line = one.line.model_copy(update={"usage": usage, "counts": _counts(one)})
    return with_cost(line, lockfile.pins.get(line.pins or ""), spec.job, context.project.settings)


def throughput(in_flight: Sequence[BatchRecord], pending: int, now: datetime) -> tuple[float | None, float | None]:
    """Return requests a minute, and the seconds left."""
    starts = [
        one.remote.created_at for one in in_flight if one.remote is not None and one.remote.created_at is not None
    ]
    done = sum(_counts(one).completed + _counts(one).failed for one in in_flight)
    elapsed = (now - min(starts)).total_seconds() if starts else 0.0
    if not done or elapsed <= 0:
        return None, None
    return done / elapsed * 60, pending * elapsed / done


def _state(known: Sequence[BatchRecord], run: Sequence[BatchRecord], failures: Failed | None, *, stopped: bool) -> str:
    """Return the state. `failures` are the output's, None if it is not as recorded."""
    if not known:
        return "not started"
    running = Counter(one.state for one in run if not one.ended)
    if running:
        several = sum(running.values()) > 1
        return ", ".join(f"{count} {state}" if several else state for state, count in sorted(running.items()))
    if any(not one.line.ended for one in known):
        return "to fetch"
    if failures is None:
        return "stopped" if stopped else "unfinished"
    return "failed" if failures.beyond else "done" if failures.known else "written"


def _tokens(lines: Sequence[BatchLine]) -> Tokens | None:
    used = [(line.usage, line.estimate) for line in lines if line.usage is not None]
    if not used:
        return None
    outputs = [estimate.output_tokens if estimate else None for _, estimate in used]
    return Tokens(
        sum(usage.input_tokens for usage, _ in used),
        sum(usage.output_tokens for usage, _ in used),
        _sum([estimate.input_tokens if estimate else None for _, estimate in used]),
        _sum(outputs),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _usd(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _output(context: Context, spec: JobSpec, lockfile: Lockfile) -> tuple[str, Failed | None]:
    """Return the output's path and state; and its failures, None if it is not as recorded."""
    output = spec.job.output
    path = context.places.output(output.path)
    line, pins = lockfile.outputs.get(output.path), lockfile.pins_of(spec.address)
    shown = context.places.shown(path)
    if not path.is_file():
        return f"{shown}: not written", None
    if line is None or _digest_of(path) != line.digest:
        return f"{shown}: differs from the lockfile; apply rewrites it", None
    if not context.errors_recorded(spec, line, _digest_of):
        return f"{output.errors}: differs from the lockfile; apply rewrites it", None
    if pins is not None and line.pins not in {None, pins.pins}:
        return f"{shown}: {counted(line.rows, 'row')}, of an earlier run", None
    found = failed_of(spec, path, context.places.output(output.errors) if output.errors else None)
    unknown = "" if found.known else "; without `error` it does not show which answers fit the schema"
    return f"{shown}: {counted(line.rows, 'row')}{unknown}", found


def _digest_of(path: Path) -> str:
    return _digest(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=1_000)
def _digest(path: Path, _changed: int, _size: int) -> str:
    return sha256_file(path)


def cancel_batch(context: Context, spec: JobSpec, batch: str) -> str:
    """Ask the service to cancel a batch. Return its new state.

    Raises Conflict if the service refuses and the batch still runs, and ProviderError.
    """
    api = context.api(spec)
    try:
        return api.cancel_batch(batch).status
    except Conflict:
        remote = api.get_batch(batch)
        if not remote.ended and remote.status != "cancelling":
            raise
        return remote.status
