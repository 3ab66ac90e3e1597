"""The result files of a running job, which are also its journal: a request in them is done.

An answer survives a crash at once, and a power cut after `sync`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from runner.service.config import ResultShape
from runner.service.db.batches import Progress
from runner.service.db.private_files import make_folder
from runner.service.jobs.lines import Usage, error_line, key_of, output_line, response_in, usage_of

OUTPUT = "output.jsonl"
ERRORS = "errors.jsonl"


class Journal:
    """One job's result files, open for appending.

    Opening cuts off an incomplete last line. Raises OSError.
    """

    def __init__(self, folder: Path, batch_id: str, shape: ResultShape) -> None:
        self._batch_id = batch_id
        self._shape = shape
        self._completed = self._failed = 0
        self._input_tokens = self._output_tokens = self._cached_tokens = 0
        self.done: set[bytes] = set()
        """`key_of` each request that is done."""
        self._dirty = False
        make_folder(folder)
        _repair(folder / OUTPUT, self._remember_answer)
        _repair(folder / ERRORS, self._remember_error)
        self._output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._errors = os.open(folder / ERRORS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            os.close(self._output)
            raise

    def answered(self, custom_id: str, response: dict[str, Any], usage: Usage) -> None:
        """Write an answer."""
        _append(self._output, output_line(self._shape, self._batch_id, custom_id, response))
        self._dirty = True
        self._count_answer(usage)

    def refused(self, custom_id: str, code: str, message: str) -> None:
        """Write the error of a request."""
        _append(self._errors, error_line(self._shape, self._batch_id, custom_id, code, message))
        self._dirty = True
        self._failed += 1

    @property
    def progress(self) -> Progress:
        """Return the counts and tokens so far."""
        return Progress(self._completed, self._failed, self._input_tokens, self._output_tokens, self._cached_tokens)

    @property
    def dirty(self) -> bool:
        """Return whether anything was written since `sync`."""
        return self._dirty

    def sync(self) -> None:
        """Flush everything to the disk."""
        self._dirty = False
        os.fsync(self._output)
        os.fsync(self._errors)

    def close(self) -> None:
        """Close both files without a sync."""
        os.close(self._output)
        os.close(self._errors)

    def _remember_answer(self, line: dict[str, Any]) -> None:
        usage = usage_of(response_in(line))
        self.done.add(key_of(line["custom_id"]))
        self._count_answer(usage)

    def _remember_error(self, line: dict[str, Any]) -> None:
        self.done.add(key_of(line["custom_id"]))
        self._failed += 1

    def _count_answer(self, usage: Usage) -> None:
        self._completed += 1
        self._input_tokens += usage.input_tokens
        self._output_tokens += usage.output_tokens
        self._cached_tokens += usage.cached_tokens


def _append(descriptor: int, line: bytes) -> None:
    """Append a whole line. Remove a part, as on a full disk."""
    written = os.write(descriptor, line)
    if written == len(line):
        return
    start = os.fstat(descriptor).st_size - written
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def _repair(path: Path, remember: Callable[[dict[str, Any]], None]) -> None:
    """Pass every whole line to `remember`, and cut off the rest."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return
    with file:
        good = 0
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                remember(orjson.loads(line))
            except (ValueError, KeyError, TypeError):
                # Only a power cut leaves such a line; nothing after it was synced.
                break
            good += len(line)
        file.truncate(good)
