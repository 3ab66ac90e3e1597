"""Bytes on disk: where uploads and results lie, and how an upload becomes one. Paths are made of our own ids only."""

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
    """An upload went over its limit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete upload: its name in the store, its size in bytes, its SHA-256 in hex."""

    blob: str
    size: int
    digest: str


class Storage:
    """The folders below a data folder. Raises OSError where they cannot be made."""

    def __init__(self, data: Path) -> None:
        self._uploads = data / "uploads"
        self._jobs = data / "jobs"
        make_folder(self._uploads)
        make_folder(self._jobs)

    def blob(self, name: str) -> Path:
        """Where the bytes of an upload lie."""
        return self._uploads / name

    def job(self, batch_id: str) -> Path:
        """The folder of a job's result files."""
        return self._jobs / batch_id

    async def receive(self, stream: AsyncIterator[bytes], limit: int) -> Stored:
        """Take an upload in constant memory. It lies under its name only once all of it is on the disk.

        Raises TooLarge as soon as it goes over `limit` bytes, and whatever the stream raises; nothing stays then.
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
        """Delete the bytes of an upload."""
        (self._uploads / name).unlink(missing_ok=True)

    def drop_job(self, batch_id: str) -> None:
        """Delete a job's result files."""
        shutil.rmtree(self._jobs / batch_id, ignore_errors=True)

    def sweep(self, known: Collection[str]) -> None:
        """Delete every upload that is not in `known`, half ones too. Only while no upload is under way."""
        for path in self._uploads.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)


def _checked(size: int, limit: int) -> int:
    if size > limit:
        raise TooLarge
    return size


class _Writer:
    """Writes and hashes one piece in a thread while the next one arrives; never more than these two are held."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._under_way: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait for the last piece, whatever happened: the file must not be closed under the thread."""
        if self._under_way is None:
            return
        await asyncio.wait([self._under_way])
        if error is None:
            self._under_way.result()

    async def write(self, piece: bytes) -> None:
        """Take a piece. Raises OSError of this piece or the one before."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
            self._under_way.result()
        self._under_way = asyncio.get_running_loop().run_in_executor(None, self._take, piece)

    @property
    def digest(self) -> str:
        """Of all that was written, in hex."""
        return self._hash.hexdigest()

    def _take(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(piece)


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream in larger pieces, so that a thread is worth its while."""
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
