"""Webhooks that are to be delivered, as the database knows them, and what became of each attempt.

A delivery is written in the transaction that ends its job, so neither can be without the other. An attempt is written
once its outcome is known: one that a crash cut short is made again, under the same message id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from runner.service.db.database import Database


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook on its way. `due_at` is when to try next, None when it is over; `attempts` are those made so far."""

    batch_id: str
    due_at: float | None
    delivered_at: float | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: when it began (Unix seconds), how long it took, and the HTTP status or why there was none."""

    number: int
    at: float
    seconds: float
    status: int | None
    error: str | None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


def put(connection: sqlite3.Connection, batch_id: str, now: float) -> bool:
    """Within the transaction that ends a job: a delivery, if the job has a webhook."""
    cursor = connection.execute(
        "INSERT INTO deliveries (batch_id, due_at) SELECT id, ? FROM batches WHERE id = ? AND webhook IS NOT NULL",
        (now, batch_id),
    )
    return cursor.rowcount == 1


class Outbox:
    """The tables of deliveries and attempts."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def due(self, now: float, *, but: Collection[str], limit: int) -> list[Delivery]:
        """What is to be tried by now, the longest due first, leaving out the jobs of `but`."""
        marks = ", ".join("?" * len(but))
        rows = self._db.connection.execute(
            f"SELECT * FROM deliveries WHERE due_at <= ? AND batch_id NOT IN ({marks}) ORDER BY due_at LIMIT ?",  # noqa: S608
            (now, *but, limit),
        )
        return [Delivery(**dict(row)) for row in rows]

    def next_due(self, *, but: Collection[str]) -> float | None:
        """When the next one is to be tried, leaving out the jobs of `but`."""
        marks = ", ".join("?" * len(but))
        row = self._db.connection.execute(
            f"SELECT min(due_at) AS due FROM deliveries WHERE batch_id NOT IN ({marks})",  # noqa: S608
            tuple(but),
        ).fetchone()
        due: float | None = row["due"]
        return due

    def record(self, batch_id: str, attempt: Attempt, again_at: float | None) -> None:
        """Keep an attempt and when to try again. With the last one the job's record loses the secret."""
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

    def of(self, batch_id: str) -> tuple[Delivery | None, list[Attempt]]:
        """The delivery of a job, None where it has no webhook or has not ended, and the attempts made, oldest first."""
        row = self._db.connection.execute("SELECT * FROM deliveries WHERE batch_id = ?", (batch_id,)).fetchone()
        attempts = self._db.connection.execute(
            "SELECT number, at, seconds, status, error FROM attempts WHERE batch_id = ? ORDER BY number", (batch_id,)
        )
        return Delivery(**dict(row)) if row else None, [Attempt(**dict(one)) for one in attempts]
