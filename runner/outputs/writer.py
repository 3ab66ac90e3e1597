"""Write the output: one row for each input row, in input order, joined to answers by key.

Answers are read as needed, so memory does not grow with the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from runner.base.keys import DIGEST_BYTES, VERSION, parse_key
from runner.base.retryable import ErrorKind
from runner.context import Watcher
from runner.errors import StoreError
from runner.jobspec.output_options import OUTPUT_FIELDS
from runner.jobspec.tools import TOOL_CALLS, output_fields, writes_caches
from runner.outputs.answer_source import AnswerSource, AnswerSources
from runner.outputs.formats import Shape, writing
from runner.outputs.reader import OUTPUT_FILE
from runner.outputs.result_lines import INVALID, Answer, answer_of, answer_of_row, failed, read_line
from runner.outputs.row_cost import RowCosts
from runner.outputs.usage import Tokens, row_usage
from runner.planner.render import Desired, input_rows
from runner.planner.spool.decisions import Decisions, KeyState, read_decisions
from runner.state.atomic import atomic_write
from runner.state.lockfile_lines import BatchLine, ErrorsField, OutputLine
from runner.state.results import ResultStore
from runner.state.sorted_file import FileHandleCache

_UNSETTLED = {
    KeyState.ABSENT: ("not_submitted", "the request has not been submitted"),
    KeyState.RETRY: ("not_submitted", "the request failed in a passing way and has not been asked again"),
    KeyState.FAILED: ("unanswered", "the batch ended without an answer"),
    KeyState.IN_FLIGHT: ("in_flight", "the batch has not ended"),
    KeyState.UNKNOWN: ("unknown", "an answer may have been paid for and can't be read"),
}
_PIECE = 4096
"""Requests to read and join at a time."""
_GAP = 1 << 16
"""Read lines at most this many bytes from each other in one go."""


def write_output(
    path: Path,
    desired: Desired,
    classified: AnswerSources,
    watcher: Watcher,
    *,
    batches: Mapping[str, BatchLine],
    errors: Path | None = None,
    pins: str | None = None,
) -> OutputLine:
    """Write a job's output and return its lockfile line. Raises StoreError and InputError.

    batches: the lockfile's, by id.
    errors: the file for failed rows, or None.
    pins: digest of the pins that the output is written under.
    """
    spool, spec = desired.spool, desired.spec
    output = spec.job.output
    shape = Shape(output_fields(spec.job), spec.schema, spec.job.replicates > 1, writes_caches(spec.job))
    digest, errors_digest = hashlib.sha256(), hashlib.sha256()
    rows = errors_rows = 0
    costs = RowCosts(batches, spec.job.line_format) if output.needs_cost else None
    label = f"write {spec.address}"
    with ExitStack() as stack:
        lines = stack.enter_context(FileHandleCache())
        main = stack.enter_context(atomic_write(path))
        into = stack.enter_context(writing(main, output, shape, digest))
        errors_writer = None
        if output.errors is not None:
            errors_file = stack.enter_context(atomic_write(errors or path.with_name(f"{path.name}.errors")))
            errors_output = output.model_copy(update={"path": output.errors, "format": "jsonl"})
            errors_writer = stack.enter_context(writing(errors_file, errors_output, shape, errors_digest))
        for row in _rows(desired, classified, lines):
            if costs is not None:
                row["cost"] = costs.cost(row)
            failed_row = errors_writer is not None and row["error"] is not None
            (errors_writer if errors_writer is not None and failed_row else into).add(row)
            rows += not failed_row
            errors_rows += failed_row
            if (rows + errors_rows) % _PIECE == 0:
                watcher.progress(label, rows + errors_rows, spool.occurrences)
    watcher.progress(label, rows + errors_rows, spool.occurrences)
    return OutputLine(
        output=output.path,
        job=spec.address,
        digest=digest.hexdigest(),
        rows=rows,
        batches=tuple(sorted(classified.used)),
        pins=pins,
        errors=ErrorsField(path=output.errors, digest=errors_digest.hexdigest(), rows=errors_rows)
        if output.errors
        else None,
    )


def _rows(desired: Desired, classified: AnswerSources, files: FileHandleCache) -> Iterator[dict[str, Any]]:
    spool, check = desired.spool, _check_of(desired)
    ids = spool.ids()
    inputs = input_rows(desired) if desired.spec.job.output.needs_input else None
    count, known = spool.replicates, len(classified.sources)
    width = 2 * DIGEST_BYTES
    imported: dict[str, Mapping[str, bytes]] = {}
    identity: Any = None
    input_field: dict[str, Any] = {}
    for block, asks in read_decisions(spool):
        digests = np.ascontiguousarray(block.records["digest"]).tobytes().hex()
        for start in range(0, len(asks), _PIECE):
            piece = asks[start : start + _PIECE]
            found = _answers(piece, classified, files)
            ordinals, states, sources = piece["ordinal"].tolist(), piece["state"].tolist(), piece["source"].tolist()
            saved = (piece["file"] == OUTPUT_FILE).tolist()
            for at, data in enumerate(found):
                row, replicate = divmod(start + at, count)
                if not replicate:
                    identity = orjson.loads(next(ids))
                    input_field = {} if inputs is None else {"row": next(inputs, None)}
                digest = digests[row * width : (row + 1) * width]
                key = f"{VERSION}-{digest}-{ordinals[at]}" if ordinals[at] else f"{VERSION}-{digest}"
                if data is None:
                    why = classified.failures[sources[at] - known - 1] if sources[at] > known else None
                    fields = _row(failed(why or _UNSETTLED[states[at]]), None, key, None)
                elif saved[at]:
                    fields = _kept(_recovered_row(data, classified.sources[sources[at] - 1], key), check)
                else:
                    source = classified.sources[sources[at] - 1]
                    fields = _row(*check(_answer(data, source, key, imported)), key, source.batch)
                extra = {} if count == 1 else {"replicate": replicate}
                yield {"id": identity, **extra, **fields, **input_field}
    if inputs is not None:
        next(inputs, None)  # reaching its end compares the input with what was rendered


def _answers(asks: Decisions, classified: AnswerSources, files: FileHandleCache) -> list[bytes | None]:
    found: list[bytes | None] = [None] * len(asks)
    wanted = np.flatnonzero((asks["source"] > 0) & (asks["source"] <= len(classified.sources)))
    wanted = wanted[np.lexsort((asks["offset"][wanted], asks["file"][wanted], asks["source"][wanted]))]
    if not len(wanted):
        return found
    sources, numbers = asks["source"][wanted], asks["file"][wanted]
    offsets, lengths = asks["offset"][wanted].astype(np.int64), asks["length"][wanted].astype(np.int64)
    breaks = (sources[1:] != sources[:-1]) | (numbers[1:] != numbers[:-1])
    breaks |= offsets[1:] > offsets[:-1] + lengths[:-1] + _GAP
    for start, end in pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), len(wanted)]):
        path = classified.sources[int(sources[start]) - 1].files[int(numbers[start])]
        first = int(offsets[start])
        data = files.read(path, first, int((offsets[start:end] + lengths[start:end]).max()) - first)
        begins = (offsets[start:end] - first).tolist()
        for place, begin, length in zip(wanted[start:end].tolist(), begins, lengths[start:end].tolist(), strict=True):
            found[place] = data[begin : begin + length]
    return found


Check = Callable[[Answer], tuple[Answer, Any]]
"""Checks an answer against the schema, and returns it with its parsed value."""


def _check_of(desired: Desired) -> Check:
    if desired.spec.schema is None:
        return lambda answer: (answer, None)
    from runner.outputs.schema_check import AnswerSchema  # noqa: PLC0415  only jobs with a schema need it

    return AnswerSchema.of(desired.spec).check


def answer_fields(
    data: bytes, source: AnswerSource, key: str, imported: dict[str, Mapping[str, bytes]], *, saved: bool
) -> dict[str, Any]:
    """Return an answer's fields without a row, unchecked; `saved` lines come from an output. Raises StoreError."""
    if saved:
        return _kept(_recovered_row(data, source, key), lambda answer: (answer, None))
    return _row(_answer(data, source, key, imported), None, key, source.batch)


def _answer(data: bytes, source: AnswerSource, key: str, imported: dict[str, Mapping[str, bytes]]) -> Answer:
    """Return the answer on an indexed line. Raises StoreError if the file changed since.

    `imported` caches the keys behind ids of imported batches.
    """
    line = read_line(data)
    if line is not None and line.custom_id != key:
        if source.batch not in imported:
            imported[source.batch] = ResultStore(source.files[0].parent).imported_ids(source.batch) or {}
        if imported[source.batch].get(line.custom_id) != parse_key(key):
            line = None
    if line is None:
        summary = f"{source.files[0].name.removesuffix('.output.jsonl')}.summary.json"
        raise StoreError(
            f"the results of batch {source.batch} in {source.files[0].parent} are not what was indexed",
            hint=f"remove {summary} there; apply then reads the results again, and fetches what is missing",
        )
    return answer_of(line)


def _recovered_row(data: bytes, source: AnswerSource, key: str) -> dict[str, Any]:
    """Return the row of `key` recovered from an output. Raises StoreError if it is damaged."""
    row: Any = None
    with suppress(orjson.JSONDecodeError):
        row = orjson.loads(data)
    if not isinstance(row, dict) or row.get("request") != key:
        raise StoreError(
            f"{source.files[OUTPUT_FILE]} is damaged, which keeps answers of batch {source.batch}",
            hint="restore it from a backup. Without one, remove it; these answers then become unknown",
        )
    return row


def _kept(old: Mapping[str, Any], check: Check) -> dict[str, Any]:
    """Return the fields of an old row. Parse its text again: it may have only some parsed fields."""
    fields = {name: old.get(name) for name in (*OUTPUT_FIELDS, TOOL_CALLS)}
    if fields["error"] is not None:
        return fields
    answer = answer_of_row(old)
    if answer.error is not None:
        return {**fields, "text": answer.text or None, "error": _error(answer)}
    if answer.text is not None or answer.calls:
        answer, parsed = check(answer)
        if answer.error is None and (parsed is not None or answer.text is not None):
            fields["parsed"] = parsed
    return fields


def _row(answer: Answer, parsed: Any, key: str, batch: str | None) -> dict[str, Any]:
    usage = None
    # An empty answer, or one that does not fit the schema, was billed too.
    if answer.error is None or answer.error[0] == INVALID or answer.kind == ErrorKind.BILLED:
        usage = row_usage(
            Tokens(
                answer.input_tokens,
                answer.output_tokens,
                answer.cached_tokens,
                answer.written_tokens,
                answer.written_hour_tokens,
            )
        )
    return {
        "text": answer.text,
        "parsed": parsed,
        TOOL_CALLS: [call._asdict() for call in answer.calls] or None,
        "finish_reason": answer.finish_reason,
        "refusal": answer.refusal,
        "usage": usage,
        "model": answer.model,
        "error": _error(answer),
        "request": key,
        "batch": batch,
    }


def _error(answer: Answer) -> dict[str, str] | None:
    return None if answer.error is None else {"code": answer.error[0], "message": answer.error[1]}
