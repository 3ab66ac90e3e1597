"""Spec options for money and review."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from runner.jobspec.base_model import Model

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")

Share = Annotated[str, Field(json_schema_extra={"pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"})] | int | float
"""A count, or a share of all."""
Usd = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class BudgetLimits(Model):
    """The most that one apply may add, over all its new requests, with every answer at its token limit."""

    max_cost_usd: Usd | None = Field(default=None, description="US dollars.")
    max_requests: int | None = Field(default=None, ge=0, description="Requests.")
    max_tokens: int | None = Field(default=None, ge=0, description="Tokens, in and out.")

    @model_validator(mode="after")
    def _something(self) -> BudgetLimits:
        if self.max_cost_usd is None and self.max_requests is None and self.max_tokens is None:
            raise ValueError("set `max_cost_usd`, `max_requests` or `max_tokens`")
        return self


class Canary(Model):
    """A small first batch. The rest follows only if it passes."""

    requests: int = Field(default=100, ge=1, le=50_000, description="Requests of the canary, from all over the input.")
    max_failed: Share = Field(default=0, description="Requests of it that may fail: a count, or a share such as 2%.")
    max_invalid: Share = Field(
        default=0,
        description="Answers of it that may be empty, or not the JSON that was asked for: a count or a share.",
    )

    @field_validator("max_failed", "max_invalid")
    @classmethod
    def _share_or_count(cls, value: str | float) -> str | float:
        parse_share(value)
        return value


class ReviewOptions(Model):
    """What a reviewer sees of this job."""

    show_prompts: bool = Field(
        default=False,
        description="Rendered prompts of changed rows, so parts of the input, in `plan --format markdown`.",
    )


class PriceEntry(Model):
    """A model's batch price in US dollars per million tokens."""

    input: Usd = Field(description="USD for a million input tokens.")
    output: Usd = Field(description="USD for a million output tokens.")
    cached: Usd | None = Field(default=None, description="USD for a million cached input tokens; `input` by default.")
    cache_write: Usd | None = Field(
        default=None, description="USD for a million tokens written to a cache; 1.25 times `input` by default."
    )
    cache_write_1h: Usd | None = Field(
        default=None, description="USD for a million tokens written to a cache for an hour; twice `input` by default."
    )


def parse_share(value: str | float) -> tuple[float, int]:
    """Return a limit as (share, count); one of them is 0. Raises ValueError."""
    if isinstance(value, str):
        match = _SHARE.fullmatch(value.strip())
        if not match or float(match[1]) > 100:
            raise ValueError("write a count such as 3, or a share such as 0.5%")
        return float(match[1]) / 100, 0
    if isinstance(value, bool) or not 0 <= value < 1e15 or value != int(value):
        raise ValueError("write a count such as 3, or a share such as 0.5%")
    return 0.0, int(value)


def allowed(value: str | float, total: int) -> int:
    """Return how many of `total` a count or a share allows."""
    share, count = parse_share(value)
    return int(share * total) if share else count
