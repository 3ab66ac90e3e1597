"""What the batches of an address hold, as evidence about its keys: read from the store a range of keys at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.executor.batches import Known
from runner.executor.standing import OUTPUT_FILE, OutputAnswers
from runner.reconciler.classify import Answers, Codes, Evidence, Held, Hold
from runner.reconciler.retry import may_pass, passing_codes
from runner.spec.load import JobSpec
from runner.store.index import ResultIndex
from runner.store.ranges import OpenFiles, Sorted

_MOST_ROUNDS = 254


@dataclass(frozen=True, slots=True)
class Source:
    """Where an `Answers` number points: the batch, and its files by ENTRY's `file` number."""

    batch: str
    files: tuple[Path, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Answered:
    """What becomes an `Answers`: the entries in their file."""

    round: int
    entries: Sorted
    passing: Codes
    later: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    """What becomes a `Held`: the keys in their file, without those that stand in `read`."""

    hold: Hold
    round: int
    keys: Sorted
    ended: str
    read: tuple[Sorted, ...]
    later: bool


Failure = tuple[str, str]
"""Why a whole batch failed: the service's code and words."""


@dataclass(frozen=True, slots=True)
class Witness:
    """The evidence of all batches, in their files. `sources` are by the number of their `Answers`.

    `ended` says of each `Held`, in a word, how its batch ended, and `failures` why it failed as a whole; empty and None
    if it has not.
    """

    sources: tuple[Source, ...]
    ended: tuple[str, ...]
    failures: tuple[Failure | None, ...]
    answered: tuple[_Answered, ...]
    sent: tuple[_Sent, ...]
    whole: Evidence
    """What holds for all keys, with neither answers nor keys."""

    def about(self, files: OpenFiles, lowest: bytes, after: bytes) -> Evidence:
        """The evidence about keys from `lowest` up to, not including, `after` (empty: to the end).

        It is read as it is gone through, once for one verdict. Raises StoreError then.
        """
        whole = self.whole
        return Evidence(
            self._answers(files, lowest, after),
            self._held(files, lowest, after),
            whole.blocked,
            whole.doubt,
            whole.late_doubt,
            whole.rounds,
            whole.ask_unknown,
            whole.retry_failed,
        )

    def _answers(self, files: OpenFiles, lowest: bytes, after: bytes) -> Iterator[Answers]:
        for number, one in enumerate(self.answered):
            yield Answers(number, one.round, one.entries.between(files, lowest, after), one.passing, one.later)

    def _held(self, files: OpenFiles, lowest: bytes, after: bytes) -> Iterator[Held]:
        for one in self.sent:
            keys = one.keys.between(files, lowest, after)
            for found in one.read:
                answered = found.between(files, lowest, after)["key"]
                keys = keys[~np.isin(keys, answered, assume_unique=True)]
            yield Held(one.hold, one.round, keys, one.later)


def witness(
    spec: JobSpec,
    batches: Sequence[Known],
    standing: Mapping[str, OutputAnswers],
    *,
    ask_unknown: bool = False,
    retry_failed: bool = False,
    later: Collection[str] = (),
) -> Witness:
    """What `batches` say; `standing` are answers that stand in the job's output.

    `retry_failed` is a person's word that what stands failed is asked again, `later` are the batches that ended since.
    """
    answered: list[_Answered] = []
    sent: list[_Sent] = []
    failures: list[Failure | None] = []
    sources: list[Source] = []
    blocked = doubt = late_doubt = False
    retry = spec.job.retry

    def take(
        known: Known, entries: Sorted, codes: tuple[str, ...], kinds: tuple[int, ...], files: tuple[Path, ...]
    ) -> Sorted:
        said = known.line.batch in later
        answered.append(_Answered(_round(known), entries, passing_codes(codes, retry.on, kinds), said))
        sources.append(Source(known.line.batch, files, codes))
        return entries

    for known in batches:
        read: list[Sorted] = []
        if known.index is not None:
            held = _held_against(spec, known.index)
            read.append(take(known, *held, known.index.summary.kinds, known.index.files))
        if (known.index is None or known.short) and known.line.batch in standing:
            # Where results are gone or came short, the output may hold what they do not.
            stood = standing[known.line.batch]
            read.append(take(known, stood.entries, stood.codes, stood.kinds, (stood.lines,) * (OUTPUT_FILE + 1)))
        hold = _hold(known, standing, retry.on)
        if known.keys is not None:
            ended = known.state if known.ended else ""
            without = tuple(read) if hold is Hold.LOST else ()
            sent.append(_Sent(hold, _round(known), known.keys, ended, without, known.line.batch in later))
            failures.append(failure_of(known))
        else:
            blocked |= hold is Hold.FLIGHT
            lost = hold is Hold.LOST
            doubt |= lost and known.line.batch not in later
            late_doubt |= lost and known.line.batch in later
    whole = Evidence((), (), blocked, doubt, late_doubt, retry.rounds, ask_unknown, retry_failed)
    ended_words = tuple(one.ended for one in sent)
    return Witness(tuple(sources), ended_words, tuple(failures), tuple(answered), tuple(sent), whole)


def failure_of(known: Known) -> Failure | None:
    """Why a whole batch failed, as the error of a row in it; None if the service gave no reason.

    If the reason is about one line, the other rows of the batch only share its fate.
    """
    summary = known.index.summary if known.index is not None else None
    if summary is None or not summary.failure:
        return None
    code, words = summary.failure_codes[0] if summary.failure_codes else "unknown_error", summary.failure[0]
    of_one_line = bool(summary.failure_lines and summary.failure_lines[0])
    return "batch_failed" if of_one_line else code, f"the whole batch failed: {words}"


def _round(known: Known) -> int:
    """A batch's round, as far as one byte of a verdict holds it; it may come from a service's metadata."""
    return min(known.line.round, _MOST_ROUNDS)


def _held_against(spec: JobSpec, index: ResultIndex) -> tuple[Sorted, tuple[str, ...]]:
    """An index's entries and codes; where the job has a schema, answers that do not fit it are errors."""
    if spec.schema is None:
        return index.entries, index.summary.codes
    from runner.executor.validity import AnswerSchema, checked  # noqa: PLC0415  only jobs with a schema need it

    return checked(index, AnswerSchema.of(spec))


def is_read(known: Known, standing: Mapping[str, OutputAnswers]) -> bool:
    """Whether all answers that an ended batch counts can be read here, from its results or from the output."""
    if known.index is not None:
        return True
    completed = known.completed
    if completed is None or not known.line.ended or known.line.batch not in standing:
        return False
    return standing[known.line.batch].answered >= completed > 0


def is_indexed(known: Known, standing: Mapping[str, OutputAnswers]) -> bool:
    """Whether nothing is left to fetch of an ended batch: its answers can be read here, or are gone for good."""
    return known.gone or is_read(known, standing)


def leaves_open(known: Known, standing: Mapping[str, OutputAnswers]) -> bool:
    """Whether a batch may hold requests that no line answers: it is in flight, or ended before all were done."""
    if not (known.ended and is_indexed(known, standing)):
        return True
    if known.index is not None:
        lines = known.index.summary.answers + known.index.summary.failures
    else:
        lines = len(standing[known.line.batch].entries) if known.line.batch in standing else known.line.requests
    return lines < known.line.requests


def _hold(known: Known, standing: Mapping[str, OutputAnswers], on: Sequence[str] | None) -> Hold:
    if not known.ended:
        return Hold.FLIGHT
    if not is_read(known, standing):
        return Hold.LOST if known.gone else Hold.FLIGHT
    if known.index is None:
        return Hold.SPENT
    summary = known.index.summary
    if summary.delivered < (known.completed or 0):
        return Hold.LOST
    if known.refused:
        return Hold.REFUSED
    lasting = summary.failure_codes and not all(may_pass(code, on) for code in summary.failure_codes)
    return Hold.DEAD if lasting and not summary.answers else Hold.SPENT
