"""The table of jobs. A transition names its starting states, so of two threads only one succeeds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import orjson

from runner.service.config import ResultShape
from runner.service.db import outbox
from runner.service.db.database import Database
from runner.service.jobs.lines import Format, LineError, Provider

Status = Literal[
    "validating",
    "queued",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "cancelling",
    "cancelled",
    "expired",
]
STATUS_ORDER: tuple[str, ...] = get_args(Status)
STATUSES: frozenset[str] = frozenset(STATUS_ORDER)
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled", "expired"})
CANCELLABLE: tuple[Status, ...] = ("in_progress", "finalizing")
"""States with something to cancel upstream. Before them, the API description requires a 409."""

_CACHE_SIZE = 1000
"""Jobs cached in memory until the database changes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A job's requests and tokens so far."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


NOTHING_DONE = Progress()


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of `batches`. Times are Unix seconds; JSON columns are text.

    `default_model` is for lines without one; the API shows `model`.
    """

    seq: int
    id: str
    account: str
    request_id: str
    file_id: str
    blob: str
    digest: str
    provider: Provider
    endpoint: str | None
    model: str | None
    default_model: str | None
    parameters: str
    metadata: str | None
    webhook: str | None = field(repr=False)
    result_shape: ResultShape
    status: Status
    errors: str | None
    total: int
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    output_file_id: str | None
    error_file_id: str | None
    results_deleted: int
    created_at: float
    expires_at: float
    queued_at: float | None
    in_progress_at: float | None
    finalizing_at: float | None
    cancelling_at: float | None
    completed_at: float | None
    failed_at: float | None
    cancelled_at: float | None
    expired_at: float | None
    ended_at: float | None
    faults: str | None

    @property
    def active_faults(self) -> dict[str, str]:
        """Return the job's faults with their details."""
        return orjson.loads(self.faults) if self.faults else {}

    @property
    def format(self) -> Format:
        """Return the format of requests and answers."""
        return Format.of(self.provider, self.endpoint)

    @property
    def ended(self) -> bool:
        """Return whether the state is final."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A complete and valid create."""

    account: str
    request_id: str
    file_id: str
    blob: str
    digest: str
    provider: Provider
    endpoint: str | None
    model: str | None
    default_model: str | None
    parameters: str
    metadata: str | None
    webhook: str | None = field(repr=False)
    result_shape: ResultShape
    created_at: float
    expires_at: float
    faults: str | None = None


class FileChanged(Exception):
    """A new job's input file was replaced or deleted."""


class Batches:
    """The table of jobs. Calls `on_webhook` for an ended job with one."""

    def __init__(self, db: Database, on_webhook: Callable[[], None] = lambda: None) -> None:
        self._db = db
        self._on_webhook = on_webhook
        self._cache: dict[str, Batch] = {}
        self._cache_version: tuple[int, int] | None = None

    def add(self, new: NewBatch) -> Batch:
        """Store a job durably, or return the one with its request_id.

        Raises FileChanged if the file was uploaded again since `new` was built.
        """
        with self._db.transaction() as connection:
            known = self.by_request_id(new.account, new.request_id)
            if known:
                return known
            same = "SELECT 1 FROM files WHERE id = ? AND blob = ?"
            if not connection.execute(same, (new.file_id, new.blob)).fetchone():
                raise FileChanged(new.file_id)
            values = {"id": str(uuid.uuid4()), "status": "validating", **asdict(new)}
            # The names are those of our own dataclass.
            connection.execute(
                f"INSERT INTO batches ({', '.join(values)}) VALUES ({', '.join(':' + name for name in values)})",  # noqa: S608
                values,
            )
            row = connection.execute("SELECT * FROM batches WHERE id = ?", (values["id"],)).fetchone()
        return Batch(**dict(row))

    def get(self, batch_id: str, account: str | None = None) -> Batch | None:
        """Return a job, if this account has it."""
        version = self._db.version()
        if version is None or version != self._cache_version or len(self._cache) > _CACHE_SIZE:
            # Clients poll far more often than anything changes.
            self._cache.clear()
            self._cache_version = version
        batch = self._cache.get(batch_id)
        if batch is None:
            batch = self._find("id = ?", (batch_id,))
            if batch is None:
                return None
            self._cache[batch_id] = batch
        return batch if account in {None, batch.account} else None

    def by_request_id(self, account: str, request_id: str) -> Batch | None:
        """Return the job of an idempotency key."""
        return self._find("account = ? AND request_id = ?", (account, request_id))

    def by_result_file(self, file_id: str) -> Batch | None:
        """Return the job of an output or error file."""
        return self._find("output_file_id = ? OR error_file_id = ?", (file_id, file_id))

    def page(self, account: str, *, before: int | None, status: str | None, limit: int) -> list[Batch]:
        """Return up to `limit` jobs with a `seq` below `before`, newest first."""
        rows = self._db.connection.execute(
            "SELECT * FROM batches WHERE account = :account AND (:before IS NULL OR seq < :before)"
            " AND (:status IS NULL OR status = :status) ORDER BY seq DESC LIMIT :limit",
            {"account": account, "before": before, "status": status, "limit": limit},
        )
        return [Batch(**dict(row)) for row in rows]

    def counts(self, account: str) -> dict[str, int]:
        """Return the numbers of jobs by state, without zeros."""
        rows = self._db.connection.execute(
            "SELECT status, count(*) AS jobs FROM batches WHERE account = ? GROUP BY status", (account,)
        )
        return {row["status"]: row["jobs"] for row in rows}

    def next_in(self, statuses: Sequence[Status], *, exclude: Collection[str]) -> Batch | None:
        """Return the oldest job in these states, except `exclude`."""
        return self._find(
            f"status IN ({_marks(statuses)}) AND id NOT IN ({_marks(exclude)}) ORDER BY seq", (*statuses, *exclude)
        )

    def overdue(self, now: float) -> list[str]:
        """Return the jobs that expired before they started."""
        return self._ids("status IN ('validating', 'queued') AND expires_at <= ?", now)

    def next_deadline(self) -> float | None:
        """Return when the next waiting job expires."""
        row = self._db.connection.execute(
            "SELECT min(expires_at) AS due FROM batches WHERE status IN ('validating', 'queued')"
        ).fetchone()
        due: float | None = row["due"]
        return due

    def step(self, batch_id: str, origin: Sequence[Status], to: Status, now: float) -> bool:
        """Change the state. Return False if not in `origin`."""
        ended = ", ended_at = :now" if to in TERMINAL else ""
        cursor = self._db.connection.execute(
            f"UPDATE batches SET status = :to, {to}_at = :now{ended}"  # noqa: S608 - `to` is a Status
            f" WHERE id = :id AND status IN ({', '.join(repr(status) for status in origin)})",
            {"to": to, "now": now, "id": batch_id},
        )
        return cursor.rowcount == 1

    def validated(self, batch_id: str, total: int, model: str | None, now: float) -> bool:
        """Change validating to queued, with the result."""
        with self._db.transaction() as connection:
            stepped = self.step(batch_id, ("validating",), "queued", now)
            if stepped:
                connection.execute(
                    "UPDATE batches SET total = ?, model = coalesce(?, model) WHERE id = ?", (total, model, batch_id)
                )
        return stepped

    def progressed(self, batch_id: str, progress: Progress) -> None:
        """Store a job's progress."""
        self._db.connection.execute(
            "UPDATE batches SET completed = :completed, failed = :failed, input_tokens = :input_tokens,"
            " output_tokens = :output_tokens, cached_tokens = :cached_tokens WHERE id = :id",
            {"id": batch_id, **asdict(progress)},
        )

    def end(
        self,
        batch_id: str,
        origin: Sequence[Status],
        to: Status,
        now: float,
        *,
        progress: Progress = NOTHING_DONE,
        errors: Sequence[LineError] = (),
    ) -> bool:
        """End a job, with its webhook in one transaction. Return False if not in `origin`."""
        reasons = [{"code": error.code, "message": error.message, "line": error.line} for error in errors]
        to_deliver = False
        with self._db.transaction() as connection:
            stepped = self.step(batch_id, origin, to, now)
            if stepped:
                to_deliver = outbox.put(connection, batch_id, now)
                self.progressed(batch_id, progress)
                connection.execute(
                    "UPDATE batches SET output_file_id = ?, error_file_id = ?, errors = ? WHERE id = ?",
                    (
                        str(uuid.uuid4()) if progress.completed else None,
                        str(uuid.uuid4()) if progress.failed else None,
                        orjson.dumps(reasons).decode() if reasons else None,
                        batch_id,
                    ),
                )
        if to_deliver:
            self._on_webhook()
        return stepped

    def with_old_results(self, before: float) -> list[str]:
        """Return jobs that ended before a time and have results."""
        return self._ids("ended_at < ? AND results_deleted = 0", before)

    def results_gone(self, batch_id: str) -> None:
        """Record that results were deleted."""
        self._db.connection.execute("UPDATE batches SET results_deleted = 1 WHERE id = ?", (batch_id,))

    def _find(self, condition: str, values: tuple[object, ...]) -> Batch | None:
        query = f"SELECT * FROM batches WHERE {condition} LIMIT 1"  # noqa: S608 - this class writes the conditions
        row = self._db.connection.execute(query, values).fetchone()
        return Batch(**dict(row)) if row else None

    def _ids(self, condition: str, time: float) -> list[str]:
        query = f"SELECT id FROM batches WHERE {condition}"  # noqa: S608 - this class writes the conditions
        return [row["id"] for row in self._db.connection.execute(query, (time,))]


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
