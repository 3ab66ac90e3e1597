"""Runs of a job, put together from its lockfile: batches made one after another under the same pins."""

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
    """One run: what was asked because of one state of spec, templates and input. Times are as the lockfile has them.

    `cost` is USD of the batches whose cost is recorded; `unpriced` counts those that have ended without one. `invalid`
    are answers of this run that stand in the output as not fitting the schema; None where the output does not tell.
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
        """Requests of all batches; one asked again in a later round counts again."""
        return sum(batch.requests for batch in self.batches)

    @property
    def completed(self) -> int:
        """Requests that were answered; what the service counts as answered and does not fit the schema is left out."""
        return self._said - self._misfits

    @property
    def failed(self) -> int:
        """Requests that came back as errors, in any round, and those whose answer stands as invalid."""
        return sum(batch.counts.failed for batch in self.batches if batch.counts) + self._misfits

    @property
    def _said(self) -> int:
        """Answered, as the service counts."""
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
        """Input, output and cached tokens as the service counts them."""
        used = [batch.usage for batch in self.batches if batch.usage]
        return (
            sum(usage.input_tokens for usage in used),
            sum(usage.output_tokens for usage in used),
            sum(usage.cached_tokens for usage in used),
        )

    @property
    def cost(self) -> Decimal | None:
        """USD as recorded; None where no batch has a cost."""
        known = [Decimal(str(batch.cost)) for batch in self.batches if batch.cost is not None]
        return sum(known, Decimal(0)) if known else None

    @property
    def expected(self) -> Decimal | None:
        """USD that were estimated for the batches whose cost is recorded; None where one has no estimate."""
        costs = [b.estimate.cost if b.estimate else None for b in self.batches if b.cost is not None]
        return total(None if cost is None else Decimal(str(cost)) for cost in costs) if costs else None

    @property
    def unpriced(self) -> int:
        """Batches that have ended without a recorded cost."""
        return sum(batch.ended and batch.cost is None for batch in self.batches)

    @property
    def duration(self) -> timedelta | None:
        """From the first batch's creation to the last one's end; None while it runs, or where no time is known."""
        if self.running or not self.started or not self.ended:
            return None
        return datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)

    @property
    def outcome(self) -> str:
        """How it went, in words."""
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
    """Return the runs of a job in one realm, oldest first.

    `invalid` counts answers that do not fit the schema by batch, as the output holds them; those of an output that does
    not name batches stand under "", and are the newest run's.
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
