"""What some requests will take and cost: input as counted or estimated, output as a range, money from both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from runner.money.prices import Price, Usage
from runner.money.token_sample import Tokens
from runner.money.tokens import Certainty

BYTES_A_TOKEN = 4
"""Bytes of English text that make a token, OpenAI's rule of thumb (for characters); the range is half to twice that."""
_MARGIN = 0.05
"""How far beyond what earlier runs measured an estimate's range goes, as a share."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an earlier batch of the same model took: bytes sent, requests answered, tokens as the service counted.

    `input_tokens` are all tokens of the prompts; `used` is how many of them were read from a cache, or written to one.
    """

    bytes: int
    requests: int
    answered: int
    input_tokens: int
    output_tokens: int
    used: Usage | None = None


@dataclass(frozen=True, slots=True)
class Caching:
    """What prompt caching does to costs: the shares that earlier batches measured, and how long requests ask for.

    `ttl` is `5m` or `1h` if requests ask to be written to a cache, else None.
    """

    given: int = 0
    cached: int = 0
    written: int = 0
    written_hour: int = 0
    ttl: str | None = None

    @classmethod
    def measured(cls, earlier: Sequence[Measured], ttl: str | None) -> Caching:
        """Return the shares of some earlier batches."""
        used = [one.used for one in earlier if one.used is not None]
        given = sum(one.input_tokens for one in earlier)
        cached, written = sum(one.cached for one in used), sum(one.written for one in used)
        return cls(given, cached, written, sum(one.written_hour for one in used), ttl)

    def likely(self, given: int, output: int) -> Usage:
        """Usage with the shares that were measured."""
        if not self.given:
            return Usage(given, output)
        cached, written, hour = (given * part // self.given for part in (self.cached, self.written, self.written_hour))
        return Usage(given, output, cached, written=written, written_hour=hour)

    def least(self, given: int) -> Usage:
        """Usage that costs least: all is read from a cache, if anything can be."""
        return Usage(given, 0, given if self.cached or self.ttl else 0)

    def most(self, given: int, output: int, price: Price) -> Usage:
        """Usage that costs most: all is written to a cache, if the requests ask for it or the model does it unasked."""
        unasked = price.written is not None and price.written > price.input and self.written > 0
        written = given if self.ttl or unasked else 0
        return Usage(given, output, written=written, written_hour=written if self.ttl == "1h" else 0)


@dataclass(frozen=True, slots=True)
class Output:
    """Output tokens. `expected` is what earlier runs make likely, None without any; `high` is None without a limit."""

    expected: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Later:
    """The most that is asked of `flying` requests in flight: in all rounds, where what does not fit is asked again.

    `input` and `output` are tokens, at their highest; `output` is None without a limit. `unseen` is whether they may be
    in no batch at all.
    """

    flying: int = 0
    times: int = 0
    input: int = 0
    output: int | None = 0
    unseen: bool = False

    @property
    def requests(self) -> int:
        """Requests that may be asked and billed at most."""
        return self.flying * self.times


@dataclass(frozen=True, slots=True)
class Share:
    """What some requests are expected to take: tokens in and out, and USD; None where that can't be told.

    `at_most` is whether `output` is only what the answers may take, for want of earlier ones.
    """

    input: int
    output: int | None
    cost: Decimal | None
    at_most: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `requests` requests of `size` bytes take and cost. `price` is None where nobody knows the model's price.

    `times` is how often each of them may be asked and billed: more than once where answers that don't fit are asked
    again. What is likely is once; what it costs at most is all of them, and what of `later` may be asked again.
    `requests` may be none then.
    """

    requests: int
    size: int
    model: str
    input: Tokens
    output: Output
    price: Price | None
    times: int = 1
    later: Later = Later()
    caching: Caching = Caching()

    @property
    def likely_output(self) -> int | None:
        """The output tokens that are counted on: what earlier runs make likely, else the limit."""
        return self.output.high if self.output.expected is None else self.output.expected

    @property
    def least(self) -> Decimal | None:
        """USD for the input alone: what the answers cost at least."""
        return None if self.price is None else self.price.cost(self.caching.least(self.input.low))

    @property
    def expected(self) -> Decimal | None:
        """USD that are likely; None without a price, or with neither earlier runs nor a limit."""
        output = self.likely_output
        if self.price is None or output is None:
            return None
        return self.price.cost(self.caching.likely(self.input.expected, output))

    @property
    def ceiling(self) -> Decimal | None:
        """USD that it costs at most; None without a price or without a limit on the answers."""
        high, later = self.output.high, self.later
        if self.price is None or high is None or later.output is None:
            return None
        given, taken = self.input.high * self.times + later.input, high * self.times + later.output
        return self.price.cost(self.caching.most(given, taken, self.price))

    def share(self, requests: int, size: int) -> Share:
        """Return what some of these requests are expected to take."""
        given = round(self.input.expected * size / self.size) if self.size else 0
        likely = self.likely_output
        taken = None if likely is None or not self.requests else round(likely * requests / self.requests)
        cost = None if self.price is None or taken is None else self.price.cost(self.caching.likely(given, taken))
        return Share(given, taken, cost, self.output.expected is None and taken is not None)

    @property
    def most_tokens(self) -> int | None:
        """Tokens in and out at most; None without a limit on the answers."""
        high, later = self.output.high, self.later
        if high is None or later.output is None:
            return None
        return (self.input.high + high) * self.times + later.input + later.output

    @property
    def most_requests(self) -> int:
        """Requests that may be asked and billed at most."""
        return self.requests * self.times + self.later.requests


def input_from_history(earlier: Sequence[Measured], size: int) -> Tokens | None:
    """Input tokens of `size` bytes by the ratio that earlier batches measured; None where none can be measured.

    Only batches whose every request was answered say what their bytes came to.
    """
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
    """Input tokens of `size` bytes by the rule of thumb alone."""
    return Tokens(
        size // (2 * BYTES_A_TOKEN),
        size // BYTES_A_TOKEN,
        -(-2 * size // BYTES_A_TOKEN),
        Certainty.ESTIMATED,
        f"{BYTES_A_TOKEN} bytes a token, a rule of thumb",
    )


def input_bounded_by_bytes(given: Tokens, size: int) -> Tokens:
    """Return an estimate with `size` as its upper bound, for the local model, whose chat template adds tokens.

    A token of its byte-level tokenizer takes a byte or more, and what the template adds to a message is less than the
    JSON around it, so a request line has fewer tokens than bytes.
    """
    return replace(given, high=size)


def output_range(requests: int, earlier: Sequence[Measured], parameters: Mapping[str, Any]) -> Output:
    """Output tokens of `requests` requests: what earlier answers took on average, up to the limit in `parameters`."""
    limit = token_limit(parameters)
    high = None if limit is None else limit * requests
    answered = sum(one.answered for one in earlier)
    if not answered:
        return Output(None, high)
    mean = sum(one.output_tokens for one in earlier) / answered
    expected = round(mean * requests)
    return Output(expected if high is None else min(expected, high), high)


def token_limit(parameters: Mapping[str, Any]) -> int | None:
    """Return the most output tokens of one request; None where its parameters set no limit."""
    choices = parameters.get("n", 1)
    choices = choices if isinstance(choices, int) and choices > 0 else 1
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        limit = parameters.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
            return limit * choices
    return None


def total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum; None where any of them is not known."""
    added = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        added += amount
    return added
