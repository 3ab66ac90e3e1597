"""Results of an ended batch: downloaded as the service sent them, then indexed by key.

Everything is kept, also what cannot be used; what is doubled, unknown or malformed is counted and passed over. What
lies in the store already is the least that there is afterwards.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
import orjson

from runner.digest import sha256_file
from runner.errors import Malformed, NotFound, NotReady, ProviderError, RateLimited, ServerError, Unreachable
from runner.executor.answers import INVALID, answer_of_row
from runner.executor.glance import Glance, Marks, glance, repaired
from runner.executor.standing import OUTPUT_FILE
from runner.executor.tolerant import REPAIRS
from runner.keys import parse_key
from runner.providers.api import BatchApi, BatchError, Progress, RemoteBatch
from runner.reconciler.retry import ErrorKind
from runner.store.files import sync_file
from runner.store.index import ENTRY, READING, Entries, KeyMap, ResultIndex, ResultStore, Summary, entries_of


def fetch(
    api: BatchApi,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: KeyMap,
    progress: Progress | None = None,
    reading: Progress | None = None,
    *,
    settled: bool = True,
) -> ResultIndex:
    """Download and index the results of `batch`, which has ended; `settled` where that is some time ago.

    `progress` is told of bytes downloaded, `reading` of bytes indexed.

    What comes short of the counts of the service is downloaded once more, from new addresses; what came first and not
    again is kept. A batch that answered nothing has no results; that is an empty index. Raises NotFound
    where results there must be are gone, NotReady where the service does not say that it has ended, and ProviderError
    where they can't be read now.
    """
    if not batch.ended:
        raise NotReady(f"batch {batch.batch_id} is said to be {batch.status}", status=200)
    counted = batch.counts.completed + batch.counts.failed
    if store.load(batch.batch_id) is None:
        lying = restore(store, batch.batch_id, mapping, _errors(batch), reading)
        if lying is not None and lying.summary.lines >= counted > 0:
            return lying
    once = partial(_fetched, api, store, batch, mapping, progress, reading, settled=settled)
    found = once()
    if found.summary.lines >= counted:
        return found
    try:
        return once()
    except (Unreachable, ServerError, RateLimited):
        raise
    except ProviderError:
        return found


def restore(
    store: ResultStore,
    batch_id: str,
    mapping: KeyMap,
    errors: Sequence[BatchError] = (),
    progress: Progress | None = None,
) -> ResultIndex | None:
    """The index of a batch, made again from what lies in the store where a crash, or a person, left it without.

    None where nothing lies there. `errors` say why the whole batch failed. Raises StoreError.
    """
    with store.locked(batch_id):
        return _restored(store, batch_id, mapping, errors, progress)


def _restored(
    store: ResultStore, batch_id: str, mapping: KeyMap, errors: Sequence[BatchError], progress: Progress | None = None
) -> ResultIndex | None:
    standing = store.load(batch_id)
    files = store.files(batch_id)
    if standing is not None or not any(path.exists() for path in files):
        return standing
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


def _fetched(
    api: BatchApi,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: KeyMap,
    progress: Progress | None,
    reading: Progress | None,
    *,
    settled: bool,
) -> ResultIndex:
    """Download and index results, beside what stands here already: nothing that came once is lost."""
    with store.fresh(batch.batch_id) as fresh:
        whole = _download(api, batch, fresh, progress, settled=settled)
        files, errors = (*fresh, store.rows(batch.batch_id)), _errors(batch)
        entries, summary = index(files, mapping, errors, reading)
        with store.locked(batch.batch_id):
            standing = _restored(store, batch.batch_id, mapping, errors)
            if standing is not None and _carry_over(standing, entries, fresh):
                entries, summary = index(files, mapping, errors, reading)
            summary = replace(summary, partial=not whole)
            if standing is not None and _held(standing.summary) >= _held(summary):
                return standing  # others may be reading it
            return store.take(batch.batch_id, fresh, entries, summary)


def _carry_over(standing: ResultIndex, entries: Entries, fresh: tuple[Path, Path]) -> bool:
    """Write behind what came the lines that stand here and did not come again; whether there were any."""
    old = standing.entries.all()
    come = entries[entries["file"] < len(fresh)]
    again = np.where(
        old["code"] == 0, np.isin(old["key"], come["key"][come["code"] == 0]), np.isin(old["key"], come["key"])
    )
    for number, path in enumerate(fresh):
        missing = old[~again & (old["file"] == number)]
        if not len(missing):
            continue
        with standing.files[number].open("rb") as source, path.open("ab+") as target:
            if target.tell():
                target.seek(-1, os.SEEK_END)
                target.write(b"" if target.read(1) == b"\n" else b"\n")
            for line in np.sort(missing, order="offset"):
                source.seek(int(line["offset"]))
                target.write(source.read(int(line["length"])) + b"\n")
        sync_file(path)
    return bool((~again & (old["file"] < len(fresh))).any())


def _held(summary: Summary) -> tuple[int, int, bool]:
    return summary.answers, summary.failures, not summary.partial


def _download(
    api: BatchApi, batch: RemoteBatch, files: tuple[Path, Path], progress: Progress | None, *, settled: bool
) -> bool:
    """Download what there is; whether that is all that the service counts files for."""
    counts = batch.counts
    try:
        urls = api.results(batch.batch_id)
    except (NotReady, NotFound):
        # Of one that has just ended the counts may be behind, as its results are. One that never came so far as to be
        # counted has failed for what stands in its file.
        counted = 0 < counts.total <= counts.completed + counts.failed
        unchecked = batch.status == "failed" and not counts.total
        behind = not (settled or counted or unchecked)
        if counts.completed or batch.status == "completed" or behind:
            raise
        return True
    for name, path in zip(("output_url", "error_url"), files, strict=True):
        path.unlink(missing_ok=True)
        url = getattr(urls, name)
        if url is None:
            continue
        try:
            api.download(url, path, progress, partial(_renewed, api, batch, name))
        except NotFound:
            all_came = 0 < counts.total <= counts.completed
            if name == "output_url" or urls.output_url is None or not (settled or all_came):
                raise
            path.unlink(missing_ok=True)
            return not counts.failed  # a file may be named that was never written, since nothing failed
        sync_file(path)
    return True


def _renewed(api: BatchApi, batch: RemoteBatch, name: str) -> str:
    url: str | None = getattr(api.results(batch.batch_id), name)
    if url is None:
        raise Malformed(f"the service names a file of batch {batch.batch_id} no more that it named before")
    return url


def _errors(batch: RemoteBatch) -> tuple[BatchError, ...]:
    """Why a whole batch failed."""
    return batch.errors if batch.status == "failed" else ()


def index(
    files: Sequence[Path], mapping: KeyMap, errors: Sequence[BatchError] = (), progress: Progress | None = None
) -> tuple[Entries, Summary]:
    """Sorted entries and a summary of result files, numbered as ENTRY says; any may be missing.

    `errors` say why the whole batch failed.
    """
    reading = _Reading(mapping, progress)
    size = sum(path.stat().st_size for path in files if path.exists())
    if progress is not None and size:
        progress(0, size)
    with ThreadPoolExecutor(1) as beside:
        digests = [beside.submit(sha256_file, path) if path.exists() else None for path in files[:2]]
        for number, path in enumerate(files):
            if path.exists():
                (reading.take_rows if number == OUTPUT_FILE else reading.take)(number, path)
    found = np.concatenate([np.zeros(0, ENTRY), *reading.entries])
    entries = entries_of(found)
    entries, strangers = mapping.only_sent(entries)
    # A row with an answer that does not fit a schema is an answer all the same.
    unfit = (entries["file"] == OUTPUT_FILE) & (entries["code"] == reading.codes.get((INVALID, ErrorKind.REFUSED), -1))
    answers = int(((entries["code"] == 0) | unfit).sum())
    kinds = tuple(int(kind) for _, kind in reading.codes)
    empty = [number for number, kind in enumerate(kinds, 1) if kind in {ErrorKind.EMPTY, ErrorKind.BILLED}]
    summary = Summary(
        answers=answers,
        failures=len(entries) - answers,
        doubled=len(found) - len(entries) - strangers,
        unknown=reading.unknown + strangers,
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
        reading=READING,
    )
    return entries, summary


_BLOCK = 1 << 18
"""Bytes of lines that are read, and then taken in, at a time; more of them leave the processor's cache."""
_MOST_CODES = 1_000
_MOST_MODELS = 10
"""How many names are kept of one batch: they are a stranger's, and there could be one in each line."""


class _Reading:
    """What is gathered while the raw files are read. `entries` are ENTRY records, in the order of the lines."""

    def __init__(self, mapping: KeyMap, progress: Progress | None) -> None:
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
                    found = glance(line)
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
        """Take in rows that were saved from an output: they name their keys themselves, whosever the batch was."""
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

    def _keep(self, number: int, seen: Sequence[Glance], places: Sequence[tuple[int, int]]) -> None:
        """Take in what lines say whose keys are known; `places` are their offsets and lengths."""
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
        """How many lines have a mark."""
        return sum(lines for marks, lines in self._marks.items() if marks & mark)

    def _code(self, error: str | None, kind: ErrorKind) -> int:
        if error is None:
            return 0
        known = (error, kind) in self.codes or len(self.codes) < _MOST_CODES
        return self.codes.setdefault((error if known else "other_error", kind), len(self.codes) + 1)


def _failure(code: str, message: str, line: int | None) -> str:
    where = f"line {line}: " if line is not None else ""
    return f"{where}{message} ({code})"
