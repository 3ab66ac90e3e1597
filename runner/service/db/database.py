"""The service's SQLite file. Every commit is synced: accepted jobs survive a power cut."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import ServiceError

_JOBS = """
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    declared_bytes INTEGER,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    blob TEXT,
    bytes INTEGER,
    digest TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    request_id TEXT NOT NULL,
    file_id TEXT NOT NULL,
    blob TEXT NOT NULL,
    digest TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT,
    model TEXT,
    default_model TEXT,
    parameters TEXT NOT NULL,
    metadata TEXT,
    webhook TEXT,
    result_shape TEXT NOT NULL,
    status TEXT NOT NULL,
    errors TEXT,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_file_id TEXT,
    error_file_id TEXT,
    results_deleted INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    queued_at REAL,
    in_progress_at REAL,
    finalizing_at REAL,
    cancelling_at REAL,
    completed_at REAL,
    failed_at REAL,
    cancelled_at REAL,
    expired_at REAL,
    ended_at REAL,
    UNIQUE (account, request_id)
) STRICT;

CREATE INDEX batches_by_status ON batches (status, seq);
CREATE INDEX batches_by_account ON batches (account, seq);
CREATE INDEX batches_by_file ON batches (file_id);
CREATE INDEX batches_by_output ON batches (output_file_id) WHERE output_file_id IS NOT NULL;
CREATE INDEX batches_by_error ON batches (error_file_id) WHERE error_file_id IS NOT NULL;
"""

_WEBHOOKS = """
CREATE TABLE deliveries (
    batch_id TEXT PRIMARY KEY,
    due_at REAL,
    delivered_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    batch_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    seconds REAL NOT NULL,
    status INTEGER,
    error TEXT,
    PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;
"""

_FAULTS = """
ALTER TABLE batches ADD COLUMN faults TEXT;
"""

_COUNTS = "CREATE INDEX batches_by_account_and_status ON batches (account, status, seq);\n"

_VERSIONS = (_JOBS, _WEBHOOKS, _FAULTS, _COUNTS)
"""The additions of each schema version. Never change a released one."""


class Database:
    """One thread's connection. Raises ServiceError if the file is damaged or newer."""

    def __init__(self, path: Path) -> None:
        # It holds secrets of undelivered webhooks. SQLite creates its other files with the same mode.
        path.touch(mode=0o600)
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self.connection.row_factory = sqlite3.Row
        try:
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.execute("PRAGMA synchronous=FULL")
            self._migrate(path)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise ServiceError(f"{path} cannot be used: {error}") from error
        except ServiceError:
            self.connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def version(self) -> tuple[int, int] | None:
        """Return a value that every change changes; None within a transaction."""
        if self.connection.in_transaction:
            return None
        data_version: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return data_version, self.connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit everything or nothing. Other writers wait."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _migrate(self, path: Path) -> None:
        with self.transaction() as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(_VERSIONS):
                raise ServiceError(f"{path} was written by a newer batchspec", hint="update batchspec")
            for schema in _VERSIONS[version:]:
                # executescript would commit the transaction it is in; these statements hold no semicolon inside.
                for statement in schema.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
            if version < len(_VERSIONS):
                connection.execute(f"PRAGMA user_version = {len(_VERSIONS)}")
