"""Comparison of JSON values: 1 equals 1.0, true is no number, list order counts unless a path excludes it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

Path = tuple[str, ...]


def same(answer: Any, expected: Any, *, subset: bool, unordered: Collection[Path], path: Path = ()) -> bool:
    """Return whether an answer has the expected value; with `subset`, objects may have further keys."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and (subset or answer.keys() == expected.keys())
            and all(
                name in answer and same(answer[name], value, subset=subset, unordered=unordered, path=(*path, name))
                for name, value in expected.items()
            )
        )
    if isinstance(expected, list):
        if not isinstance(answer, list) or len(answer) != len(expected):
            return False
        if path in unordered:
            return _same_in_any_order(answer, expected, subset=subset, unordered=unordered, path=path)
        pairs = zip(answer, expected, strict=True)
        return all(same(one, other, subset=subset, unordered=unordered, path=path) for one, other in pairs)
    if isinstance(expected, bool) or isinstance(answer, bool):
        return answer is expected
    return type(answer) in _LIKE.get(type(expected), (type(expected),)) and bool(answer == expected)


_LIKE: dict[type, tuple[type, ...]] = {int: (int, float), float: (int, float)}


def _same_in_any_order(
    answer: list[Any], expected: list[Any], *, subset: bool, unordered: Collection[Path], path: Path
) -> bool:
    """Match each expected member with a different one of the answer (augmenting paths)."""
    fits = [
        [n for n, one in enumerate(answer) if same(one, other, subset=subset, unordered=unordered, path=path)]
        for other in expected
    ]
    taken: dict[int, int] = {}

    def place(member: int, tried: set[int]) -> bool:
        for n in fits[member]:
            if n not in tried:
                tried.add(n)
                if n not in taken or place(taken[n], tried):
                    taken[n] = member
                    return True
        return False

    return all(place(member, set()) for member in range(len(expected)))


def canonical(value: Any) -> str:
    """Return the same text for equal JSON values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
