"""Run `classify` over a job's spool, and keep the verdicts in its `asks`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runner.outputs.answer_source import AnswerSource, Failure
from runner.outputs.reader import OutputAnswers
from runner.planner.render import Desired
from runner.planner.spool.decisions import DECISION, DecisionWriter, KeyState
from runner.planner.spool.spool import keys_of
from runner.reconciler.observe.batches import BatchRecord
from runner.reconciler.observe.key_facts import KeyFactsReader, collect_key_facts
from runner.reconciler.plan.classify import Counter, KeyCounts, Verdict, classify
from runner.state.sorted_file import FileHandleCache


@dataclass(frozen=True, slots=True)
class Classification:
    """A job's verdicts. Source numbers in asks start at 1; higher ones point to `failures`."""

    tally: KeyCounts
    sources: tuple[AnswerSource, ...]
    failures: tuple[Failure | None, ...]
    used: frozenset[str]


def classify_job(
    desired: Desired,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, OutputAnswers],
    *,
    ask_unknown: bool = False,
    retry_failed: bool = False,
    later: Collection[str] = (),
) -> Classification:
    """Classify every row. `from_outputs`: answers in the output. Raises StoreError."""
    spool = desired.spool
    facts = collect_key_facts(
        desired.spec, batches, from_outputs, ask_unknown=ask_unknown, retry_failed=retry_failed, later=later
    )
    counter = Counter()
    used = np.zeros(len(facts.sources), bool)
    with DecisionWriter(spool) as asks, FileHandleCache() as files:
        for lowest, after, rows, digests in spool.groups():
            rank, size = _ranks(digests)
            first = (rank == 0) if spool.dedupe else np.ones(len(rows), bool)
            for replicate in range(spool.replicates):
                ordinals = np.full(len(rows), replicate) if spool.dedupe else replicate * size + rank
                keys = keys_of(digests, ordinals.astype(np.uint32))
                verdict = classify(keys, facts.evidence(files, lowest, after))
                target = np.zeros(len(rows), DECISION)
                target["ordinal"], target["state"], target["round"] = ordinals, verdict.state, verdict.round
                target["first"] = first
                unanswered = (verdict.source < 0) & (verdict.unanswered_by >= 0) & (verdict.state == KeyState.FAILED)
                target["source"] = np.where(unanswered, len(used) + verdict.unanswered_by, verdict.source) + 1
                for name in ("offset", "length", "file"):
                    target[name] = np.where(verdict.source >= 0, verdict.line[name], 0)
                used |= np.bincount(verdict.source + 1, minlength=len(used) + 1)[1:] > 0
                asks.add(rows, replicate, target)
                counter.add(verdict.state[first], verdict.round[first])
                for state in (KeyState.RETRY, KeyState.FAILED):
                    _explain(counter, state, verdict, first, facts)
    answering = frozenset(source.batch for number, source in enumerate(facts.sources) if used[number])
    return Classification(counter.tally(spool.rows), facts.sources, facts.failures, answering)


def _explain(
    counter: Counter, state: KeyState, verdict: Verdict, first: npt.NDArray[np.bool_], facts: KeyFactsReader
) -> None:
    here = first & (verdict.state == state)
    errors = here & (verdict.source >= 0)
    for number in np.flatnonzero(np.bincount(verdict.source[errors])).tolist():
        codes = np.bincount(verdict.line["code"][errors & (verdict.source == number)])
        for code in np.flatnonzero(codes).tolist():
            counter.add_cause(state, facts.sources[number].codes[code - 1], int(codes[code]))
    unanswered = np.bincount(verdict.unanswered_by[here & (verdict.source < 0)] + 1)
    for number in np.flatnonzero(unanswered[1:]).tolist():
        counter.add_cause(state, f"{facts.ended[number]} unanswered", int(unanswered[number + 1]))


def _ranks(digests: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    count = len(digests)
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], digests[1:] != digests[:-1])))
    sizes = np.diff(np.concatenate((starts, [count])))
    return np.arange(count) - np.repeat(starts, sizes), np.repeat(sizes, sizes)


def wanted_round(number: int, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return which rows are submitted in a round: each missing key's first."""
    chosen: npt.NDArray[np.bool_] = (asks["state"] <= KeyState.RETRY) & (asks["round"] == number) & (asks["first"] == 1)
    return chosen
