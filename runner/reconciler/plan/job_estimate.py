"""Estimate tokens and cost of a job's requests; price ended batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from runner.jobspec.budget_options import BudgetLimits
from runner.jobspec.loader import JobSpec
from runner.jobspec.models import Job
from runner.jobspec.settings import Settings
from runner.jobspec.tools import cache_ttl
from runner.money.budget import Budget, overruns
from runner.money.estimate import (
    Caching,
    Estimate,
    InFlightUsage,
    Measured,
    input_bounded_by_bytes,
    input_from_bytes,
    input_from_history,
    output_range,
    token_limit,
    total,
)
from runner.money.prices import Price, Usage, find_price, usd
from runner.money.token_sample import Spread, Tokens, extrapolate
from runner.money.tokens import Certainty, TokenCounter, encoding_of
from runner.outputs.result_lines import INVALID, NO_TEXT
from runner.planner.render import Desired
from runner.planner.shards import Selector, cut, measure
from runner.planner.spool.decisions import KeyState
from runner.reconciler.observe.key_facts import is_indexed
from runner.reconciler.observe.observe import Observed
from runner.reconciler.plan.classify_job import wanted_round
from runner.reconciler.plan.plan import JobPlan, Submit
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, EstimateField, PinsLine, PriceField, UsageField

SAMPLE = 2_000
"""Requests to count tokens of, as a sample. `--exact` counts all."""
LOCAL_MODEL = "local:smollm"
"""The realm whose model answers under any name, with its own tokenizer and chat template."""


def estimate(seen: Observed, pins: PinsLine, settings: Settings, at: datetime, *, exact: bool) -> Estimate | None:
    """Estimate the requests that a plan submits, if any.

    Counts tokens for OpenAI's models. For others uses earlier batches, else bytes.
    """
    submits = [action for action in seen.plan.actions if isinstance(action, Submit)]
    requests, size = sum(action.requests for action in submits), sum(action.bytes for action in submits)
    job = seen.desired.spec.job
    earlier = history(seen.lockfile, seen.plan.realm, pins)
    is_local_model = seen.plan.realm == LOCAL_MODEL
    encoding = encoding_of(job.model) if job.line_format == "openai" and not is_local_model else None

    def given(wanted: Sequence[Selector], requests: int, size: int) -> Tokens:
        if encoding is not None:
            return _counted(seen.desired, TokenCounter(encoding), wanted, requests, size, exact=exact)
        guess = input_from_history(earlier, size) or input_from_bytes(size)
        return input_bounded_by_bytes(guess, size) if is_local_model else guess

    later = _later(seen, given)
    if not requests and not later.requests:
        return None
    tokens = given([partial(wanted_round, action.round) for action in submits], requests, size)
    output = output_range(requests, earlier, job.parameters)
    mean = tokens.expected // requests if requests else later.input // later.requests
    price = price_of(job.model, job.line_format, settings, at, request_tokens=mean)
    caching = Caching.measured(earlier, cache_ttl(job))
    return Estimate(requests, size, job.model, tokens, output, price, _times(job, submits), later, caching)


def _pays_again(job: Job) -> bool:
    on = job.retry.on or ()
    return NO_TEXT in on or (job.answer_schema is not None and INVALID in on)


def _times(job: Job, submits: Sequence[Submit]) -> int:
    if not submits or not _pays_again(job):
        return 1
    return max(1, job.retry.rounds + 1 - min(action.round for action in submits))


def _later(seen: Observed, given: Callable[[Sequence[Selector], int, int], Tokens]) -> InFlightUsage:
    job = seen.desired.spec.job
    unseen = bool(seen.plan.unseen)
    if not seen.plan.tally.in_flight or not (unseen or _pays_again(job)):
        return InFlightUsage()
    times = 1
    if _pays_again(job):
        rounds = [
            known.line.round for known in seen.batches if not (known.ended and is_indexed(known, seen.from_outputs))
        ]
        used = 0 if unseen else min(rounds, default=1)
        times = job.retry.rounds - used
    if times <= 0:
        return InFlightUsage()
    shards = measure(seen.desired.spool, job.shards, _is_in_flight)
    requests, size = sum(count for count, _ in shards), sum(length for _, length in shards)
    limit = token_limit(job.parameters)
    output = None if limit is None else limit * requests * times
    return InFlightUsage(requests, times, given([_is_in_flight], requests, size).high * times, output, unseen)


def _is_in_flight(asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = (asks["state"] == KeyState.IN_FLIGHT) & (asks["first"] == 1)
    return chosen


def history(lockfile: Lockfile, realm: str, pins: PinsLine) -> tuple[Measured, ...]:
    """Return what the model's earlier batches took in this realm."""
    found = []
    for line in lockfile.batches_of(pins.job, realm):
        made = lockfile.pins.get(line.pins or "")
        if not line.ended or line.usage is None or line.counts is None or line.bytes is None or made is None:
            continue
        used = _used(line.usage, made.format)
        if (made.model, made.format) == (pins.model, pins.format) and used.given:
            counts = line.requests, line.counts.completed
            found.append(Measured(line.bytes, *counts, used.given, used.output, replace(used, input=used.given)))
    return tuple(found)


def _used(usage: UsageField, line_format: str) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        line_format == "openai",
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
    )


def price_of(
    model: str, line_format: str, settings: Settings, at: datetime, *, request_tokens: int = 1_000
) -> Price | None:
    """Return a model's price, the project's own first, or None."""
    own = {
        name: Price(
            _exactly(entry.input),
            _exactly(entry.output),
            _exactly(entry.input if entry.cached is None else entry.cached),
            "batchspec.yaml",
            written=None if entry.cache_write is None else _exactly(entry.cache_write),
            written_hour=None if entry.cache_write_1h is None else _exactly(entry.cache_write_1h),
        )
        for name, entry in settings.prices.items()
    }
    return find_price(model, line_format, own, at, request_tokens=request_tokens)


def with_cost(line: BatchLine, made: PinsLine | None, job: Job | None, settings: Settings) -> BatchLine:
    """Return an ended batch's line with its cost, if known.

    made: its pins, which may name another model than `job`.
    """
    usage = line.usage
    if usage is None or line.counts is None or not line.created_at:
        return line
    if line.counts.completed and not any(usage.model_dump().values()):
        return line  # a service that counts no tokens
    if made is not None:
        model, line_format = made.model, made.format
    elif job is not None:
        model, line_format = job.model, job.line_format
    else:
        return line
    used = _used(usage, line_format)
    mean = used.given // max(1, line.counts.completed)
    price = price_of(model, line_format, settings, datetime.fromisoformat(line.created_at), request_tokens=mean)
    if price is None:
        return line
    rates = [price.input, price.output, price.cached, *(price.write_rates if used.written else ())]
    names = ("input", "output", "cached", "cache_write", "cache_write_1h")
    billed = PriceField(**{name: float(usd(rate)) for name, rate in zip(names, rates, strict=False)})
    return line.model_copy(update={"cost": float(usd(price.cost(used))), "price": billed})


def expected_of(found: Estimate | None, requests: int, size: int) -> EstimateField | None:
    """Return a batch's estimate for the lockfile."""
    if found is None or not found.requests:
        return None
    share = found.share(requests, size)
    return EstimateField(
        input_tokens=share.input,
        output_tokens=share.output,
        cost=None if share.cost is None else float(usd(share.cost, at_most=share.at_most)),
    )


def spent(lines: Sequence[BatchLine]) -> Decimal | None:
    """Return the USD recorded for batches, or None."""
    known = [_exactly(line.cost) for line in lines if line.cost is not None]
    return sum(known, Decimal(0)) if known else None


def planned(lockfile: Lockfile, lines: Sequence[BatchLine]) -> tuple[Decimal | None, bool]:
    """Return the estimated USD of batches, and whether it is an upper bound. None if they differ."""
    limits = {_is_limit(lockfile, line) for line in lines}
    if len(limits) != 1:
        return None, False
    costs = [line.estimate.cost if line.estimate else None for line in lines]
    return total(None if cost is None else _exactly(cost) for cost in costs), limits.pop()


def _is_limit(lockfile: Lockfile, line: BatchLine) -> bool:
    pins = lockfile.pins.get(line.pins or "")
    limit = token_limit(pins.parameters) if pins is not None else None
    return limit is not None and line.estimate is not None and line.estimate.output_tokens == limit * line.requests


def over_budget(settings: Settings, specs: Sequence[JobSpec], plans: Sequence[JobPlan]) -> tuple[str, ...]:
    """Return the budgets that plans could exceed, and by how much."""
    estimates = {job.address: job.estimate for job in plans if job.estimate is not None}
    found = []
    families: dict[str, list[JobSpec]] = {}
    for spec in specs:
        if spec.job.budget is not None and spec.address in estimates:
            families.setdefault(spec.family, []).append(spec)
    for family, members in families.items():
        budget = members[0].job.budget
        broken = overruns(budget_of(budget), [estimates[spec.address] for spec in members]) if budget else ()
        name = members[0].address if len(members) == 1 else f"{family}, {len(members)} partitions"
        found += [f"{name}: {one.field}: {one.text}" for one in broken]
    if settings.budget is not None:
        broken = overruns(budget_of(settings.budget), list(estimates.values()))
        found += [f"all jobs: {one.field}: {one.text}" for one in broken]
    return tuple(found)


def budget_of(limits: BudgetLimits) -> Budget:
    """Return a budget as a value."""
    cost = None if limits.max_cost_usd is None else _exactly(limits.max_cost_usd)
    return Budget(cost, limits.max_requests, limits.max_tokens)


def _exactly(amount: float) -> Decimal:
    """Return a number as written: 0.1 is a tenth."""
    return Decimal(str(amount))


def _counted(
    desired: Desired, counter: TokenCounter, wanted: Sequence[Selector], requests: int, size: int, *, exact: bool
) -> Tokens:
    spread = Spread(requests, requests if exact else min(requests, SAMPLE))
    sizes, tokens, certainty = [], [], counter.encoding.certainty
    for length, request in _requests(desired, wanted, spread):
        counted = counter.count(request)
        sizes.append(length)
        tokens.append(counted.tokens)
        certainty = Certainty.ASSUMED if counted.certainty is Certainty.ASSUMED else certainty
    return extrapolate(sizes, tokens, requests, size, certainty)


def _requests(desired: Desired, wanted: Sequence[Selector], spread: Spread) -> Iterator[tuple[int, Mapping[str, Any]]]:
    def chosen(one: Selector, asks: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        return spread.choose(one(asks))

    folder = desired.spool.folder / "counted"
    folder.mkdir()
    try:
        for one in wanted:
            for shard in cut(desired.spool, desired.spec.job.shards, partial(chosen, one), folder):
                assert shard.path is not None
                with shard.path.open("rb") as lines:
                    for line in lines:
                        yield len(line), orjson.loads(line)["body"]
                shard.path.unlink()
    finally:
        shutil.rmtree(folder)
