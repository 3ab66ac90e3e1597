"""Compare the most that a plan can use with the spec's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from runner.money.estimate import Estimate
from runner.money.prices import most_text, usd_text


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on one apply's new requests. None is no limit."""

    max_cost_usd: Decimal | None = None
    max_requests: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that a plan could exceed, or that can't be checked."""

    field: str
    text: str


def overruns(budget: Budget, estimates: Sequence[Estimate]) -> tuple[Overrun, ...]:
    """Return the limits that these requests could exceed, with every answer at its limit.

    Without a price or a limit on answers, a limit counts as exceeded.
    """
    found = [_requests(budget, estimates), _tokens(budget, estimates), _cost(budget, estimates)]
    return tuple(one for one in found if one is not None)


def _requests(budget: Budget, estimates: Sequence[Estimate]) -> Overrun | None:
    limit, count = budget.max_requests, sum(one.most_requests for one in estimates)
    if limit is None or count <= limit:
        return None
    most = "up to " if any(one.most_requests > one.requests for one in estimates) else ""
    return Overrun("max_requests", f"{most}{count:,} requests; the budget is {limit:,}, so {count - limit:,} too many")


def _tokens(budget: Budget, estimates: Sequence[Estimate]) -> Overrun | None:
    limit = budget.max_tokens
    if limit is None:
        return None
    most = [one.most_tokens for one in estimates if one.most_requests]
    if any(tokens is None for tokens in most):
        return Overrun(
            "max_tokens", f"cannot check the budget of {limit:,} tokens: the answers have no limit. {_LIMIT}"
        )
    count = sum(tokens or 0 for tokens in most)
    if count <= limit:
        return None
    return Overrun("max_tokens", f"up to {count:,} tokens; the budget is {limit:,}, so {count - limit:,} too many")


def _cost(budget: Budget, estimates: Sequence[Estimate]) -> Overrun | None:
    limit = budget.max_cost_usd
    if limit is None:
        return None
    cost = Decimal(0)
    for one in estimates:
        if not one.most_requests:
            continue
        if one.price is None:
            return Overrun(
                "max_cost_usd",
                f"cannot check the {usd_text(limit)} budget: no price is known for {one.model}. {_PRICE}",
            )
        if one.ceiling is None:
            return Overrun(
                "max_cost_usd", f"cannot check the {usd_text(limit)} budget: the answers have no limit. {_LIMIT}"
            )
        cost += one.ceiling
    if cost <= limit:
        return None
    over = cost - limit
    return Overrun(
        "max_cost_usd", f"up to {most_text(cost)}; the budget is {usd_text(limit)}, so {usd_text(over)} too much"
    )


_LIMIT = "Set max_tokens (max_output_tokens, max_completion_tokens) in `parameters`"
_PRICE = "Add one under `prices:` in batchspec.yaml"
