"""Index result files: which line answers which request key.

Every line is kept. Duplicate, unknown and malformed lines are counted and skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import orjson

from runner.base.digest import sha256_file
from runner.base.keys import parse_key
from runner.base.retryable import ErrorKind
from runner.outputs.line_scanner import Marks, ScannedLine, repaired, scan_line
from runner.outputs.reader import OUTPUT_FILE
from runner.outputs.result_lines import INVALID, answer_of_row
from runner.outputs.tolerant_json import REPAIRS
from runner.providers.protocol import BatchError, Progress
from runner.state.results import (
    ENTRY,
    PARSER_VERSION,
    CustomIdMap,
    Entries,
    ResultIndex,
    ResultStore,
    Summary,
    entries_of,
)


def restore(
    store: ResultStore,
    batch_id: str,
    mapping: CustomIdMap,
    errors: Sequence[BatchError] = (),
    progress: Progress | None = None,
) -> ResultIndex | None:
    """Rebuild a missing index from stored files, if any. Raises StoreError.

    `errors`: why the whole batch failed.
    """
    with store.locked(batch_id):
        return restore_locked(store, batch_id, mapping, errors, progress)


def restore_locked(
    store: ResultStore,
    batch_id: str,
    mapping: CustomIdMap,
    errors: Sequence[BatchError],
    progress: Progress | None = None,
) -> ResultIndex | None:
    """Rebuild the index. The caller holds the results' lock."""
    stored = store.load(batch_id)
    files = store.files(batch_id)
    if stored is not None or not any(path.exists() for path in files):
        return stored
    entries, summary = index(files, mapping, errors, progress)
    before = store.load(batch_id, any_reading=True)
    if before is None:
        return store.save(batch_id, entries, replace(summary, partial=True))
    old = before.summary
    whole = replace(
        summary,
        partial=old.partial,
        failure=old.failure,
        failure_codes=old.failure_codes,
        failure_lines=old.failure_lines,
    )
    return store.save(batch_id, entries, whole)


def index(
    files: Sequence[Path], mapping: CustomIdMap, errors: Sequence[BatchError] = (), progress: Progress | None = None
) -> tuple[Entries, Summary]:
    """Return sorted entries and a summary of result files, which may be missing. Their order numbers them.

    `errors`: why the whole batch failed.
    """
    reading = _Reading(mapping, progress)
    size = sum(path.stat().st_size for path in files if path.exists())
    if progress is not None and size:
        progress(0, size)
    with ThreadPoolExecutor(1) as executor:
        digests = [executor.submit(sha256_file, path) if path.exists() else None for path in files[:2]]
        for number, path in enumerate(files):
            if path.exists():
                (reading.take_rows if number == OUTPUT_FILE else reading.take)(number, path)
    found = np.concatenate([np.zeros(0, ENTRY), *reading.entries])
    entries = entries_of(found)
    entries, never_sent = mapping.only_sent(entries)
    # A row with an answer that does not fit the schema still counts as an answer.
    unfit = (entries["file"] == OUTPUT_FILE) & (entries["code"] == reading.codes.get((INVALID, ErrorKind.REFUSED), -1))
    answers = int(((entries["code"] == 0) | unfit).sum())
    kinds = tuple(int(kind) for _, kind in reading.codes)
    empty = [number for number, kind in enumerate(kinds, 1) if kind in {ErrorKind.EMPTY, ErrorKind.BILLED}]
    summary = Summary(
        answers=answers,
        failures=len(entries) - answers,
        duplicates=len(found) - len(entries) - never_sent,
        unknown=reading.unknown + never_sent,
        malformed=reading.malformed,
        codes=tuple(code for code, _ in reading.codes),
        output_digest=digests[0].result() if digests[0] else "",
        error_digest=digests[1].result() if digests[1] else "",
        models=tuple(sorted(reading.models)),
        tokens=(reading.tokens[0], reading.tokens[1], reading.tokens[2]),
        failure=tuple(_failure(e.code, e.message, e.line) for e in errors),
        failure_codes=tuple(e.code for e in errors),
        failure_lines=tuple(e.line or 0 for e in errors),
        kinds=kinds,
        empty=int(np.isin(entries["code"], empty).sum()),
        cut=reading.count(Marks.CUT),
        odd_usage=reading.count(Marks.ODD_USAGE),
        repaired=tuple((words, n) for repair, words in REPAIRS.items() if (n := reading.count(repaired(repair)))),
        written=(reading.tokens[3], reading.tokens[4]),
        reading=PARSER_VERSION,
    )
    return entries, summary


_BLOCK = 1 << 18
"""Bytes of lines to process at a time; more would not fit in the processor's cache."""


_MOST_CODES = 1_000


_MOST_MODELS = 10
"""Model names to keep of a batch. They are untrusted, and each line could have another."""


class _Reading:
    def __init__(self, mapping: CustomIdMap, progress: Progress | None) -> None:
        self._mapping = mapping
        self._progress = progress
        self.entries: list[Entries] = []
        self.codes: dict[tuple[str, ErrorKind], int] = {}
        self.models: set[str] = set()
        self.tokens = [0, 0, 0, 0, 0]
        self._marks = Counter[int]()
        self.unknown = 0
        self.malformed = 0

    def take(self, number: int, path: Path) -> None:
        end = 0
        with path.open("rb") as file:
            while lines := file.readlines(_BLOCK):
                seen, places, begin = [], [], end
                for line in lines:
                    start, end = end, end + len(line)
                    found = scan_line(line)
                    if found is None:
                        self.malformed += not line.isspace()
                        continue
                    seen.append(found)
                    places.append((start, len(line.rstrip(b"\r\n"))))
                if seen:
                    self._keep(number, seen, places)
                if self._progress is not None:
                    self._progress(end - begin, 0)

    def take_rows(self, number: int, path: Path) -> None:
        """Read rows recovered from an output, which have their keys."""
        found, end = [], 0
        with path.open("rb") as file:
            for line in file:
                start, end = end, end + len(line)
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = None
                key = parse_key(row.get("request")) if isinstance(row, dict) else None
                if key is None:
                    self.malformed += not line.isspace()
                    continue
                answer = answer_of_row(row)
                code = self._code(answer.error[0] if answer.error else None, answer.kind)
                found.append((key, start, len(line.rstrip(b"\r\n")), code, number))
        self.entries.append(np.array(found, ENTRY))
        if self._progress is not None:
            self._progress(end, 0)

    def _keep(self, number: int, seen: Sequence[ScannedLine], places: Sequence[tuple[int, int]]) -> None:
        """Add lines with known keys; `places` are offsets and lengths."""
        keys, known = self._mapping.keys_of([one[0] for one in seen])
        if not known.all():
            self.unknown += int((~known).sum())
            seen, places = list(compress(seen, known)), list(compress(places, known))
            keys = keys[known]
        if not seen:
            return
        _, errors, kinds, models, *counts, marks = zip(*seen, strict=True)
        made = np.zeros(len(seen), ENTRY)
        made["key"], made["file"] = keys, number
        made["offset"], made["length"] = zip(*places, strict=True)
        if any(errors):
            made["code"] = list(map(self._code, errors, kinds))
        if any(marks):
            self._marks.update(mark for mark in marks if mark)
        self.entries.append(made)
        for model in dict.fromkeys(models):
            if model and len(self.models) < _MOST_MODELS:
                self.models.add(model[:100])
        for position, count in enumerate(counts):
            self.tokens[position] += sum(count)

    def count(self, mark: int) -> int:
        return sum(lines for marks, lines in self._marks.items() if marks & mark)

    def _code(self, error: str | None, kind: ErrorKind) -> int:
        if error is None:
            return 0
        known = (error, kind) in self.codes or len(self.codes) < _MOST_CODES
        return self.codes.setdefault((error if known else "other_error", kind), len(self.codes) + 1)


def _failure(code: str, message: str, line: int | None) -> str:
    where = f"line {line}: " if line is not None else ""
    return f"{where}{message} ({code})"
