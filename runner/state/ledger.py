"""A SQLite file outside git, with each intent synced before its effect.

A crash would lose its content: uploads and unanswered creates. Losing it costs one upload.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from runner.errors import StoreError
from runner.state.atomic import private_folder

UPLOAD_LIFETIME = timedelta(days=29)
"""How long an uploaded file is reused. The vendor's guide keeps files for 29 to 30 days."""

_SCHEMA = """
create table if not exists uploads (
    realm text not null, shard text not null, file_id text not null, state text not null, at text not null,
    primary key (realm, shard, file_id));
create table if not exists creates (
    realm text not null, request_id text not null, address text not null, shard text not null, file_id text not null,
    requests integer not null, bytes integer not null, attempt integer not null, round integer not null,
    state text not null, batch_id text, at text not null,
    primary key (realm, request_id));
create table if not exists grants (
    realm text not null, address text not null, pins text not null, requests integer not null, retries integer not null,
    in_flight integer not null, rounds integer not null, override text not null, at text not null,
    primary key (realm, address));
pragma user_version = 1;
"""

CreateState = Literal["intended", "created", "refused"]


@dataclass(frozen=True, slots=True)
class Create:
    """One create request. An intended create may have had its effect.

    `bytes` is the shard's size; `at` is the last intent's time.
    """

    realm: str
    request_id: str
    address: str
    shard: str
    file_id: str
    requests: int
    bytes: int
    attempt: int
    round: int
    state: CreateState
    batch_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """What the last apply of an address may submit, for a listener.

    `requests`, `retries`, `in_flight` and `rounds` are `PlanLimits`. `override` is the reason to exceed a budget.
    """

    realm: str
    address: str
    pins: str
    requests: int
    retries: int
    in_flight: int
    rounds: int
    override: str
    at: datetime


class Ledger:
    """One ledger, for all threads. Syncs writes. Raises StoreError."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.RLock()
        private_folder(path.parent)
        try:
            if read_only and not os.access(path.parent, os.W_OK):
                # No process can write here, so no lock is needed. Entries in the write-ahead log may be missing.
                address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
                self._db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
                return
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            version = self._db.execute("pragma user_version").fetchone()[0]
            if version > 1:
                self._db.close()
                raise StoreError(
                    f"{path} was written by a newer batchspec",
                    hint="update batchspec, or remove the file",
                    code="BS412",
                )
            # Ledgers of older versions have no grants. Those versions ignore the table.
            if version == 0 or not self._db.execute("select 1 from sqlite_master where name = 'grants'").fetchone():
                self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise _open_error(f"cannot open {path}: {error}", error) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("begin immediate")
                yield self._db
                self._db.execute("commit")
            except sqlite3.Error as error:
                raise StoreError(f"cannot write {self._path}: {error}", code="BS411") from error
            finally:
                if self._db.in_transaction:
                    self._db.execute("rollback")

    def _read(self, query: str, values: tuple[str | None, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise _open_error(f"cannot read {self._path}: {error}", error) from error

    def upload_intended(self, realm: str, shard: str, file_id: str, now: datetime) -> None:
        """Record an upload's file, without its secret URL."""
        with self._writing() as db:
            db.execute(
                "insert or replace into uploads values (?, ?, ?, 'intended', ?)",
                (realm, shard, file_id, _timestamp(now)),
            )

    def uploaded(self, realm: str, shard: str, file_id: str, now: datetime) -> None:
        """Record that the service has all bytes."""
        with self._writing() as db:
            db.execute(
                "insert or replace into uploads values (?, ?, ?, 'uploaded', ?)",
                (realm, shard, file_id, _timestamp(now)),
            )

    def forget_upload(self, realm: str, file_id: str) -> None:
        """Remove an upload that the service lost."""
        with self._writing() as db:
            db.execute("delete from uploads where realm = ? and file_id = ?", (realm, file_id))

    def upload_of(self, realm: str, shard: str, address: str, now: datetime) -> str | None:
        """Return the newest valid file with a shard's bytes.

        Skips other addresses: a service may identify a batch by its file.
        """
        found = self._read(
            "select file_id from uploads where realm = ? and shard = ? and state = 'uploaded' and at > ? "
            "and file_id not in (select file_id from creates where realm = uploads.realm and address <> ?) "
            "order by at desc limit 1",
            (realm, shard, _timestamp(now - UPLOAD_LIFETIME), address),
        )
        return str(found[0][0]) if found else None

    def create_intended(self, create: Create) -> None:
        """Record a create before it is sent."""
        with self._writing() as db:
            db.execute(
                "insert into creates values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'intended', null, ?) "
                "on conflict (realm, request_id) do update set file_id = excluded.file_id, state = 'intended', "
                "at = excluded.at where batch_id is null",
                (
                    create.realm,
                    create.request_id,
                    create.address,
                    create.shard,
                    create.file_id,
                    create.requests,
                    create.bytes,
                    create.attempt,
                    create.round,
                    _timestamp(create.at),
                ),
            )

    def is_intended(self, realm: str, request_id: str) -> bool:
        """Return whether a create lacks a response."""
        query = "select 1 from creates where realm = ? and request_id = ? and state = 'intended'"
        return bool(self._read(query, (realm, request_id)))

    def created(self, realm: str, request_id: str, batch_id: str) -> None:
        """Record a create's batch."""
        with self._writing() as db:
            db.execute(
                "update creates set state = 'created', batch_id = ? where realm = ? and request_id = ?",
                (batch_id, realm, request_id),
            )

    def refused(self, realm: str, request_id: str) -> None:
        """Record that a create had no effect."""
        with self._writing() as db:
            db.execute(
                "update creates set state = 'refused' where realm = ? and request_id = ? and batch_id is null",
                (realm, request_id),
            )

    def forget(self, creates: Iterable[Create]) -> None:
        """Remove creates and uploads, so that the next submission differs."""
        dropped = list(creates)
        with self._writing() as db:
            db.executemany(
                "delete from creates where realm = ? and request_id = ?",
                [(create.realm, create.request_id) for create in dropped],
            )
            db.executemany(
                "delete from uploads where realm = ? and file_id = ?",
                [(create.realm, create.file_id) for create in dropped],
            )

    def batches(self, realm: str) -> frozenset[str]:
        """Return all batches created in a realm."""
        found = self._read("select batch_id from creates where realm = ? and batch_id is not null", (realm,))
        return frozenset(str(row[0]) for row in found)

    def creates(self, realm: str | None, address: str) -> tuple[Create, ...]:
        """Return an address's creates, oldest first."""
        found = self._read(
            "select realm, request_id, address, shard, file_id, requests, bytes, attempt, round, state, batch_id, at "
            "from creates where (?1 is null or realm = ?1) and address = ?2 order by at, request_id",
            (realm, address),
        )
        rows = ([*row[:-1], datetime.fromisoformat(row[-1])] for row in found)
        return tuple(Create(*row) for row in rows)

    def record_grant(self, grant: Grant) -> None:
        """Record what an apply may submit, before its first create."""
        with self._writing() as db:
            db.execute(
                "insert or replace into grants values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    grant.realm,
                    grant.address,
                    grant.pins,
                    grant.requests,
                    grant.retries,
                    grant.in_flight,
                    grant.rounds,
                    grant.override,
                    _timestamp(grant.at),
                ),
            )

    def grant_of(self, realm: str, address: str) -> Grant | None:
        """Return the newest grant of an address."""
        found = self._read(
            "select realm, address, pins, requests, retries, in_flight, rounds, override, at from grants "
            "where realm = ? and address = ?",
            (realm, address),
        )
        rows = ([*row[:-1], datetime.fromisoformat(row[-1])] for row in found)
        return next((Grant(*row) for row in rows), None)

    def held_back(self) -> frozenset[str]:
        """Return partly submitted addresses whose grants have room for new requests."""
        found = self._read(
            "select g.address from grants g join creates c on c.realm = g.realm and c.address = g.address "
            "where c.round = 1 and c.state <> 'refused' and c.at >= g.at "
            "group by g.realm, g.address having sum(c.requests) < g.requests",
            (),
        )
        return frozenset(str(row[0]) for row in found)

    def address_of(self, realm: str, batch: str) -> str | None:
        """Return the address that created a batch."""
        found = self._read("select address from creates where realm = ? and batch_id = ?", (realm, batch))
        return str(found[0][0]) if found else None

    def unrecorded(self, batches: Collection[str], requests: Collection[str]) -> frozenset[str]:
        """Return addresses with a create that is neither refused nor among these batches or idempotency keys."""
        found = self._read("select address, batch_id, request_id from creates where state <> 'refused'", ())
        return frozenset(str(row[0]) for row in found if row[1] not in batches and row[2] not in requests)

    def unconfirmed(self, realm: str) -> frozenset[str]:
        """Return addresses with a create that got no response."""
        found = self._read("select distinct address from creates where realm = ? and state = 'intended'", (realm,))
        return frozenset(str(row[0]) for row in found)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _open_error(message: str, error: sqlite3.Error) -> StoreError:
    if isinstance(error, sqlite3.OperationalError):
        return StoreError(message, code="BS411")
    return StoreError(message, hint="remove the ledger; batchspec makes a new one")
