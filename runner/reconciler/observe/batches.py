"""The batches of one address: lockfile, ledger and the service's list brought together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from runner.base.retryable import is_queue_full
from runner.context import Realm
from runner.errors import NotFound
from runner.outputs.index import restore
from runner.providers.protocol import BatchApi, Counts, RemoteBatch
from runner.reconciler.plan.idempotency import is_ours, matches_create, metadata
from runner.state.ledger import Create
from runner.state.lockfile_lines import BatchLine, CountsField, UsageField
from runner.state.results import CustomIdMap, ResultIndex, load_keys, safe_name
from runner.state.sorted_file import SortedFile

RESULTS_KEPT = timedelta(days=14)
"""How long the service keeps results at least (the vendor's guide: 14 to 30 days after the job has ended)."""
RETENTION = timedelta(days=31)
"""How far back the service's list is read: results are kept for 30 days at most."""
OLD_ENOUGH = 10
"""Batches in a row that are older than that, after which no newer one is expected in the list."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch of an address with all that is known of it here.

    `line` is what the lockfile would say. `remote` is what the service says now, None where it was not asked or does
    not know the batch (`gone`). `adopted` where no lockfile has it yet. `index` is that of its results, where they are
    here; `keys` are its shard's, where that is known.
    """

    line: BatchLine
    remote: RemoteBatch | None
    gone: bool
    adopted: bool
    index: ResultIndex | None
    keys: SortedFile | None

    def sent(self) -> npt.NDArray[np.bytes_] | None:
        """The sorted keys of its shard, read now; None where they are not known. Raises StoreError."""
        return None if self.keys is None else self.keys.all()

    @property
    def ended(self) -> bool:
        """Whether the batch has ended, as far as is known. One that the service has forgotten has."""
        return self.gone or self.line.ended or (self.remote is not None and self.remote.ended)

    @property
    def state(self) -> str:
        """The newest state that is known."""
        if self.gone:
            return "gone"
        return self.line.state if self.line.ended or self.remote is None else self.remote.status

    @property
    def refused(self) -> bool:
        """Whether the account's queue was full: the batch failed as a whole, nothing ran and nothing was billed."""
        if self.index is None or self.state != "failed" or self.completed:
            return False
        summary, usage = self.index.summary, self.line.usage
        billed = usage is not None and (usage.input_tokens or usage.output_tokens)
        reasons = list(zip(summary.failure_codes, summary.failure, strict=False))
        if not reasons or summary.lines or any(summary.tokens) or billed:
            return False
        return all(is_queue_full(*reason, of_batch=True) for reason in reasons)

    @property
    def short(self) -> bool:
        """Whether its results are here and hold fewer answers than the service counts, or lack a file and its lines."""
        if self.index is None:
            return False
        summary, counts = self.index.summary, self._counts
        counted = counts.completed + counts.failed if counts is not None and summary.partial else 0
        return summary.delivered < (self.completed or 0) or summary.lines < counted

    @property
    def _counts(self) -> Counts | CountsField | None:
        """The service's counts of an ended batch; None where it has not said."""
        if self.line.counts is not None:
            return self.line.counts
        return self.remote.counts if self.remote is not None and self.remote.ended else None

    @property
    def kept_until(self) -> datetime | None:
        """Until when the service keeps its results at least; None where its times are not known."""
        start = self.line.ended_at or (timestamp(self.remote.ended_at) if self.remote else "") or self.line.created_at
        moment = moment_of(start)
        return moment + RESULTS_KEPT if moment else None

    @property
    def completed(self) -> int | None:
        """Requests that were answered, by the service's count; None where it has not said.

        In a completed batch each request was answered or failed, also where the service does not (yet) count them.
        """
        counts = self._counts
        if counts is None:
            return None
        if self.state != "completed":
            return counts.completed
        refused = self.index.summary.failures - self.index.summary.empty if self.index is not None else 0
        failed = max(counts.failed, refused)
        return max(counts.completed, self.line.requests - failed)


def list_back(api: BatchApi, now: datetime) -> dict[str, RemoteBatch]:
    """The service's batches by id, newest first, back over the time results are kept. Raises ProviderError."""
    return {batch.batch_id: batch for batch in newest_first(api, now)}


def newest_first(api: BatchApi, now: datetime) -> Iterator[RemoteBatch]:
    """The service's batches back over the time results are kept, its pages read as they are asked for.

    Old ones end it only where the list has kept to its order, and are old beside the newest one too, by the service's
    own clock: one that is missed could be paid for again.
    """
    ordered, before = True, datetime.max.replace(tzinfo=UTC)
    newest = datetime.min.replace(tzinfo=UTC)
    old = 0
    for batch in api.list_batches():
        made = batch.created_at or before
        ordered, before, newest = ordered and made <= before, made, max(newest, made)
        if made >= min(now, newest) - RETENTION:
            old = 0
            yield batch
        elif (old := old + 1) >= OLD_ENOUGH and ordered:
            return


def collect_batches(
    project: str,
    names: Sequence[str],
    realm: Realm,
    lines: Iterable[BatchLine],
    elsewhere: Iterable[BatchLine],
    creates: Sequence[Create],
    listed: Mapping[str, RemoteBatch] | None,
    api: BatchApi | None,
    is_new: IsRecent,
) -> tuple[BatchRecord, ...]:
    """All batches of an address, in the order (created_at, batch id), which decides between two answers.

    `names` are the address and its earlier names; `lines` are its lockfile's, `elsewhere` those of other lockfiles,
    `creates` what the ledger has. `listed` and `api` are None where the service is not asked. `is_new` says of a
    moment whether the service may not know yet what it did then. Raises ProviderError.
    """
    found: dict[str, BatchRecord] = {}
    here = _LocalResults(realm)
    for line in lines:
        remote, gone = _remote(line, listed, api, is_new)
        found[line.batch] = here.known(line, remote, gone, adopted=False)
    for line in elsewhere:
        if line.batch not in found:
            remote, gone = _remote(line, listed, api, is_new)
            found[line.batch] = here.known(line, remote, gone, adopted=True)
    for remote in (listed or {}).values():
        if remote.batch_id in found:
            continue
        create = next((create for create in creates if _made(project, create, remote)), None)
        whose = next((n for n in names if is_ours(project, n, remote.request_id, remote.metadata)), None)
        owner = create.address if create else whose
        if owner is not None:
            found[remote.batch_id] = here.known(
                to_lockfile_line(remote, owner, realm.name, create), remote, gone=False, adopted=True
            )
    for create in creates:
        if create.batch_id is not None and create.batch_id not in found:
            line = _line_of_create(create)
            remote, gone = _remote(line, listed, api, lambda _, at=create.at: is_new(at))  # type: ignore[misc]
            if remote is not None:
                line = with_created_at(line, remote)
            found[create.batch_id] = here.known(line, remote, gone, adopted=True)
    return tuple(sorted(found.values(), key=lambda k: (k.line.created_at, k.line.batch)))


def latest_run(known: Sequence[BatchRecord]) -> tuple[BatchRecord, ...]:
    """The batches under the newest one's pins, and all that run.

    Adopted and imported batches have none: then it is those that followed each other without pins.
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


IsRecent = Callable[[datetime | None], bool]
"""Whether a moment is so near that the service may not show everywhere yet what it did then."""


def unconfirmed_creates(creates: Iterable[Create], batches: Iterable[BatchRecord]) -> tuple[Create, ...]:
    """Creates that were sent, as far as the ledger knows, and of which no batch is to be seen."""
    seen = {known.line.request_id or known.line.file for known in batches}
    return tuple(
        create for create in creates if create.state == "intended" and not {create.request_id, create.file_id} & seen
    )


def _made(project: str, create: Create, remote: RemoteBatch) -> bool:
    """Whether a listed batch is what a create made: by key, else by metadata, else by its file."""
    if create.batch_id is not None:
        return create.batch_id == remote.batch_id
    said = metadata(project, create.address, create.shard, create.attempt, create.round)
    same = matches_create(remote.metadata, remote.request_id, create.request_id, said)
    if same is not None:
        return same
    return bool(remote.file_id) and remote.file_id == create.file_id and remote.counts.total in (0, create.requests)


def to_lockfile_line(remote: RemoteBatch, address: str, realm: str, create: Create | None) -> BatchLine:
    """The lockfile's line for a batch just created or adopted; still `submitted`, whatever the service says."""
    said = remote.metadata
    shard = create.shard if create else said.get("shard")
    return BatchLine(
        batch=remote.batch_id,
        job=address,
        realm=realm,
        shard=shard if shard and _is_digest(shard) else None,
        requests=create.requests if create else remote.counts.total,
        bytes=create.bytes if create else None,
        attempt=create.attempt if create else _number(said.get("attempt")),
        round=create.round if create else _number(said.get("round")),
        request_id=remote.request_id or (create.request_id if create else ""),
        file=remote.file_id,
        created_at=timestamp(remote.created_at),
        pins=None,
        state="submitted",
    )


def ended_line(line: BatchLine, remote: RemoteBatch, index: ResultIndex) -> BatchLine:
    """The lockfile's line once a batch has ended and its results are indexed."""
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
    """The lockfile's line once the service has said that it does not have the results any more."""
    fields: dict[str, object] = {"gone": True}
    if not line.ended and remote is not None and remote.ended:
        fields |= {"state": remote.status, "ended_at": timestamp(remote.ended_at), "counts": _counts(remote)}
    return line.model_copy(update=fields)


def _counts(remote: RemoteBatch) -> CountsField:
    return CountsField(total=remote.counts.total, completed=remote.counts.completed, failed=remote.counts.failed)


def with_created_at(line: BatchLine, remote: RemoteBatch) -> BatchLine:
    """A line made from the ledger, with the time the service says it was created."""
    return line.model_copy(update={"created_at": timestamp(remote.created_at), "file": remote.file_id or line.file})


def timestamp(moment: datetime | None) -> str:
    """A time as the lockfile writes it: UTC, to the microsecond where there is one, empty where it is not known."""
    if moment is None:
        return ""
    text = moment.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def _remote(
    line: BatchLine, listed: Mapping[str, RemoteBatch] | None, api: BatchApi | None, is_new: IsRecent
) -> tuple[RemoteBatch | None, bool]:
    """What the service says of a batch now, and whether it has said that it knows none."""
    if listed is None or api is None or line.ended:
        return (listed or {}).get(line.batch), False
    if line.batch in listed:
        return listed[line.batch], False
    try:
        return api.get_batch(line.batch), False
    except NotFound:
        return None, not is_new(moment_of(line.created_at))


class _LocalResults:
    """What the store holds of a realm. Its folders are listed once: most of a long history is in neither.

    Of what lies there without an index one is made: it may be all there is, and the service is asked for the rest.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._held = realm.results.indexed()
        self._lying = realm.results.with_files()
        self._shards = {path.name for path in realm.shards.glob("*.keys.npy")}

    def known(self, line: BatchLine, remote: RemoteBatch | None, gone: bool, *, adopted: bool) -> BatchRecord:
        """A batch with its index and its shard's keys, where they are here."""
        if line.gone and not line.ended and remote is not None:
            line = line.model_copy(update={"gone": False})  # the service knows it after all
        name = f"{line.shard}.keys.npy"
        keys = load_keys(self._realm.shards / name) if name in self._shards else None
        index = self._index(line.batch, remote, keys)
        # What was gone once may have been asked of another account: where the list shows it, it is looked for again.
        gone = gone or (line.gone and index is None and remote is None)
        return BatchRecord(line, remote, gone, adopted, index, keys)

    def _index(self, batch: str, remote: RemoteBatch | None, keys: SortedFile | None) -> ResultIndex | None:
        store, name = self._realm.results, safe_name(batch)
        index = store.load(batch) if name in self._held else None
        if index is not None or name not in self._lying:
            return index
        mapping = CustomIdMap(None if keys is None else keys.all(), store.imported_ids(batch))
        errors = remote.errors if remote is not None and remote.status == "failed" else ()
        return restore(store, batch, mapping, errors)


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
    """The time that a lockfile's text says; None where it says none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000 else 1
