"""`matrix:` - one job for each combination of values.

As in CI files, `exclude` removes matching combinations. `include` adds its values to each combination with equal axes,
or is a combination of its own if none matches.
"""

from __future__ import annotations

import itertools
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.errors import Problem
from runner.jobspec.parameters import known_parameters
from runner.jobspec.suggest import did_you_mean
from runner.jobspec.yaml_reader import Document, Lines, Path

MAX_JOBS = 256
"""Jobs that one document may make."""
Scalar = str | int | float | bool
Selection = dict[str, tuple[Scalar, Path]]
"""Values by axis, each with the path of its place in the document."""
Rules = Sequence[Mapping[str, Scalar]]

_FIELDS = {"model": ("model",), "endpoint": ("endpoint",), "format": ("format",)}
_PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]+")
_MAX_VALUE = 100


@dataclass(frozen=True, slots=True)
class Variant:
    """One job's document with selected values.

    `address` has the values of the address, `matrix` all values.
    """

    address: Mapping[str, Scalar]
    matrix: Mapping[str, Scalar]
    document: Document


def address_of(name: str, values: Mapping[str, Scalar]) -> str:
    """Return a job's address: its name and its axes, sorted: `name[date=2026-11-23,model=gpt-4o]`."""
    inner = ",".join(f"{axis}={address_value(values[axis])}" for axis in sorted(values))
    return f"{name}[{inner}]" if inner else name


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """Split an address into name and axes. Values contain no comma, bracket or equals sign."""
    name, _, inside = address.partition("[")
    pairs = (axis.partition("=") for axis in inside.rstrip("]").split(",") if axis)
    return name, {axis: value for axis, _, value in pairs}


def address_value(value: Scalar) -> str:
    """Return a value as text for addresses and paths."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def value_problem(value: Scalar) -> str:
    """Return why a value can't be part of an address, if so."""
    text = address_value(value)
    if len(text) > _MAX_VALUE:
        return f"this value has {len(text)} characters; in a job's address it may have {_MAX_VALUE}"
    if not _PLAIN.fullmatch(text):
        return "this value becomes part of the job's address: use letters, digits and `. _ : / @ + -` only"
    return ""


def variants(document: Document, lines: Lines, problems: list[Problem]) -> list[Variant]:
    """Return the variants of a document's matrix; the document itself without a valid matrix.

    Problems with axes go to `problems`; the models report a wrong shape.
    """
    matrix = document.value.get("matrix") if isinstance(document.value, dict) else None
    if not isinstance(matrix, dict) or not _is_matrix(matrix):
        return [Variant({}, {}, document)]
    axes: dict[str, list[Scalar]] = {k: v for k, v in matrix.items() if k not in {"include", "exclude"}}
    before = len(problems)
    problems += _problems(document, lines, axes)
    if len(problems) > before:
        return []
    found = [
        Variant(
            {axis: chosen[axis][0] for axis in named},
            {axis: value for axis, (value, _) in chosen.items()},
            _put(document, chosen),
        )
        for named, chosen in _combinations(axes, matrix.get("include", []), matrix.get("exclude", []))
    ]
    if not found:
        problems.append(
            lines.problem(document.place(("matrix",)), "`exclude` leaves no combination of the matrix", code="BS130")
        )
    return found


def _is_matrix(value: Mapping[str, Any]) -> bool:
    if not value:
        return False
    for key, part in value.items():
        if not isinstance(part, list):
            return False
        if key in {"include", "exclude"}:
            if not all(isinstance(entry, dict) and entry and _scalars(entry.values()) for entry in part):
                return False
        elif not part or not _scalars(part):
            return False
    return True


def _scalars(values: Any) -> bool:
    return all(isinstance(value, (str, int, float)) and value != "" for value in values)


def _problems(document: Document, lines: Lines, axes: Mapping[str, Sequence[Scalar]]) -> Iterator[Problem]:
    matrix = document.value["matrix"]
    size = 1
    for values in axes.values():
        size *= len(values)
    size = (size if axes else 0) + len(matrix.get("include", []))
    if size > MAX_JOBS:
        shown = str(size) if size < 1_000_000 else "millions of"
        message = f"the matrix makes {shown} jobs; at most {MAX_JOBS} are made of one document"
        yield lines.problem(document.place(("matrix",)), message, code="BS130")
        return
    for axis, values in axes.items():
        yield from _axis_problem(document, lines, ("matrix", axis), axis)
        yield from _value_problems(document, lines, axis, values)
    for number, entry in enumerate(matrix.get("include", [])):
        for axis, value in entry.items():
            path: Path = ("matrix", "include", number, axis)
            if axis not in axes:
                yield from _axis_problem(document, lines, path, axis)
            if problem := value_problem(value):
                yield lines.problem(document.place(path), problem, code="BS130")
    for number, entry in enumerate(matrix.get("exclude", [])):
        for axis, value in entry.items():
            yield from _exclude_problem(document, lines, ("matrix", "exclude", number, axis), axes, value)


def _value_problems(document: Document, lines: Lines, axis: str, values: Sequence[Scalar]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, value in enumerate(values):
        place = document.place(("matrix", axis, number))
        text = address_value(value)
        if problem := value_problem(value):
            yield lines.problem(place, problem, code="BS130")
        elif text in seen:
            yield lines.problem(place, f"the value {text} is repeated in this axis", code="BS130")
        seen.add(text)


def _exclude_problem(
    document: Document, lines: Lines, path: Path, axes: Mapping[str, Sequence[Scalar]], value: Scalar
) -> Iterator[Problem]:
    axis = str(path[-1])
    if axis not in axes:
        hint = did_you_mean(axis, axes) or f"the axes are: {', '.join(axes) or 'none'}"
        yield lines.problem(document.place(path, key=True), f"there is no axis `{axis}`", hint, code="BS130")
    elif not any(_same(value, v) for v in axes[axis]):
        hint = f"its values are: {', '.join(address_value(v) for v in axes[axis])}"
        yield lines.problem(document.place(path), f"the axis `{axis}` has no such value", hint, code="BS130")


def _axis_problem(document: Document, lines: Lines, path: Path, axis: str) -> Iterator[Problem]:
    if _target(document.value, axis) is not None:
        return
    declared = [*_FIELDS, "template", *_mapping(document.value, "vars"), *known_parameters()]
    hint = did_you_mean(axis, declared) or "an axis is model, endpoint, format, template, a parameter or a declared var"
    message = f"`{axis}` is not an axis that a matrix can vary"
    yield lines.problem(document.place(path, key=True), message, hint, code="BS130")


def _target(value: Mapping[str, Any], axis: str) -> Path | None:
    """Return the path that an axis sets. A declared var wins over a parameter."""
    if axis in _FIELDS:
        return _FIELDS[axis]
    if axis == "template":
        return ("prompt", "user", "template")
    if axis in _mapping(value, "vars"):
        return ("vars", axis)
    if axis in _mapping(value, "parameters") or axis in known_parameters():
        return ("parameters", axis)
    return None


def _mapping(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _combinations(
    axes: Mapping[str, Sequence[Scalar]], include: Rules, exclude: Rules
) -> list[tuple[tuple[str, ...], Selection]]:
    sides = [[(axis, value, ("matrix", axis, n)) for n, value in enumerate(values)] for axis, values in axes.items()]
    chosen: list[Selection] = []
    for combination in itertools.product(*sides) if sides else ():
        one: Selection = {axis: (value, path) for axis, value, path in combination}
        if not any(all(_same(one[axis][0], value) for axis, value in rule.items()) for rule in exclude):
            chosen.append(one)
    added_alone: list[Selection] = []
    for number, entry in enumerate(include):
        added: Selection = {axis: (value, ("matrix", "include", number, axis)) for axis, value in entry.items()}
        fits = [one for one in chosen if all(_same(one[a][0], v) for a, v in entry.items() if a in axes)]
        for one in fits:
            one.update({axis: at for axis, at in added.items() if axis not in axes})
        if not fits:
            added_alone.append(added)
    return [(tuple(axes), one) for one in chosen] + [(tuple(one), one) for one in added_alone]


def _same(one: Scalar, other: Scalar) -> bool:
    return address_value(one) == address_value(other)


def _put(document: Document, chosen: Selection) -> Document:
    value: dict[str, Any] = dict(document.value)
    places: dict[Path, tuple[int, int]] = {}
    keys: dict[Path, tuple[int, int]] = {}
    for axis, (selected, written) in chosen.items():
        path = _target(document.value, axis)
        assert path is not None
        inner = value
        for step in path[:-1]:
            old = inner.get(str(step))
            inner[str(step)] = dict(old) if isinstance(old, dict) else {}
            inner = inner[str(step)]
        inner[str(path[-1])] = selected
        places[path] = document.place(written)
        keys[path] = document.place(written, key=True)
    return Document(value, ChainMap(places, document.places), ChainMap(keys, document.keys))
