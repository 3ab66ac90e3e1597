"""The output: one row for each input row, in input order, joined to the answers by key.

Answers are read where their line lies, so memory does not grow with the rows.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import orjson

from runner.executor.answers import INVALID, Answer, answer_of, failed, read_line
from runner.executor.context import Watcher
from runner.executor.formats import writing
from runner.executor.judge import OUTPUT_FILE, Judged
from runner.keys import key_text
from runner.planner.asks import read_asks
from runner.planner.render import Desired, input_rows
from runner.reconciler.classify import KeyState
from runner.reconciler.lockfile import OutputLine
from runner.spec.models import OUTPUT_FIELDS
from runner.store.files import replacing

_UNSETTLED = {
    KeyState.ABSENT: ("not_submitted", "the request has not been submitted"),
    KeyState.RETRY: ("not_submitted", "the request failed in a passing way and has not been asked again"),
    KeyState.FAILED: ("unanswered", "the batch ended without an answer"),
    KeyState.IN_FLIGHT: ("in_flight", "the batch has not ended"),
    KeyState.UNKNOWN: ("unknown", "an answer may have been paid for and can't be read"),
}
_STEP = 1000


def write_output(
    path: Path, desired: Desired, judged: Judged, watcher: Watcher, errors: Path | None = None
) -> OutputLine:
    """Write a job's output whole, and return the lockfile's line for it. Raises StoreError and InputError.

    `errors` is where failed rows go where the spec keeps them apart; it is written first, so that the output, which
    the lockfile knows, stands for both.
    """
    spool, spec = desired.spool, desired.spec
    output, replicated = spec.job.output, spec.job.replicates > 1
    digest = hashlib.sha256()
    rows = 0
    label = f"write {output.path}"
    with ExitStack() as stack:
        lines = stack.enter_context(_Lines())
        main = stack.enter_context(replacing(path))
        into = stack.enter_context(writing(main, output, spec.schema, digest, replicated=replicated))
        apart = None
        if output.errors is not None:
            beside = stack.enter_context(replacing(errors or path.with_name(f"{path.name}.errors")))
            kept = output.model_copy(update={"path": output.errors, "format": "jsonl"})
            apart = stack.enter_context(writing(beside, kept, spec.schema, hashlib.sha256(), replicated=replicated))
        for row in _rows(desired, judged, lines):
            failed_row = apart is not None and row["error"] is not None
            (apart if apart is not None and failed_row else into).add(row)
            rows += not failed_row
            if rows % _STEP == 0:
                watcher.progress(label, rows, spool.asks)
    watcher.progress(label, rows, spool.asks)
    return OutputLine(
        output=output.path,
        job=spec.address,
        digest=digest.hexdigest(),
        rows=rows,
        batches=tuple(sorted(judged.used)),
    )


def _rows(desired: Desired, judged: Judged, lines: _Lines) -> Iterator[dict[str, Any]]:
    spool, check = desired.spool, _check_of(desired)
    ids = spool.ids()
    inputs = input_rows(desired) if desired.spec.job.output.needs_input else None
    for block, asks in read_asks(spool):
        digests = block.records["digest"]
        for position in range(len(block.records)):
            digest = digests[position].ljust(20, b"\0")
            identity = orjson.loads(next(ids))
            beside = {} if inputs is None else {"row": next(inputs, None)}
            for replicate in range(spool.replicates):
                ask = asks[position * spool.replicates + replicate]
                key = key_text(digest, int(ask["ordinal"]))
                answered = _answered(judged, ask, key, lines, check)
                extra = {"replicate": replicate} if spool.replicates > 1 else {}
                yield {"id": identity, **extra, **answered, **beside}
    if inputs is not None:
        next(inputs, None)  # at its end the input is compared with what was rendered


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
        return {name: old.get(name) for name in OUTPUT_FIELDS}
    line = read_line(data)
    answer = answer_of(line) if line is not None else failed(("malformed_result", "the line can't be read"))
    return _row(*check(answer), key, source.batch)


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
