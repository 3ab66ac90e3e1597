"""The table of input files. `storage` holds the bytes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from runner.service.db.database import Database


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file intent. `blob` names the bytes of a complete upload. Times are Unix seconds."""

    id: str
    account: str
    name: str
    declared_bytes: int | None
    created_at: float
    expires_at: float
    blob: str | None
    bytes: int | None
    digest: str | None


class FileInUse(Exception):
    """A job was created from this file, so it can't change."""


class Files:
    """The table of input files."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, account: str, name: str, declared_bytes: int | None, now: float, ttl: float) -> InputFile:
        """Create an intent that expires after `ttl` seconds."""
        file = InputFile(str(uuid.uuid4()), account, name, declared_bytes, now, now + ttl, None, None, None)
        self._db.connection.execute(
            "INSERT INTO files (id, account, name, declared_bytes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            (file.id, account, name, declared_bytes, file.created_at, file.expires_at),
        )
        return file

    def get(self, file_id: str, now: float) -> InputFile | None:
        """Return a file unless it has expired."""
        row = self._db.connection.execute(
            "SELECT * FROM files WHERE id = ? AND expires_at > ?", (file_id, now)
        ).fetchone()
        return InputFile(**dict(row)) if row else None

    def set_upload(self, file_id: str, blob: str, size: int, digest: str) -> str | None:
        """Store an upload and return the blob it replaces. Raises FileInUse."""
        with self._db.transaction() as connection:
            if connection.execute("SELECT 1 FROM batches WHERE file_id = ? LIMIT 1", (file_id,)).fetchone():
                raise FileInUse(file_id)
            row = connection.execute("SELECT blob FROM files WHERE id = ?", (file_id,)).fetchone()
            connection.execute(
                "UPDATE files SET blob = ?, bytes = ?, digest = ? WHERE id = ?", (blob, size, digest, file_id)
            )
        return row["blob"] if row else None

    def drop_expired(self, now: float) -> list[str]:
        """Delete expired files unread by running jobs; return their blobs."""
        rows = self._db.connection.execute(
            "DELETE FROM files WHERE expires_at <= ? AND NOT EXISTS"
            " (SELECT 1 FROM batches WHERE file_id = files.id AND ended_at IS NULL) RETURNING blob",
            (now,),
        )
        return [row["blob"] for row in rows.fetchall() if row["blob"]]

    def blobs(self) -> set[str]:
        """Return all used blobs."""
        rows = self._db.connection.execute("SELECT blob FROM files WHERE blob IS NOT NULL")
        return {row["blob"] for row in rows}
