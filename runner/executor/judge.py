"""Desired against Actual, key by key: runs the reconciler's `classify` over a spool's buckets and keeps the verdicts.

Evidence is put together from batches here; the verdicts land in the spool's `asks`, in row order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.executor.batches import Known
from runner.executor.standing import OUTPUT_FILE, OutputAnswers
from runner.planner.asks import ASK, AskWriter
from runner.planner.render import Desired
from runner.planner.spool import keys_of
from runner.reconciler.classify import (
    Answers,
    Counter,
    Evidence,
    Held,
    Hold,
    KeyState,
    Tally,
    Verdict,
    classify,
    unanswered,
)
from runner.reconciler.retry import may_pass, passing_codes
from runner.store.index import ENTRY, Entries, ResultIndex, release


@dataclass(frozen=True, slots=True)
class Source:
    """Where an `Answers` number points: the batch, and its files by ENTRY's `file` number."""

    batch: str
    files: tuple[Path, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a whole job. `sources` are by the number that stands in asks, less one."""

    tally: Tally
    sources: tuple[Source, ...]
    used: frozenset[str]


def judge(
    desired: Desired,
    batches: Sequence[Known],
    standing: dict[str, OutputAnswers],
    *,
    ask_unknown: bool = False,
    retry_failed: bool = False,
) -> Judged:
    """Judge every ask of `desired`; `standing` are answers that stand in its output."""
    job = desired.spec.job
    answers: list[Answers] = []
    held: list[Held] = []
    sources: list[Source] = []
    blocked = doubt = False
    for known in batches:
        read: list[Entries] = []
        if known.index is not None:
            entries, codes = _held_against(desired.spec.schema, known.index)
            read.append(entries)
            sources.append(Source(known.line.batch, known.index.files, codes))
            passing = passing_codes(codes, job.retry.on)
            answers.append(Answers(len(sources) - 1, known.line.round, entries, passing))
        if (known.index is None or known.short) and known.line.batch in standing:
            # Where results are gone or came short, the output may hold what they do not.
            stood = standing[known.line.batch]
            read.append(stood.entries)
            sources.append(Source(known.line.batch, (stood.lines,) * (OUTPUT_FILE + 1), stood.codes))
            passing = passing_codes(stood.codes, job.retry.on)
            answers.append(Answers(len(sources) - 1, known.line.round, stood.entries, passing))
        hold = _hold(known, standing, job.retry.on)
        if known.keys is not None:
            keys = known.keys
            if hold is Hold.LOST:
                for found in read:
                    keys = keys[~np.isin(keys, found["key"], assume_unique=True)]
            held.append(Held(hold, known.line.round, keys, known.state if known.ended else ""))
        else:
            blocked |= hold is Hold.FLIGHT
            doubt |= hold is Hold.LOST
    evidence = Evidence(tuple(answers), tuple(held), blocked, doubt, job.retry.rounds, ask_unknown, retry_failed)
    return _fold(desired, evidence, sources)


def _held_against(schema: Mapping[str, Any] | None, index: ResultIndex) -> tuple[Entries, tuple[str, ...]]:
    """An index's entries and codes; where the job has a schema, answers that do not fit it are errors."""
    if schema is None:
        return index.entries, index.summary.codes
    from runner.executor.validity import AnswerSchema, checked  # noqa: PLC0415  only jobs with a schema need it

    return checked(index, AnswerSchema(schema))


def is_read(known: Known, standing: dict[str, OutputAnswers]) -> bool:
    """Whether all answers that an ended batch counts can be read here, from its results or from the output."""
    if known.index is not None:
        return True
    completed = known.completed
    if completed is None or not known.line.ended or known.line.batch not in standing:
        return False
    return standing[known.line.batch].answered >= completed > 0


def is_indexed(known: Known, standing: dict[str, OutputAnswers]) -> bool:
    """Whether nothing is left to fetch of an ended batch: its answers can be read here, or are gone for good."""
    return known.gone or is_read(known, standing)


def leaves_open(known: Known, standing: dict[str, OutputAnswers]) -> bool:
    """Whether a batch may hold requests that no line answers: it is in flight, or ended before all were done."""
    if not (known.ended and is_indexed(known, standing)):
        return True
    if known.index is not None:
        lines = known.index.summary.answers + known.index.summary.failures
    else:
        lines = len(standing[known.line.batch].entries) if known.line.batch in standing else known.line.requests
    return lines < known.line.requests


def _hold(known: Known, standing: dict[str, OutputAnswers], on: Sequence[str] | None) -> Hold:
    if not known.ended:
        return Hold.FLIGHT
    if not is_read(known, standing):
        return Hold.LOST if known.gone else Hold.FLIGHT
    if known.index is None:
        return Hold.SPENT
    summary = known.index.summary
    if summary.answers < (known.completed or 0):
        return Hold.LOST
    lasting = summary.failure_codes and not all(may_pass(code, on) for code in summary.failure_codes)
    return Hold.DEAD if lasting and not summary.answers else Hold.SPENT


def _fold(desired: Desired, evidence: Evidence, sources: Sequence[Source]) -> Judged:
    spool = desired.spool
    counter = Counter()
    used = np.zeros(len(sources), bool)
    with AskWriter(spool) as asks:
        for lowest, after, rows, digests in spool.groups():
            part = evidence.between(lowest, after)
            lines = np.concatenate([one.entries for one in part.answers] or [np.empty(0, ENTRY)])
            sizes = np.array([len(one.entries) for one in part.answers], np.int64)
            begins = np.cumsum(sizes) - sizes - np.array([one.first for one in part.answers], np.int64)
            rank, size = _ranks(digests)
            for replicate in range(spool.replicates):
                ordinals = np.full(len(rows), replicate) if spool.dedupe else replicate * size + rank
                keys = keys_of(digests, ordinals.astype(np.uint32))
                verdict = classify(keys, part)
                first = (rank == 0) if spool.dedupe else np.ones(len(rows), bool)
                target = np.zeros(len(rows), ASK)
                target["ordinal"], target["state"], target["round"] = ordinals, verdict.state, verdict.round
                target["first"] = first
                target["source"] = verdict.source + 1
                chosen = np.flatnonzero(verdict.source >= 0)
                if len(chosen):
                    numbers = verdict.source[chosen]
                    found = lines[begins[numbers] + verdict.entry[chosen]]
                    for name in ("offset", "length", "file"):
                        target[name][chosen] = found[name]
                    used |= np.bincount(numbers, minlength=len(used)) > 0
                asks.add(rows, replicate, target)
                counter.add(verdict.state[first], verdict.round[first])
                for state in (KeyState.RETRY, KeyState.FAILED):
                    _explain(counter, state, keys, verdict, first, part, sources)
            for mapped in (*(one.entries for one in evidence.answers), *(one.keys for one in evidence.held)):
                release(mapped)
    answering = frozenset(source.batch for number, source in enumerate(sources) if used[number])
    return Judged(counter.tally(spool.rows), tuple(sources), answering)


def _explain(
    counter: Counter,
    state: KeyState,
    keys: npt.NDArray[np.bytes_],
    verdict: Verdict,
    first: npt.NDArray[np.bool_],
    part: Evidence,
    sources: Sequence[Source],
) -> None:
    """Count why keys are in a state: the code of their error, or how the batch ended that left them unanswered."""
    here = first & (verdict.state == state)
    if not here.any():
        return
    for one in part.answers:
        chosen = here & (verdict.source == one.number)
        if chosen.any():
            codes = np.bincount(one.entries["code"][verdict.entry[chosen] - one.first])
            for number in np.flatnonzero(codes).tolist():
                counter.because(state, sources[one.number].codes[number - 1], int(codes[number]))
    for ended, count in unanswered(keys[here & (verdict.source < 0)], part.held):
        counter.because(state, f"{ended} unanswered", count)


def _ranks(digests: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For sorted digests: each one's place among its equals, and how many equals there are."""
    count = len(digests)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], digests[1:] != digests[:-1])))
    sizes = np.diff(np.concatenate((starts, [count])))
    return np.arange(count) - np.repeat(starts, sizes), np.repeat(sizes, sizes)


def wanted_round(number: int, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which asks are submitted in round `number`: the first row of each missing key."""
    chosen: npt.NDArray[np.bool_] = (asks["state"] <= KeyState.RETRY) & (asks["round"] == number) & (asks["first"] == 1)
    return chosen
