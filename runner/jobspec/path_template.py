"""Placeholders in paths: `out/{{ name }}/{{ vars.date }}.jsonl`. Not Jinja: names only.

Characters other than letters, digits, `.`, `_` and `-` become `-`, so no value leads to another folder. A partition's
changed value gets a part of its digest, so outputs differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.base.digest import sha256_hex
from runner.jobspec.matrix import Scalar, address_value
from runner.jobspec.suggest import did_you_mean

_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_MARKS = re.compile(r"\{\{|\}\}|\{%|\{#")


def path_names(
    name: str,
    address: str,
    model: str,
    variables: Mapping[str, Any],
    matrix: Mapping[str, Scalar],
    partition: Mapping[str, Scalar],
) -> dict[str, str]:
    """Return the names for `fill`: `name`, `address`, `model`, `vars.NAME` and `matrix.AXIS`.

    Each value of `partition` gets its own path.
    """
    own = {var: _unique_part(address_value(value)) for var, value in partition.items()}
    changed = any(own[var] != address_value(value) for var, value in partition.items())
    return {
        "name": name,
        "address": _unique_part(address) if changed else _plain(address),
        "model": _plain(model),
        **{f"vars.{k}": _plain(address_value(v)) for k, v in variables.items() if isinstance(v, (str, int, float))},
        **{f"vars.{k}": part for k, part in own.items()},
        **{f"matrix.{k}": _plain(address_value(v)) for k, v in matrix.items()},
    }


def fill(path: str, names: Mapping[str, str]) -> str:
    """Return the filled path. Raises ValueError for an unknown or empty name."""

    def value(match: re.Match[str]) -> str:
        wanted = match[1]
        if wanted not in names:
            known = did_you_mean(wanted, names) or f"known are: {', '.join(names)}"
            raise ValueError(f"there is no `{wanted[:60]}` to fill into this path; {known}")
        if not names[wanted].strip("."):
            raise ValueError(f"the value of `{wanted}` can't be part of a path")
        return names[wanted]

    filled = _PLACEHOLDER.sub(value, path)
    if _MARKS.search(filled):
        raise ValueError("a path takes names in {{ }}, such as {{ name }} or {{ vars.date }}, and no other Jinja")
    return filled


def named_in(path: str) -> frozenset[str]:
    """Return the names in a path."""
    return frozenset(match[1] for match in _PLACEHOLDER.finditer(path))


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:120]


def _unique_part(text: str) -> str:
    part = _plain(text)
    return part if part == text or not part.strip(".") else f"{part}-{sha256_hex(text.encode())[:8]}"
