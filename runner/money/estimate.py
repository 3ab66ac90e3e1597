"""Estimate the tokens and cost of requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from runner.money.prices import Price, Usage
from runner.money.token_sample import Tokens
from runner.money.tokens import Certainty

BYTES_A_TOKEN = 4
"""Bytes of English text per token, OpenAI's rule of thumb (for characters). The range is half to twice that."""
_MARGIN = 0.05
"""The share by which an estimate's range exceeds the measured one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An earlier batch: bytes sent, requests, tokens."""

    bytes: int
    requests: int
    answered: int
    input_tokens: int
    output_tokens: int
    used: Usage | None = None


@dataclass(frozen=True, slots=True)
class Caching:
    """Shares of prompt caching in earlier batches.

    `ttl` is `5m` or `1h` if requests ask to be cached.
    """

    given: int = 0
    cached: int = 0
    written: int = 0
    written_hour: int = 0
    ttl: str | None = None

    @classmethod
    def measured(cls, earlier: Sequence[Measured], ttl: str | None) -> Caching:
        """Return earlier batches' shares."""
        used = [one.used for one in earlier if one.used is not None]
        given = sum(one.input_tokens for one in earlier)
        cached, written = sum(one.cached for one in used), sum(one.written for one in used)
        return cls(given, cached, written, sum(one.written_hour for one in used), ttl)

    def likely(self, given: int, output: int) -> Usage:
        """Apply the measured shares."""
        if not self.given:
            return Usage(given, output)
        cached, written, hour = (given * part // self.given for part in (self.cached, self.written, self.written_hour))
        return Usage(given, output, cached, written=written, written_hour=hour)

    def least(self, given: int) -> Usage:
        """Assume cache reads, if possible."""
        return Usage(given, 0, given if self.cached or self.ttl else 0)

    def most(self, given: int, output: int, price: Price) -> Usage:
        """Assume cache writes, if requested or done unasked."""
        unasked = price.written is not None and price.written > price.input and self.written > 0
        written = given if self.ttl or unasked else 0
        return Usage(given, output, written=written, written_hour=written if self.ttl == "1h" else 0)


@dataclass(frozen=True, slots=True)
class Output:
    """Output tokens. `expected` needs earlier runs, `high` a limit."""

    expected: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class InFlightUsage:
    """The most tokens that retries of requests in flight may use.

    `unsubmitted`: the requests may be in no batch.
    """

    requests_in_flight: int = 0
    times: int = 0
    input: int = 0
    output: int | None = 0
    unsubmitted: bool = False

    @property
    def requests(self) -> int:
        """Return the most billable requests."""
        return self.requests_in_flight * self.times


@dataclass(frozen=True, slots=True)
class Share:
    """Expected tokens and USD of some requests.

    `at_most`: `output` is the limit.
    """

    input: int
    output: int | None
    cost: Decimal | None
    at_most: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens and cost of `requests` requests with `size` bytes.

    Each may be billed `times` times: oversized answers are requested again. Only the ceiling counts all, and
    `later`.
    """

    requests: int
    size: int
    model: str
    input: Tokens
    output: Output
    price: Price | None
    times: int = 1
    later: InFlightUsage = InFlightUsage()
    caching: Caching = Caching()

    @property
    def likely_output(self) -> int | None:
        """Return the expected output tokens, else the limit."""
        return self.output.high if self.output.expected is None else self.output.expected

    @property
    def least(self) -> Decimal | None:
        """Return the USD of the input."""
        return None if self.price is None else self.price.cost(self.caching.least(self.input.low))

    @property
    def expected(self) -> Decimal | None:
        """Return the likely USD."""
        output = self.likely_output
        if self.price is None or output is None:
            return None
        return self.price.cost(self.caching.likely(self.input.expected, output))

    @property
    def ceiling(self) -> Decimal | None:
        """Return the most USD; None without a price or limit on answers."""
        high, later = self.output.high, self.later
        if self.price is None or high is None or later.output is None:
            return None
        given, taken = self.input.high * self.times + later.input, high * self.times + later.output
        return self.price.cost(self.caching.most(given, taken, self.price))

    def share(self, requests: int, size: int) -> Share:
        """Return some requests' expected share."""
        given = round(self.input.expected * size / self.size) if self.size else 0
        likely = self.likely_output
        taken = None if likely is None or not self.requests else round(likely * requests / self.requests)
        cost = None if self.price is None or taken is None else self.price.cost(self.caching.likely(given, taken))
        return Share(given, taken, cost, self.output.expected is None and taken is not None)

    @property
    def most_tokens(self) -> int | None:
        """Return the most tokens; None without a limit on answers."""
        high, later = self.output.high, self.later
        if high is None or later.output is None:
            return None
        return (self.input.high + high) * self.times + later.input + later.output

    @property
    def most_requests(self) -> int:
        """Return the most billable requests."""
        return self.requests * self.times + self.later.requests


def input_from_history(earlier: Sequence[Measured], size: int) -> Tokens | None:
    """Estimate by the ratio in fully answered batches."""
    whole = [one for one in earlier if one.answered == one.requests and one.bytes > 0 and one.input_tokens > 0]
    if not whole:
        return None
    ratios = [one.input_tokens / one.bytes for one in whole]
    ratio = sum(one.input_tokens for one in whole) / sum(one.bytes for one in whole)
    low, high = min(ratios) * (1 - _MARGIN), max(ratios) * (1 + _MARGIN)
    batches = "batch" if len(whole) == 1 else "batches"
    basis = f"{1 / ratio:.2f} bytes a token over {len(whole):,} earlier {batches}"
    return Tokens(int(low * size), round(ratio * size), -int(-high * size), Certainty.ESTIMATED, basis)


def input_from_bytes(size: int) -> Tokens:
    """Estimate by the rule of thumb."""
    return Tokens(
        size // (2 * BYTES_A_TOKEN),
        size // BYTES_A_TOKEN,
        -(-2 * size // BYTES_A_TOKEN),
        Certainty.ESTIMATED,
        f"{BYTES_A_TOKEN} bytes a token, a rule of thumb",
    )


def input_bounded_by_bytes(given: Tokens, size: int) -> Tokens:
    """Limit an estimate to `size`, for the local model's chat template.

    Its tokens have a byte or more, and it adds less than a message's JSON.
    """
    return replace(given, high=size)


def output_range(requests: int, earlier: Sequence[Measured], parameters: Mapping[str, Any]) -> Output:
    """Estimate output tokens: earlier answers' mean, up to the limit."""
    limit = token_limit(parameters)
    high = None if limit is None else limit * requests
    answered = sum(one.answered for one in earlier)
    if not answered:
        return Output(None, high)
    mean = sum(one.output_tokens for one in earlier) / answered
    expected = round(mean * requests)
    return Output(expected if high is None else min(expected, high), high)


def token_limit(parameters: Mapping[str, Any]) -> int | None:
    """Return one request's most output tokens, if limited."""
    choices = parameters.get("n", 1)
    choices = choices if isinstance(choices, int) and choices > 0 else 1
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        limit = parameters.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            return limit * choices
    return None


def total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum; None if any is unknown."""
    added = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        added += amount
    return added
