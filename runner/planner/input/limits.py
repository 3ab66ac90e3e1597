"""Limits on one input, set by the environment only: a pull request may be untrusted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import TrustError

INPUT_BYTES, INPUT_RATIO, SQL_SECONDS = "BATCHSPEC_INPUT_BYTES", "BATCHSPEC_INPUT_RATIO", "BATCHSPEC_SQL_SECONDS"
"""Environment variables that set the limits."""
FREE_BYTES = 1_000_000_000
"""Any input may unpack to this many bytes, whatever its compressed size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an input may unpack to: `input_bytes` bytes, `ratio` times its size on disk.

    `sql_seconds` excludes rendering.
    """

    input_bytes: int = 20_000_000_000
    ratio: int = 100
    sql_seconds: int = 600
    free_bytes: int = FREE_BYTES

    def unpacked(self, packed: int) -> int:
        """Return how many bytes `packed` bytes may unpack to."""
        return min(self.input_bytes, max(self.free_bytes, self.ratio * packed))

    def rendered(self, size: int) -> int:
        """Return the most bytes of requests from `size` input bytes."""
        return max(self.input_bytes, self.ratio * size)


def limits_of(environ: Mapping[str, str] | None = None) -> Limits:
    """Return the environment's limits. Raises TrustError unless they are whole numbers above 0."""
    variables = os.environ if environ is None else environ
    default = Limits()
    return Limits(
        _number(variables, INPUT_BYTES, default.input_bytes),
        _number(variables, INPUT_RATIO, default.ratio),
        _number(variables, SQL_SECONDS, default.sql_seconds),
    )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise TrustError(f"{name} is {text[:40]!r}; it must be a whole number above 0", hint=f"correct or unset {name}")
    return int(text)
