"""Classify request keys by what the batches of their address have. Pure, on arrays.

The rules are DESIGN's table in section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from runner.base.sorted_keys import prefixes
from runner.planner.spool.decisions import KeyState

LINE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("code", "<u2"), ("file", "u1")])
"""Position and error code of a result line; fields as in the store's entries."""
Keys = npt.NDArray[np.bytes_]
Codes = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """Results of one ended batch, sorted by key. `passing[n]`: code n is transient.

    Order sources by (created_at, batch id). `later`: it ended after a user asked for retries.
    """

    number: int
    round: int
    entries: npt.NDArray[np.void]
    passing: Codes
    later: bool = False


class BatchOutcome(Enum):
    """What a key's presence in a batch means."""

    IN_FLIGHT = "flight"
    """The batch has not ended, or its results are not indexed yet."""
    COMPLETE = "spent"
    """All indexed: a key without a line was not billed, and used up a round."""
    INCOMPLETE = "lost"
    """Ended, but results are unreadable or too few: a key without a line may have been billed."""
    REJECTED = "dead"
    """The batch failed as a whole and permanently; nothing was billed."""
    REFUSED = "refused"
    """The queue was full: nothing was billed, and no round is used up."""


@dataclass(frozen=True, slots=True)
class SentKeys:
    """Sorted keys of one batch's shard; if INCOMPLETE, those without a result line.

    later: it ended after a user asked for unknown requests.
    """

    hold: BatchOutcome
    round: int
    keys: Keys
    later: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of some keys. Read `answers` and `held` once.

    blocked: a batch in flight has unknown keys, so it may have any unanswered key.
    unreadable: an ended batch without results has unknown keys.
    unreadable_since_request: one ended after a user asked for unknown requests.
    """

    answers: Iterable[Answers] = ()
    held: Iterable[SentKeys] = ()
    blocked: bool = False
    unreadable: bool = False
    unreadable_since_request: bool = False
    rounds: int = 1
    ask_unknown: bool = False
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Each desired key's state, next round and result line.

    source: number of an `Answers`, or -1.
    unanswered_by: number in `held` of the newest batch without an answer, or -1.
    """

    state: npt.NDArray[np.uint8]
    round: npt.NDArray[np.uint8]
    source: npt.NDArray[np.int64]
    line: npt.NDArray[np.void]
    unanswered_by: npt.NDArray[np.int32]


def classify(keys: Keys, evidence: Evidence) -> Verdict:
    """Classify `keys`: any order, duplicates allowed, fastest if sorted. The cost is the evidence's size."""
    distinct, inverse = _distinct(keys)
    verdict = _classify_distinct(distinct, evidence)
    if inverse is None:
        return verdict
    return Verdict(
        verdict.state[inverse],
        verdict.round[inverse],
        verdict.source[inverse],
        verdict.line[inverse],
        verdict.unanswered_by[inverse],
    )


def _classify_distinct(keys: Keys, evidence: Evidence) -> Verdict:
    facts = _KeyFacts(keys, evidence.unreadable_since_request)
    for answers in evidence.answers:
        facts.add_answers(answers)
    for number, sent in enumerate(evidence.held):
        if sent.hold is not BatchOutcome.REFUSED:
            facts.add_sent(number, sent)
    return facts.verdict(evidence)


class _KeyFacts:
    def __init__(self, keys: Keys, unreadable_since_request: bool) -> None:
        count = len(keys)
        self._keys = _Keys(keys)
        self._source = np.full(count, -1, np.int64)
        self._line = np.zeros(count, LINE)
        self._asked = np.zeros(count, np.uint8)  # rounds used up
        self._answered, self._failed = np.zeros(count, bool), np.zeros(count, bool)
        self._already_released = np.zeros(count, bool)  # `retry_failed` has had its effect
        self._flight, self._dead = np.zeros(count, bool), np.zeros(count, bool)
        self._lost, self._lost_since = np.zeros(count, bool), np.full(count, unreadable_since_request)
        self._left = np.full(count, -1, np.int32)
        self._newest = np.zeros(count, np.int32)  # the round of the batch in `_left`

    def add_answers(self, one: Answers) -> None:
        """Add result lines. An answer beats an error; the first answer wins."""
        lines, at = self._keys.find(one.entries["key"])
        codes = one.entries["code"][lines]
        good, bad = codes == 0, codes > 0
        self._asked[at[bad]] = np.maximum(self._asked[at[bad]], one.round)
        chosen = ~self._answered[at] & (good | (self._source[at] < 0))
        picked, places = lines[chosen], at[chosen]
        self._source[places] = one.number
        for name in LINE.names or ():
            self._line[name][places] = one.entries[name][picked]
        self._answered[at[good]] = True
        self._failed[at[bad & ~one.passing[codes]]] = True
        self._already_released[at] |= one.later

    def add_sent(self, number: int, sent: SentKeys) -> None:
        """Add a batch's keys. Call it after all answers."""
        _, at = self._keys.find(sent.keys)
        self._already_released[at] |= sent.later
        match sent.hold:
            case BatchOutcome.IN_FLIGHT:
                self._flight[at] = True
            case BatchOutcome.INCOMPLETE:
                (self._lost_since if sent.later else self._lost)[at] = True
            case BatchOutcome.REJECTED:
                self._dead[at] = True
            case BatchOutcome.COMPLETE:
                at = at[~self._answered[at]]
                self._asked[at] = np.maximum(self._asked[at], sent.round)
        if sent.hold in {BatchOutcome.COMPLETE, BatchOutcome.REJECTED}:
            at = at[self._newest[at] < sent.round]
            self._newest[at], self._left[at] = sent.round, number

    def verdict(self, evidence: Evidence) -> Verdict:
        state = np.full(len(self._asked), KeyState.ABSENT, np.uint8)
        state[self._asked > 0] = KeyState.RETRY
        state[(self._asked >= evidence.rounds) | self._failed | self._dead] = KeyState.FAILED
        if evidence.retry_failed:
            state[(state == KeyState.FAILED) & ~self._already_released] = KeyState.RETRY
        # A request to retry may be answered in a later batch that can't be read.
        unknown = self._lost_since if evidence.ask_unknown else self._lost_since | self._lost | evidence.unreadable
        state[unknown & (state <= KeyState.RETRY)] = KeyState.UNKNOWN
        self._source[(state == KeyState.UNKNOWN) & ~self._answered] = -1  # an older error is not its state now
        state[self._flight | (evidence.blocked & (state != KeyState.FAILED))] = KeyState.IN_FLIGHT
        state[self._answered] = KeyState.ANSWERED
        return Verdict(state, (self._asked + 1).astype(np.uint8), self._source, self._line, self._left)


def _distinct(keys: Keys) -> tuple[Keys, npt.NDArray[np.int64] | None]:
    new = keys[1:] != keys[:-1]
    if np.all(keys[1:] >= keys[:-1]):
        if np.all(new):
            return keys, None
        starts = np.concatenate(([True], new))
        return keys[starts], np.cumsum(starts) - 1
    return np.unique(keys, return_inverse=True)


class _Keys:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._prefixes = prefixes(keys)
        self._clear = bool(np.all(self._prefixes[1:] > self._prefixes[:-1]))

    def find(self, wanted: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        keys = self._keys
        if not len(keys) or not len(wanted):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # Numbers take a tenth of the time. They suffice if the first bytes of all keys differ.
        at = np.searchsorted(self._prefixes, prefixes(wanted)) if self._clear else np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        found = np.flatnonzero(keys[at] == wanted)
        return found, at[found]


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """Distinct keys by state, and requests by round or cause."""

    rows: int = 0
    answered: int = 0
    failed: int = 0
    in_flight: int = 0
    unknown: int = 0
    submit: tuple[tuple[int, int], ...] = ()
    retried: tuple[tuple[str, int], ...] = ()
    lasting: tuple[tuple[str, int], ...] = ()

    @property
    def requests(self) -> int:
        """All distinct keys."""
        return self.answered + self.failed + self.in_flight + self.unknown + self.missing

    @property
    def missing(self) -> int:
        """Keys that apply may submit now."""
        return sum(count for _, count in self.submit)


class Counter:
    """Adds up verdicts on distinct keys."""

    def __init__(self) -> None:
        self._states = np.zeros(len(KeyState), np.int64)
        self._rounds = np.zeros(256, np.int64)
        self._causes: dict[KeyState, dict[str, int]] = {KeyState.RETRY: {}, KeyState.FAILED: {}}

    def add_cause(self, state: KeyState, cause: str, count: int) -> None:
        """Count keys that are retried or stay failed."""
        self._causes[state][cause] = self._causes[state].get(cause, 0) + count

    def _sorted(self, state: KeyState) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self._causes[state].items(), key=lambda item: (-item[1], item[0])))

    def add(self, state: npt.NDArray[np.uint8], number: npt.NDArray[np.uint8]) -> None:
        """Add a block's states and rounds."""
        self._states += np.bincount(state, minlength=len(KeyState))
        self._rounds += np.bincount(number[state <= KeyState.RETRY], minlength=256)

    def tally(self, rows: int) -> KeyCounts:
        """Return the counts."""
        count = self._states
        return KeyCounts(
            rows,
            int(count[KeyState.ANSWERED]),
            int(count[KeyState.FAILED]),
            int(count[KeyState.IN_FLIGHT]),
            int(count[KeyState.UNKNOWN]),
            tuple((int(number), int(self._rounds[number])) for number in np.flatnonzero(self._rounds)),
            self._sorted(KeyState.RETRY),
            self._sorted(KeyState.FAILED),
        )
