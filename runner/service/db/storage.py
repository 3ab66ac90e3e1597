"""Uploads and results on disk. Paths contain only the service's ids."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from runner.service.db.private_files import create, make_folder

_PART = ".part"
_PIECE = 1 << 20


class TooLarge(Exception):
    """An upload exceeds its limit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete upload: its name, size in bytes, SHA-256."""

    blob: str
    size: int
    digest: str


class Storage:
    """The folders below a data folder. Raises OSError."""

    def __init__(self, data: Path) -> None:
        self._uploads = data / "uploads"
        self._jobs = data / "jobs"
        make_folder(self._uploads)
        make_folder(self._jobs)

    def blob(self, name: str) -> Path:
        """Return an upload's path."""
        return self._uploads / name

    def job(self, batch_id: str) -> Path:
        """Return a job's folder of results."""
        return self._jobs / batch_id

    async def receive(self, stream: AsyncIterator[bytes], limit: int) -> Stored:
        """Store an upload in constant memory. It gets its name after a sync.

        Raises TooLarge, and the stream's exceptions. Then no file is left.
        """
        name = uuid.uuid4().hex
        part = self._uploads / f"{name}{_PART}"
        size = 0
        try:
            with create(part) as file:
                async with _Writer(file) as writer:
                    async for piece in _pieces(stream):
                        size = _checked(size + len(piece), limit)
                        await writer.write(piece)
                digest = writer.digest
                await asyncio.to_thread(os.fsync, file.fileno())
            part.replace(self._uploads / name)
            _sync_folder(self._uploads)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return Stored(name, size, digest)

    def drop_blob(self, name: str) -> None:
        """Delete an upload."""
        (self._uploads / name).unlink(missing_ok=True)

    def drop_job(self, batch_id: str) -> None:
        """Delete a job's results."""
        shutil.rmtree(self._jobs / batch_id, ignore_errors=True)

    def sweep(self, known: Collection[str]) -> None:
        """Delete all uploads but `known`. Call it only while no upload runs."""
        for path in self._uploads.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)


def _checked(size: int, limit: int) -> int:
    if size > limit:
        raise TooLarge
    return size


class _Writer:
    """Writes and hashes one piece in a thread while the next one arrives."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._pending: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait for the thread: the caller then closes the file."""
        if self._pending is None:
            return
        await asyncio.wait([self._pending])
        if error is None:
            self._pending.result()

    async def write(self, piece: bytes) -> None:
        """Write a piece. Raises OSError of this piece or the one before."""
        if self._pending is not None:
            await asyncio.wait([self._pending])
            self._pending.result()
        self._pending = asyncio.get_running_loop().run_in_executor(None, self._write, piece)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(piece)


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    pending: list[bytes] = []
    size = 0
    async for chunk in stream:
        pending.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield b"".join(pending)
            pending.clear()
            size = 0
    if pending:
        yield b"".join(pending)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
