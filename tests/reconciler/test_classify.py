"""The state of a key: DESIGN's table of section 3, case by case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runner.planner.spool.decisions import KeyState
from runner.reconciler.plan.classify import Answers, BatchOutcome, Counter, Evidence, SentKeys, classify
from runner.state.results import ENTRY

A, B, C = (letter * 24 for letter in (b"a", b"b", b"c"))
ANSWER, PASSES, LASTS = 0, 1, 2


def keys(*names: bytes) -> Any:
    return np.sort(np.array(names, "S24"))


def answers(number: int, *lines: tuple[bytes, int], round_: int = 1) -> Answers:
    entries = np.array([(key, 7 * n, 5, code, 0) for n, (key, code) in enumerate(sorted(lines))], ENTRY)
    return Answers(number, round_, entries, np.array([False, True, False]))


def state(evidence: Evidence, key: bytes = A) -> KeyState:
    return KeyState(int(classify(np.array([key], "S24"), evidence).state[0]))


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        pytest.param(Evidence(), KeyState.ABSENT, id="never asked"),
        pytest.param(Evidence((answers(0, (A, ANSWER)),)), KeyState.ANSWERED, id="answered"),
        pytest.param(Evidence((answers(0, (B, ANSWER)),)), KeyState.ABSENT, id="another key is answered"),
        pytest.param(Evidence((answers(0, (A, LASTS)),), rounds=3), KeyState.FAILED, id="an error that lasts"),
        pytest.param(Evidence((answers(0, (A, PASSES)),), rounds=3), KeyState.RETRY, id="an error that may pass"),
        pytest.param(Evidence((answers(0, (A, PASSES)),), rounds=1), KeyState.FAILED, id="no rounds left"),
        pytest.param(
            Evidence((answers(0, (A, PASSES), round_=3),), rounds=3), KeyState.FAILED, id="the last round failed"
        ),
        pytest.param(
            Evidence((answers(0, (A, LASTS)),), rounds=3, retry_failed=True), KeyState.RETRY, id="--retry-failed"
        ),
        pytest.param(
            Evidence((answers(0, (A, LASTS)), answers(1, (A, ANSWER)))),
            KeyState.ANSWERED,
            id="an answer beats an error",
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.IN_FLIGHT, 1, keys(A)),)), KeyState.IN_FLIGHT, id="in a running batch"
        ),
        pytest.param(
            Evidence((answers(0, (A, PASSES)),), (SentKeys(BatchOutcome.IN_FLIGHT, 2, keys(A)),), rounds=3),
            KeyState.IN_FLIGHT,
            id="asked again and running",
        ),
        pytest.param(
            Evidence((answers(0, (A, ANSWER)),), (SentKeys(BatchOutcome.IN_FLIGHT, 1, keys(A)),)),
            KeyState.ANSWERED,
            id="answered, and running elsewhere",
        ),
        pytest.param(Evidence(blocked=True), KeyState.IN_FLIGHT, id="a running batch whose keys nobody knows"),
        pytest.param(
            Evidence((answers(0, (A, ANSWER)),), blocked=True), KeyState.ANSWERED, id="blocked does not hide answers"
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.COMPLETE, 1, keys(A)),), rounds=3),
            KeyState.RETRY,
            id="its batch ended without it",
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.COMPLETE, 3, keys(A)),), rounds=3),
            KeyState.FAILED,
            id="ended without it, thrice",
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.INCOMPLETE, 1, keys(A)),)),
            KeyState.UNKNOWN,
            id="its results can't be read",
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.INCOMPLETE, 1, keys(A)),), ask_unknown=True),
            KeyState.ABSENT,
            id="--ask-unknown",
        ),
        pytest.param(
            Evidence((answers(0, (A, ANSWER)),), (SentKeys(BatchOutcome.INCOMPLETE, 1, keys(A)),)),
            KeyState.ANSWERED,
            id="lost, and found",
        ),
        pytest.param(Evidence(unreadable=True), KeyState.UNKNOWN, id="an unreadable batch whose keys nobody knows"),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.REJECTED, 1, keys(A)),), rounds=3),
            KeyState.FAILED,
            id="its batch failed",
        ),
        pytest.param(
            Evidence(held=(SentKeys(BatchOutcome.REJECTED, 1, keys(A)),), rounds=3, retry_failed=True),
            KeyState.RETRY,
            id="its batch failed, --retry-failed",
        ),
    ],
)
def test_state(evidence: Evidence, expected: KeyState) -> None:
    assert state(evidence) is expected


def test_of_two_answers_the_batch_that_counts_first_wins() -> None:
    verdict = classify(keys(A), Evidence((answers(4, (A, ANSWER)), answers(9, (A, ANSWER)))))
    assert verdict.source.tolist() == [4]


def test_an_answer_is_found_behind_errors_and_at_its_place() -> None:
    evidence = Evidence((answers(0, (A, PASSES), (B, ANSWER)), answers(1, (A, ANSWER), (C, LASTS))), rounds=3)
    verdict = classify(np.array([C, A, B], "S24"), evidence)
    assert verdict.source.tolist() == [1, 1, 0]
    assert verdict.line["offset"].tolist() == [7, 0, 7]
    assert verdict.line["code"].tolist() == [LASTS, ANSWER, ANSWER]


def test_of_batches_that_left_a_key_unanswered_the_newest_round_counts() -> None:
    held = (
        SentKeys(BatchOutcome.COMPLETE, 1, keys(A, B)),
        SentKeys(BatchOutcome.REJECTED, 2, keys(A)),
        SentKeys(BatchOutcome.COMPLETE, 2, keys(A)),
    )
    verdict = classify(keys(A, B, C), Evidence(held=(*held, SentKeys(BatchOutcome.IN_FLIGHT, 3, keys(A, C))), rounds=3))
    assert verdict.unanswered_by.tolist() == [1, 0, -1]


def test_evidence_is_gone_through_once() -> None:
    """It may be read while it is: nothing of a batch is needed when the next one's turn comes."""
    read = (answers(number, (key, ANSWER)) for number, key in enumerate((A, B, C)))
    spent = (SentKeys(BatchOutcome.COMPLETE, 1, keys(key)) for key in (A, B, C))
    verdict = classify(keys(A, B, C), Evidence(read, spent))
    assert verdict.source.tolist() == [0, 1, 2]
    assert set(verdict.state.tolist()) == {KeyState.ANSWERED}


def test_a_round_goes_on_from_the_last_one_that_was_used() -> None:
    evidence = Evidence((answers(0, (A, PASSES), round_=2),), rounds=5)
    assert classify(keys(A, B), evidence).round.tolist() == [3, 1]


def test_counting() -> None:
    counter = Counter()
    counter.add(np.array([0, 1, 2, 3, 4, 5], np.uint8), np.array([1, 2, 1, 1, 1, 1], np.uint8))
    counter.add(np.array([0, 2], np.uint8), np.array([1, 1], np.uint8))
    tally = counter.tally(9)
    assert (tally.answered, tally.failed, tally.in_flight, tally.unknown) == (2, 1, 1, 1)
    assert tally.submit == ((1, 2), (2, 1))
    assert tally.requests == 8
