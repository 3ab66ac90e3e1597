"""The output: one row for each input row, in input order, joined to the answers by key.

Answers are read where their line lies, so memory does not grow with the rows.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import orjson

from runner.executor.answers import INVALID, Answer, answer_of, failed, read_line
from runner.executor.context import Watcher
from runner.executor.judge import OUTPUT_FILE, Judged
from runner.keys import key_text
from runner.planner.asks import read_asks
from runner.planner.render import Desired
from runner.reconciler.classify import KeyState
from runner.reconciler.lockfile import OutputLine
from runner.store.files import replacing

_UNSETTLED = {
    KeyState.ABSENT: ("not_submitted", "the request has not been submitted"),
    KeyState.RETRY: ("not_submitted", "the request failed in a passing way and has not been asked again"),
    KeyState.FAILED: ("unanswered", "the batch ended without an answer"),
    KeyState.IN_FLIGHT: ("in_flight", "the batch has not ended"),
    KeyState.UNKNOWN: ("unknown", "an answer may have been paid for and can't be read"),
}
_STEP = 1000


def write_output(path: Path, desired: Desired, judged: Judged, watcher: Watcher) -> OutputLine:
    """Write a job's output whole, and return the lockfile's line for it. Raises StoreError."""
    spool, spec = desired.spool, desired.spec
    digest = hashlib.sha256()
    rows = 0
    label = f"write {spec.job.output.path}"
    with _Lines() as lines, replacing(path) as file:
        for row in _rows(desired, judged, lines):
            data = orjson.dumps(row) + b"\n"
            digest.update(data)
            file.write(data)
            rows += 1
            if rows % _STEP == 0:
                watcher.progress(label, rows, spool.asks)
    watcher.progress(label, rows, spool.asks)
    return OutputLine(
        output=spec.job.output.path,
        job=spec.address,
        digest=digest.hexdigest(),
        rows=rows,
        batches=tuple(sorted(judged.used)),
    )


def _rows(desired: Desired, judged: Judged, lines: _Lines) -> Iterator[dict[str, Any]]:
    spool, check = desired.spool, _check_of(desired)
    ids = spool.ids()
    for block, asks in read_asks(spool):
        digests = block.records["digest"]
        for position in range(len(block.records)):
            digest = digests[position].ljust(20, b"\0")
            identity = orjson.loads(next(ids))
            for replicate in range(spool.replicates):
                ask = asks[position * spool.replicates + replicate]
                key = key_text(digest, int(ask["ordinal"]))
                answered = _answered(judged, ask, key, lines, check)
                extra = {"replicate": replicate} if spool.replicates > 1 else {}
                yield {"id": identity, **extra, **answered}


Check = Callable[[Answer], tuple[Answer, Any]]
"""An answer held against the job's schema, and its parsed value."""


def _check_of(desired: Desired) -> Check:
    if desired.spec.schema is None:
        return lambda answer: (answer, None)
    from runner.executor.validity import AnswerSchema  # noqa: PLC0415  only jobs with a schema need it

    return AnswerSchema(desired.spec.schema).check


def _answered(judged: Judged, ask: Any, key: str, lines: _Lines, check: Check) -> dict[str, Any]:
    if not ask["source"]:
        return _row(failed(_UNSETTLED[KeyState(int(ask["state"]))]), None, key, None)
    source = judged.sources[int(ask["source"]) - 1]
    number = int(ask["file"])
    data = lines.read(source.files[number], int(ask["offset"]), int(ask["length"]))
    if number == OUTPUT_FILE:
        # The old output's row says all there is; only the row's id is this run's.
        old = orjson.loads(data)
        return {name: old.get(name) for name in _FIELDS}
    line = read_line(data)
    answer = answer_of(line) if line is not None else failed(("malformed_result", "the line can't be read"))
    return _row(*check(answer), key, source.batch)


_FIELDS = ("text", "parsed", "finish_reason", "refusal", "usage", "model", "error", "request", "batch")


def _row(answer: Answer, parsed: Any, key: str, batch: str | None) -> dict[str, Any]:
    usage = None
    if answer.error is None or answer.error[0] == INVALID:  # an answer that does not fit was billed too
        usage = {
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "cached_tokens": answer.cached_tokens,
        }
    return {
        "text": answer.text,
        "parsed": parsed,
        "finish_reason": answer.finish_reason,
        "refusal": answer.refusal,
        "usage": usage,
        "model": answer.model,
        "error": None if answer.error is None else {"code": answer.error[0], "message": answer.error[1]},
        "request": key,
        "batch": batch,
    }


class _Lines:
    """Reads pieces of many files, with few of them open at a time."""

    _OPEN = 64

    def __init__(self) -> None:
        self._files: OrderedDict[Path, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()

    def read(self, path: Path, offset: int, length: int) -> bytes:
        handle = self._files.pop(path, None)
        if handle is None:
            handle = os.open(path, os.O_RDONLY)
            if len(self._files) >= self._OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files[path] = handle
        return os.pread(handle, length, offset)
