"""Collect one job's batches from lockfile, ledger and the service's list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

import numpy as np
import numpy.typing as npt

from runner.base.retryable import is_queue_full
from runner.context import Context, Realm
from runner.errors import NotFound
from runner.jobspec.loader import JobSpec
from runner.providers.protocol import BatchApi, Counts, RemoteBatch
from runner.reconciler.observe.consistency import may_lag
from runner.reconciler.plan.idempotency import is_ours, matches_create, metadata
from runner.state.ledger import Create
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, CountsField, UsageField
from runner.state.results import ResultIndex
from runner.state.sorted_file import SortedFile

RESULTS_KEPT = timedelta(days=14)
"""Shortest time that the service keeps results (the vendor's guide: 14 to 30 days after the end)."""


class ResultState(Enum):
    """What the store has of a batch's results."""

    PRESENT = "all that the service counts"
    INCOMPLETE = "fewer answers than the service counts, or a file and its lines are missing"
    NOT_FETCHED = "nothing yet"
    MISSING_AT_SERVICE = "nothing, and the service does not have them"


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Everything known here of one batch.

    remote: None if the service was not asked or does not have it. `forgotten`: it has no batch or no results.
    adopted: no lockfile of the job has it yet.
    """

    line: BatchLine
    remote: RemoteBatch | None
    forgotten: bool
    adopted: bool
    index: ResultIndex | None
    keys: SortedFile | None

    def sent_keys(self) -> npt.NDArray[np.bytes_] | None:
        """Read its shard's sorted keys, or None. Raises StoreError."""
        return None if self.keys is None else self.keys.all()

    @property
    def missing_at_service(self) -> bool:
        """Whether the service no longer has the batch or its results.

        Another account's key may be the cause, so a listed batch is tried again.
        """
        return self.forgotten or (self.line.gone and self.index is None and self.remote is None)

    @property
    def results(self) -> ResultState:
        """What the store has of its results."""
        if self.index is None:
            return ResultState.MISSING_AT_SERVICE if self.missing_at_service else ResultState.NOT_FETCHED
        summary, counts = self.index.summary, self._counts
        counted = counts.completed + counts.failed if counts is not None and summary.partial else 0
        incomplete = summary.delivered < (self.completed or 0) or summary.lines < counted
        return ResultState.INCOMPLETE if incomplete else ResultState.PRESENT

    @property
    def ended(self) -> bool:
        """Whether it has ended, or is lost."""
        return self.missing_at_service or self.line.ended or (self.remote is not None and self.remote.ended)

    @property
    def state(self) -> str:
        """The newest known state."""
        if self.missing_at_service:
            return "gone"
        return self.line.state if self.line.ended or self.remote is None else self.remote.status

    @property
    def refused(self) -> bool:
        """Whether a full queue refused it: nothing was billed."""
        if self.index is None or self.state != "failed" or self.completed:
            return False
        summary, usage = self.index.summary, self.line.usage
        billed = usage is not None and (usage.input_tokens or usage.output_tokens)
        reasons = list(zip(summary.failure_codes, summary.failure, strict=False))
        if not reasons or summary.lines or any(summary.tokens) or billed:
            return False
        return all(is_queue_full(*reason, of_batch=True) for reason in reasons)

    @property
    def _counts(self) -> Counts | CountsField | None:
        if self.line.counts is not None:
            return self.line.counts
        return self.remote.counts if self.remote is not None and self.remote.ended else None

    @property
    def kept_until(self) -> datetime | None:
        """When the service may first delete its results."""
        start = self.line.ended_at or (timestamp(self.remote.ended_at) if self.remote else "") or self.line.created_at
        moment = moment_of(start)
        return moment + RESULTS_KEPT if moment else None

    @property
    def completed(self) -> int | None:
        """Requests answered, by the service's count, or None. Counts may lag in a completed batch."""
        counts = self._counts
        if counts is None:
            return None
        if self.state != "completed":
            return counts.completed
        refused = self.index.summary.failures - self.index.summary.empty if self.index is not None else 0
        failed = max(counts.failed, refused)
        return max(counts.completed, self.line.requests - failed)


def collect_batches(
    context: Context,
    spec: JobSpec,
    lockfile: Lockfile,
    creates: Sequence[Create],
    listed: Mapping[str, RemoteBatch] | None,
    api: BatchApi | None,
) -> tuple[BatchRecord, ...]:
    """Return a job's batches ordered by (created_at, batch id), which decides between two answers.

    listed, api: None if the service is not asked. Raises ProviderError.
    """
    realm, names = context.realm(spec), context.names(spec)
    found: dict[str, BatchRecord] = {}

    def add(line: BatchLine, *, adopted: bool, create: Create | None = None) -> None:
        if line.batch not in found:
            moment = create.at if create else moment_of(line.created_at)
            remote, gone = _remote(line, listed, api, lags=may_lag(spec.profile.kind, moment, context.now()))
            if remote is not None and create is not None:
                line = with_created_at(line, remote)
            found[line.batch] = _record(realm, line, remote, gone, adopted=adopted)

    for line in lockfile.batches_of(spec.address, realm.name):
        add(line, adopted=False)
    for line in context.batches_in_other_lockfiles(spec, names, realm.name):
        add(line, adopted=True)
    for remote in (listed or {}).values():
        if remote.batch_id not in found and (owner := _owner(context.name, names, creates, remote)):
            line = to_lockfile_line(remote, owner[0], realm.name, owner[1])
            found[line.batch] = _record(realm, line, remote, gone=False, adopted=True)
    for create in creates:
        if create.batch_id is not None:
            add(_line_of_create(create), adopted=True, create=create)
    return tuple(sorted(found.values(), key=lambda record: (record.line.created_at, record.line.batch)))


def _owner(
    project: str, names: Sequence[str], creates: Sequence[Create], remote: RemoteBatch
) -> tuple[str, Create | None] | None:
    create = next((create for create in creates if _made(project, create, remote)), None)
    if create is not None:
        return create.address, create
    name = next((n for n in names if is_ours(project, n, remote.request_id, remote.metadata)), None)
    return None if name is None else (name, None)


def latest_run(known: Sequence[BatchRecord]) -> tuple[BatchRecord, ...]:
    """Return all batches in flight, and those with the newest one's pins.

    Adopted and imported batches have no pins.
    """
    if not known:
        return ()
    pins = known[-1].line.pins
    last = next((number for number, one in enumerate(reversed(known)) if one.line.pins), len(known))
    return tuple(
        one
        for number, one in enumerate(known)
        if not one.ended or (one.line.pins == pins if pins else number >= len(known) - last)
    )


def unconfirmed_creates(creates: Iterable[Create], batches: Iterable[BatchRecord]) -> tuple[Create, ...]:
    """Return sent creates without a known batch."""
    seen = {known.line.request_id or known.line.file for known in batches}
    return tuple(
        create for create in creates if create.state == "intended" and not {create.request_id, create.file_id} & seen
    )


def _made(project: str, create: Create, remote: RemoteBatch) -> bool:
    if create.batch_id is not None:
        return create.batch_id == remote.batch_id
    sent = metadata(project, create.address, create.shard, create.attempt, create.round)
    same = matches_create(remote.metadata, remote.request_id, create.request_id, sent)
    if same is not None:
        return same
    return bool(remote.file_id) and remote.file_id == create.file_id and remote.counts.total in (0, create.requests)


def to_lockfile_line(remote: RemoteBatch, address: str, realm: str, create: Create | None) -> BatchLine:
    """Return a new or adopted batch's line, in state `submitted`."""
    labels = remote.metadata
    shard = create.shard if create else labels.get("shard")
    return BatchLine(
        batch=remote.batch_id,
        job=address,
        realm=realm,
        shard=shard if shard and _is_digest(shard) else None,
        requests=create.requests if create else remote.counts.total,
        bytes=create.bytes if create else None,
        attempt=create.attempt if create else _number(labels.get("attempt")),
        round=create.round if create else _number(labels.get("round")),
        request_id=remote.request_id or (create.request_id if create else ""),
        file=remote.file_id,
        created_at=timestamp(remote.created_at),
        pins=None,
        state="submitted",
    )


def ended_line(line: BatchLine, remote: RemoteBatch, index: ResultIndex) -> BatchLine:
    """Return the line of an ended, indexed batch."""
    summary, usage = index.summary, remote.usage
    counted = (usage.input_tokens, usage.output_tokens, usage.cached_tokens) if usage else summary.tokens
    state = remote.status
    if state not in {"completed", "failed", "expired", "cancelled"}:
        raise ValueError(f"{state} is not how a batch ends")
    results = {"output": summary.output_digest, "errors": summary.error_digest}
    return line.model_copy(
        update={
            "state": state,
            "requests": line.requests or remote.counts.total,
            "ended_at": timestamp(remote.ended_at),
            "counts": _counts(remote),
            "usage": UsageField(
                input_tokens=counted[0],
                output_tokens=counted[1],
                cached_tokens=counted[2],
                cache_write_tokens=summary.written[0],
                cache_write_1h_tokens=summary.written[1],
            ),
            "models": summary.models,
            "results": {name: digest for name, digest in results.items() if digest},
            "gone": False,
        }
    )


def mark_results_gone(line: BatchLine, remote: RemoteBatch | None) -> BatchLine:
    """Return the line of a batch that lost its results."""
    fields: dict[str, object] = {"gone": True}
    if not line.ended and remote is not None and remote.ended:
        fields |= {"state": remote.status, "ended_at": timestamp(remote.ended_at), "counts": _counts(remote)}
    return line.model_copy(update=fields)


def _counts(remote: RemoteBatch) -> CountsField:
    return CountsField(total=remote.counts.total, completed=remote.counts.completed, failed=remote.counts.failed)


def with_created_at(line: BatchLine, remote: RemoteBatch) -> BatchLine:
    """Take over the service's creation time."""
    return line.model_copy(update={"created_at": timestamp(remote.created_at), "file": remote.file_id or line.file})


def timestamp(moment: datetime | None) -> str:
    """Return a lockfile's time in UTC, if known."""
    if moment is None:
        return ""
    text = moment.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def _remote(
    line: BatchLine, listed: Mapping[str, RemoteBatch] | None, api: BatchApi | None, *, lags: bool
) -> tuple[RemoteBatch | None, bool]:
    """Return the batch, and whether it is lost. If `lags`, "not found" proves nothing."""
    if listed is None or api is None or line.ended:
        return (listed or {}).get(line.batch), False
    if line.batch in listed:
        return listed[line.batch], False
    try:
        return api.get_batch(line.batch), False
    except NotFound:
        return None, not lags


def _record(realm: Realm, line: BatchLine, remote: RemoteBatch | None, gone: bool, *, adopted: bool) -> BatchRecord:
    if line.gone and not line.ended and remote is not None:
        line = line.model_copy(update={"gone": False})  # the service has it after all
    keys = realm.keys.load(line.shard) if line.shard else None
    return BatchRecord(line, remote, gone, adopted, realm.results.load(line.batch), keys)


def _line_of_create(create: Create) -> BatchLine:
    assert create.batch_id is not None
    return BatchLine(
        batch=create.batch_id,
        job=create.address,
        realm=create.realm,
        shard=create.shard,
        requests=create.requests,
        bytes=create.bytes,
        attempt=create.attempt,
        round=create.round,
        request_id=create.request_id,
        file=create.file_id,
        created_at="",
        pins=None,
        state="submitted",
    )


def moment_of(text: str) -> datetime | None:
    """Parse a lockfile's time; None if invalid."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000 else 1
