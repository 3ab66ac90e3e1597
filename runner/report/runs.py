"""Groups a job's batches into runs: consecutive ones with the same pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from runner.money.estimate import total
from runner.reconciler.plan.reasons import why_new
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, PinsLine


@dataclass(frozen=True, slots=True)
class Run:
    """The batches of one state of spec, templates and input. Times are the lockfile's.

    `invalid` counts unfit answers, None if the output does not show them.
    """

    started: str
    ended: str
    model: str
    why: str
    batches: tuple[BatchLine, ...]
    pins: PinsLine | None
    invalid: int | None = None

    @property
    def requests(self) -> int:
        """Requests of all batches; retries count again."""
        return sum(batch.requests for batch in self.batches)

    @property
    def completed(self) -> int:
        """Answered requests, without invalid answers."""
        return self._said - self._misfits

    @property
    def failed(self) -> int:
        """Failed requests of any round, and invalid answers."""
        return sum(batch.counts.failed for batch in self.batches if batch.counts) + self._misfits

    @property
    def _said(self) -> int:
        return sum(batch.counts.completed for batch in self.batches if batch.counts)

    @property
    def _misfits(self) -> int:
        return min(self.invalid or 0, self._said)

    @property
    def running(self) -> int:
        """Batches that have not ended."""
        return sum(not batch.ended for batch in self.batches)

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Input, output and cached tokens."""
        used = [batch.usage for batch in self.batches if batch.usage]
        return (
            sum(usage.input_tokens for usage in used),
            sum(usage.output_tokens for usage in used),
            sum(usage.cached_tokens for usage in used),
        )

    @property
    def cost(self) -> Decimal | None:
        """Recorded USD; None if no batch has a cost."""
        known = [Decimal(str(batch.cost)) for batch in self.batches if batch.cost is not None]
        return sum(known, Decimal(0)) if known else None

    @property
    def expected(self) -> Decimal | None:
        """Estimated USD of batches with a cost; None if an estimate is missing."""
        costs = [b.estimate.cost if b.estimate else None for b in self.batches if b.cost is not None]
        return total(None if cost is None else Decimal(str(cost)) for cost in costs) if costs else None

    @property
    def unpriced(self) -> int:
        """Ended batches without a recorded cost."""
        return sum(batch.ended and batch.cost is None for batch in self.batches)

    @property
    def duration(self) -> timedelta | None:
        """Time from first creation to last end; None while it runs."""
        if self.running or not self.started or not self.ended:
            return None
        return datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)

    @property
    def outcome(self) -> str:
        """The outcome in words."""
        states: dict[str, int] = {}
        for batch in self.batches:
            state = "running" if not batch.ended else batch.state
            states[state] = states.get(state, 0) + 1
        if list(states) == ["completed"]:
            return "completed"
        if len(self.batches) == 1:
            return next(iter(states))
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def runs(lockfile: Lockfile, address: str, realm: str, invalid: Mapping[str, int] | None = None) -> tuple[Run, ...]:
    """Return a job's runs in one realm, oldest first.

    `invalid` counts invalid answers by batch; those under "" belong to the newest run.
    """
    batches = sorted(lockfile.batches_of(address, realm), key=lambda batch: (batch.created_at, batch.batch))
    groups: list[list[BatchLine]] = []
    for batch in batches:
        if groups and groups[-1][-1].pins == batch.pins:
            groups[-1].append(batch)
        else:
            groups.append([batch])
    found: list[Run] = []
    before: PinsLine | None = None
    for group in groups:
        pins = lockfile.pins.get(group[0].pins or "")
        named = ["", *(b.batch for b in group)] if group is groups[-1] else [b.batch for b in group]
        misfits = None if invalid is None else sum(invalid.get(batch, 0) for batch in named)
        found.append(_run(group, pins, before, misfits))
        before = pins or before
    return tuple(found)


_NO_PINS = "adopted from the service; its spec and input are not recorded"


def _run(batches: Sequence[BatchLine], pins: PinsLine | None, before: PinsLine | None, invalid: int | None) -> Run:
    answered = sorted({model for batch in batches for model in batch.models})
    why = _NO_PINS if pins is None else why_new(before, pins)
    return Run(
        started=min((batch.created_at for batch in batches if batch.created_at), default=""),
        ended=max((batch.ended_at or "" for batch in batches), default=""),
        model=pins.model if pins else ", ".join(answered),
        why=why,
        batches=tuple(batches),
        pins=pins,
        invalid=invalid,
    )
