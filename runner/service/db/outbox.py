"""The tables of webhook deliveries and attempts.

The transaction that ends a job also writes its delivery. A crash during an attempt repeats it with the same message id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from runner.service.db.database import Database


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook to deliver. `due_at` is None if no attempt remains."""

    batch_id: str
    due_at: float | None
    delivered_at: float | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: its start (Unix seconds), duration, and HTTP status or error."""

    number: int
    at: float
    seconds: float
    status: int | None
    error: str | None

    @property
    def acknowledged(self) -> bool:
        """Return whether the receiver accepted it."""
        return self.status is not None and 200 <= self.status < 300


def put(connection: sqlite3.Connection, batch_id: str, now: float) -> bool:
    """Add an ended job's delivery, in the same transaction. Return whether it has one."""
    cursor = connection.execute(
        "INSERT INTO deliveries (batch_id, due_at) SELECT id, ? FROM batches WHERE id = ? AND webhook IS NOT NULL",
        (now, batch_id),
    )
    return cursor.rowcount == 1


class Outbox:
    """The tables of deliveries and attempts."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def due(self, now: float, *, exclude: Collection[str], limit: int) -> list[Delivery]:
        """Return due deliveries, the longest due first."""
        marks = ", ".join("?" * len(exclude))
        rows = self._db.connection.execute(
            f"SELECT * FROM deliveries WHERE due_at <= ? AND batch_id NOT IN ({marks}) ORDER BY due_at LIMIT ?",  # noqa: S608
            (now, *exclude, limit),
        )
        return [Delivery(**dict(row)) for row in rows]

    def next_due(self, *, exclude: Collection[str]) -> float | None:
        """Return when the next delivery is due."""
        marks = ", ".join("?" * len(exclude))
        row = self._db.connection.execute(
            f"SELECT min(due_at) AS due FROM deliveries WHERE batch_id NOT IN ({marks})",  # noqa: S608
            tuple(exclude),
        ).fetchone()
        due: float | None = row["due"]
        return due

    def record(self, batch_id: str, attempt: Attempt, again_at: float | None) -> None:
        """Store an attempt and the next one's time. After the last, delete the secret."""
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT INTO attempts (batch_id, number, at, seconds, status, error) VALUES (?, ?, ?, ?, ?, ?)",
                (batch_id, attempt.number, attempt.at, attempt.seconds, attempt.status, attempt.error),
            )
            connection.execute(
                "UPDATE deliveries SET attempts = ?, due_at = ?, delivered_at = ? WHERE batch_id = ?",
                (attempt.number, again_at, attempt.at + attempt.seconds if attempt.acknowledged else None, batch_id),
            )
            if again_at is None:
                connection.execute(
                    "UPDATE batches SET webhook = json_remove(webhook, '$.secret') WHERE id = ?", (batch_id,)
                )

    def history(self, batch_id: str) -> tuple[Delivery | None, list[Attempt]]:
        """Return a job's delivery, if any, and its attempts, oldest first."""
        row = self._db.connection.execute("SELECT * FROM deliveries WHERE batch_id = ?", (batch_id,)).fetchone()
        attempts = self._db.connection.execute(
            "SELECT number, at, seconds, status, error FROM attempts WHERE batch_id = ? ORDER BY number", (batch_id,)
        )
        return Delivery(**dict(row)) if row else None, [Attempt(**dict(one)) for one in attempts]
