"""What batches prove about keys, by key range."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.base.retryable import is_retryable, retryable_codes
from runner.jobspec.loader import JobSpec
from runner.outputs.answer_source import AnswerSource, Failure
from runner.outputs.reader import OUTPUT_FILE, OutputAnswers
from runner.reconciler.observe.batches import BatchRecord, ResultState
from runner.reconciler.plan.classify import Answers, BatchOutcome, Codes, Evidence, SentKeys
from runner.state.results import ResultIndex
from runner.state.sorted_file import FileHandleCache, SortedFile

_MOST_ROUNDS = 254


@dataclass(frozen=True, slots=True)
class _Answered:
    round: int
    entries: SortedFile
    passing: Codes
    later: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    """Keys of a shard without those in `read`."""

    hold: BatchOutcome
    round: int
    keys: SortedFile
    ended: str
    read: tuple[SortedFile, ...]
    later: bool


@dataclass(frozen=True, slots=True)
class KeyFactsReader:
    """The evidence of all batches."""

    sources: tuple[AnswerSource, ...]
    ended: tuple[str, ...]
    failures: tuple[Failure | None, ...]
    answered: tuple[_Answered, ...]
    sent: tuple[_Sent, ...]
    whole: Evidence
    """What holds for all keys, without answers and keys."""

    def evidence(self, files: FileHandleCache, lowest: bytes, after: bytes) -> Evidence:
        """Return the evidence on keys from `lowest` up to, not including, `after` (empty: to the end).

        Read its iterators once. They raise StoreError.
        """
        whole = self.whole
        return Evidence(
            self._answers(files, lowest, after),
            self._held(files, lowest, after),
            whole.blocked,
            whole.unreadable,
            whole.unreadable_since_request,
            whole.rounds,
            whole.ask_unknown,
            whole.retry_failed,
        )

    def _answers(self, files: FileHandleCache, lowest: bytes, after: bytes) -> Iterator[Answers]:
        for number, one in enumerate(self.answered):
            yield Answers(number, one.round, one.entries.between(files, lowest, after), one.passing, one.later)

    def _held(self, files: FileHandleCache, lowest: bytes, after: bytes) -> Iterator[SentKeys]:
        for one in self.sent:
            keys = one.keys.between(files, lowest, after)
            for found in one.read:
                answered = found.between(files, lowest, after)["key"]
                keys = keys[~np.isin(keys, answered, assume_unique=True)]
            yield SentKeys(one.hold, one.round, keys, one.later)


def collect_key_facts(
    spec: JobSpec,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, OutputAnswers],
    *,
    ask_unknown: bool = False,
    retry_failed: bool = False,
    later: Collection[str] = (),
) -> KeyFactsReader:
    """Return the evidence of batches and outputs. `later`: batches that ended after the user asked for retries."""
    answered: list[_Answered] = []
    sent: list[_Sent] = []
    failures: list[Failure | None] = []
    sources: list[AnswerSource] = []
    blocked = unreadable = unreadable_since_request = False
    retry = spec.job.retry

    def add_source(
        known: BatchRecord, entries: SortedFile, codes: tuple[str, ...], kinds: tuple[int, ...], files: tuple[Path, ...]
    ) -> SortedFile:
        ended_later = known.line.batch in later
        answered.append(_Answered(_round(known), entries, retryable_codes(codes, retry.on, kinds), ended_later))
        sources.append(AnswerSource(known.line.batch, files, codes))
        return entries

    for known in batches:
        read: list[SortedFile] = []
        if known.index is not None:
            held = _held_against(spec, known.index)
            read.append(add_source(known, *held, known.index.summary.kinds, known.index.files))
        if known.results is not ResultState.PRESENT and known.line.batch in from_outputs:
            # If results are gone or incomplete, the output may have the rest.
            recovered = from_outputs[known.line.batch]
            read.append(
                add_source(
                    known, recovered.entries, recovered.codes, recovered.kinds, (recovered.lines,) * (OUTPUT_FILE + 1)
                )
            )
        hold = _hold(known, from_outputs, retry.on)
        if known.keys is not None:
            ended = known.state if known.ended else ""
            without = tuple(read) if hold is BatchOutcome.INCOMPLETE else ()
            sent.append(_Sent(hold, _round(known), known.keys, ended, without, known.line.batch in later))
            failures.append(failure_of(known))
        else:
            blocked |= hold is BatchOutcome.IN_FLIGHT
            lost = hold is BatchOutcome.INCOMPLETE
            unreadable |= lost and known.line.batch not in later
            unreadable_since_request |= lost and known.line.batch in later
    whole = Evidence((), (), blocked, unreadable, unreadable_since_request, retry.rounds, ask_unknown, retry_failed)
    ended_words = tuple(one.ended for one in sent)
    return KeyFactsReader(tuple(sources), ended_words, tuple(failures), tuple(answered), tuple(sent), whole)


def failure_of(known: BatchRecord) -> Failure | None:
    """Return why a batch failed, as an error for its rows, or None. One line's reason is not the others'."""
    summary = known.index.summary if known.index is not None else None
    if summary is None or not summary.failure:
        return None
    code, words = summary.failure_codes[0] if summary.failure_codes else "unknown_error", summary.failure[0]
    of_one_line = bool(summary.failure_lines and summary.failure_lines[0])
    return "batch_failed" if of_one_line else code, f"the whole batch failed: {words}"


def _round(known: BatchRecord) -> int:
    """Return a batch's round, bounded to one byte: it may be untrusted."""
    return min(known.line.round, _MOST_ROUNDS)


def _held_against(spec: JobSpec, index: ResultIndex) -> tuple[SortedFile, tuple[str, ...]]:
    if spec.schema is None:
        return index.entries, index.summary.codes
    from runner.outputs.schema_check import AnswerSchema, checked  # noqa: PLC0415  only jobs with a schema need it

    return checked(index, AnswerSchema.of(spec))


def is_read(known: BatchRecord, from_outputs: Mapping[str, OutputAnswers]) -> bool:
    """Return whether store or output have all answers that a batch counts."""
    if known.index is not None:
        return True
    completed = known.completed
    if completed is None or not known.line.ended or known.line.batch not in from_outputs:
        return False
    return from_outputs[known.line.batch].answered >= completed > 0


def is_indexed(known: BatchRecord, from_outputs: Mapping[str, OutputAnswers]) -> bool:
    """Return whether nothing is left to fetch."""
    return known.missing_at_service or is_read(known, from_outputs)


def leaves_open(known: BatchRecord, from_outputs: Mapping[str, OutputAnswers]) -> bool:
    """Return whether a batch may have unanswered requests."""
    if not (known.ended and is_indexed(known, from_outputs)):
        return True
    if known.index is not None:
        lines = known.index.summary.answers + known.index.summary.failures
    else:
        lines = len(from_outputs[known.line.batch].entries) if known.line.batch in from_outputs else known.line.requests
    return lines < known.line.requests


def _hold(known: BatchRecord, from_outputs: Mapping[str, OutputAnswers], on: Sequence[str] | None) -> BatchOutcome:
    if not known.ended:
        return BatchOutcome.IN_FLIGHT
    if not is_read(known, from_outputs):
        return BatchOutcome.INCOMPLETE if known.missing_at_service else BatchOutcome.IN_FLIGHT
    if known.index is None:
        return BatchOutcome.COMPLETE
    summary = known.index.summary
    if summary.delivered < (known.completed or 0):
        return BatchOutcome.INCOMPLETE
    if known.refused:
        return BatchOutcome.REFUSED
    lasting = summary.failure_codes and not all(is_retryable(code, on) for code in summary.failure_codes)
    return BatchOutcome.REJECTED if lasting and not summary.answers else BatchOutcome.COMPLETE
