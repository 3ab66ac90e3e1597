"""The facts of a report. Their size is bounded for any number of rows."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

from runner.outputs.content import is_cut
from runner.report.rows import AnswerRow, answer_text, is_refused
from runner.report.runs import Run
from runner.state.lockfile_lines import PinsLine

SAMPLES = 8
FAILED = 20
LONGEST = 10
_CODES = 100
_TEXT = 2_000
"""Characters of a text that a report keeps."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The number of values from `low` up to, but not including, `high`."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A row; texts are cut. `prompt` is None if hidden or not found."""

    id: str
    request: str
    prompt: str | None
    text: str
    tokens: int | None
    error: str


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """Counts of one output. `codes` are errors, commonest first; `cut` are answers at the token limit."""

    rows: int
    answered: int
    refused: int
    failed: int
    codes: tuple[tuple[str, int], ...]
    finishes: tuple[tuple[str, int], ...]
    characters: tuple[Bin, ...]
    tokens: tuple[Bin, ...]
    input_tokens: int
    output_tokens: int
    samples: tuple[Shown, ...]
    failures: tuple[Shown, ...]
    longest: tuple[Shown, ...]
    cut: int = 0


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job. `missing` explains an `output` that is None."""

    address: str
    realm: str
    output_path: str
    pins: PinsLine | None
    runs: tuple[Run, ...]
    output: OutputFacts | None
    missing: str = ""


def look(rows: Iterable[AnswerRow]) -> OutputFacts:
    """Count an output's rows. Samples have the smallest request keys: spread, and equal in every run."""
    tally = Counter[str]()
    codes, finishes = Counter[str](), Counter[str]()
    characters, tokens = Counter[int](), Counter[int]()
    used = [0, 0]
    failures: list[AnswerRow] = []
    samples: list[tuple[str, int, AnswerRow]] = []
    longest: list[tuple[int, int, AnswerRow]] = []
    serial = count()
    for row in rows:
        tally["rows"] += 1
        used[0] += row.input_tokens or 0
        used[1] += row.output_tokens or 0
        if row.error is not None:
            tally["failed"] += 1
            code = row.error[0] if row.error[0] in codes or len(codes) < _CODES else "other codes"
            codes[code] += 1
            if len(failures) < FAILED:
                failures.append(row)
            continue
        tally["refused" if is_refused(row) else "answered"] += 1
        tally["cut"] += is_cut(row.finish_reason)
        reason = row.finish_reason or "not said"
        finishes[reason if reason in finishes or len(finishes) < _CODES else "other"] += 1
        known = row.has_text or row.parsed is not None
        length = len(answer_text(row) or "") if known and not is_refused(row) else 0
        if known:
            characters[_bin(length)] += 1
        if row.output_tokens is not None:
            tokens[_bin(row.output_tokens)] += 1
        _keep(longest, (length, -next(serial), row), LONGEST)
        _keep(samples, (_descending(row.request), -next(serial), row), SAMPLES)
    return OutputFacts(
        rows=tally["rows"],
        answered=tally["answered"],
        refused=tally["refused"],
        failed=tally["failed"],
        codes=tuple(codes.most_common()),
        finishes=tuple(finishes.most_common()),
        characters=_bins(characters),
        tokens=_bins(tokens),
        input_tokens=used[0],
        output_tokens=used[1],
        samples=tuple(_shown(row) for _, _, row in sorted(samples, key=lambda s: s[:2], reverse=True)),
        failures=tuple(_shown(row) for row in failures),
        longest=tuple(_shown(row) for _, _, row in sorted(longest, key=lambda s: s[:2], reverse=True)),
        cut=tally["cut"],
    )


def with_prompts(facts: OutputFacts, prompts: Mapping[str, str]) -> OutputFacts:
    """Return the facts with the samples' prompts."""
    samples = tuple(
        replace(row, prompt=_cut(prompts[row.request])) if row.request in prompts else row for row in facts.samples
    )
    return replace(facts, samples=samples)


def _shown(row: AnswerRow) -> Shown:
    error = "" if row.error is None else f"{row.error[0]}: {row.error[1]}"
    return Shown(row.id, row.request, None, _cut(answer_text(row) or ""), row.output_tokens, _cut(error))


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text):,} characters in all)"


_Ranked = TypeVar("_Ranked", bound="tuple[int, int, AnswerRow] | tuple[str, int, AnswerRow]")


def _keep(heap: list[_Ranked], item: _Ranked, size: int) -> None:
    """Keep the `size` greatest items. Serial numbers avoid comparing rows."""
    if len(heap) < size:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)


def _descending(key: str) -> str:
    return key.translate(_TURNED)


_TURNED = str.maketrans("0123456789abcdef", "fedcba9876543210")


def _edges() -> Iterator[int]:
    yield 0
    for power in count():
        for step in (1, 2, 5):
            yield step * 10**power


def _bin(value: int) -> int:
    """Return the lower edge of a bin: 0, 1, 2, 5, 10, 20, 50 and so on."""
    low = 0
    for edge in _edges():
        if edge > value:
            return low
        low = edge
    raise AssertionError("edges never end")


def _bins(counted: Counter[int]) -> tuple[Bin, ...]:
    if not counted:
        return ()
    last = max(counted)
    found: list[Bin] = []
    low = None
    for edge in _edges():
        if low is not None:
            found.append(Bin(low, edge, counted[low]))
        if edge > last:
            break
        low = edge if edge >= min(counted) else None
    return tuple(found)
