"""Bytes on disk: where uploads and results lie, and how an upload becomes one. Paths are made of our own ids only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._jobs.mkdir(parents=True, exist_ok=True)

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
        digest = hashlib.sha256()
        size = 0
        try:
            with part.open("wb", buffering=0) as file:
                async for piece in _pieces(stream):
                    size = _checked(size + len(piece), limit)
                    await asyncio.to_thread(_take, file, digest, piece)
                await asyncio.to_thread(os.fsync, file.fileno())
            part.replace(self._uploads / name)
            _sync_folder(self._uploads)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return Stored(name, size, digest.hexdigest())

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


def _take(file: BinaryIO, digest: hashlib._Hash, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]
    digest.update(piece)


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
