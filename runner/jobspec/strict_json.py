"""JSON that survives a round trip."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson


def parse_strict(text: str, *, no_duplicate_keys: bool = False) -> Any:
    """Parse JSON. Raises ValueError with a reason, and json.JSONDecodeError with a place.

    Refuses NaN, numbers beyond a double or 64 bits, surrogate halves, and nesting too deep to write; with
    `no_duplicate_keys` also a repeated key.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_unique_keys if no_duplicate_keys else None,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ValueError(_unwritable(str(error))) from error
    return value


def _unwritable(reason: str) -> str:
    if "Integer" in reason:
        return "it holds a whole number beyond 64 bits"
    if "surrogate" in reason.lower():
        return "it holds half of a surrogate pair, which is no character"
    return "it is nested too deep"


def _no_constant(text: str) -> Any:
    raise ValueError(f"JSON has no {text}")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:24]} is too large")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]} is repeated in an object")
        found[key] = value
    return found
