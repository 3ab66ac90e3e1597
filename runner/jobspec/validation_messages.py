"""Turns pydantic's errors into messages at their place: what is wrong, what is allowed, did you mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.errors import Problem
from runner.jobspec.parameters import known_parameters
from runner.jobspec.suggest import did_you_mean, question
from runner.jobspec.yaml_reader import PRIVATE, Document, Lines, Path

MAX_PROBLEMS = 50
"""Problems reported for one document; one more gives the number of the rest."""

_TYPES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping: `key: value` lines, indented below",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "model_type": "must be a mapping: `key: value` lines, indented below",
    "model_attributes_type": "must be a mapping: `key: value` lines, indented below",
}
_PATTERNS = {
    "name": "use letters, digits, `.`, `_` and `-`, at most 64, the first a letter or digit",
    "provider": "use letters, digits, `.`, `_` and `-`, at most 64, the first a letter or digit",
    "project": "use letters, digits, `.`, `_` and `-`, at most 64, the first a letter or digit",
    "url": "write a URL that begins with https://",
    "base_url": "write a URL that begins with https://",
    "env": "use letters, digits and `_`, the first no digit",
    "partition": "use letters, digits and `_`, the first no digit, at most 64",
    "delimiter": 'write one character in quotes, such as ";", "|" or "\\t"',
    "account": "use letters, digits, `.`, `_` and `-`, at most 64",
}


_INNER = {
    "prompt": ("system", "user", "messages", "template"),
    "input": ("path", "data", "rows", "sql", "id", "encoding", "delimiter", "limit", "sample"),
    "output": ("errors", "include"),
    "matrix": ("exclude",),
}
"""Keys that people often write at the top of a spec, by where they belong."""


def problems_of(error: ValidationError, document: Document, lines: Lines, model: type[BaseModel]) -> list[Problem]:
    """Return a validation error's problems in the file, each place once."""
    found: dict[tuple[int, int], Problem] = {}
    missing: dict[Path, list[str]] = {}
    details_list = error.errors(include_url=False)
    for details in details_list[:MAX_PROBLEMS]:
        if details["type"] == "missing":
            path = _written(details["loc"], document)
            missing.setdefault(path, []).append(str(details["loc"][-1]))
            continue
        problem = _problem(details, document, lines, model)
        # A union reports each branch; the first is enough.
        found.setdefault((problem.line, problem.column), problem)
    problems = list(found.values())
    # Report a misspelt key once, at its place.
    meant = {problem.hint for problem in problems}
    for path, names in missing.items():
        if names_left := [f"`{'.'.join((*map(str, path), name))}`" for name in names if question(name) not in meant]:
            message = f"{_listed(names_left)} {'are' if len(names_left) > 1 else 'is'} missing"
            problems.append(lines.problem(document.place(path), message, code="BS111"))
    if len(details_list) > MAX_PROBLEMS:
        more = f"and {len(details_list) - MAX_PROBLEMS} more problems in this document"
        problems.append(lines.problem((max(p.line for p in problems), 0), more, code="BS112"))
    return problems


def _problem(details: ErrorDetails, document: Document, lines: Lines, model: type[BaseModel]) -> Problem:
    kind = details["type"]
    path = _written(details["loc"], document)
    name = str(details["loc"][-1]) if details["loc"] else ""
    if kind == "extra_forbidden":
        path = (*path[:-1], name) if path and path[-1] == name else (*path, name)
        place = document.place(path, key=True)
        known = _known(model, path[:-1], document)
        hint = _other_home(name, model, path) or did_you_mean(name, known) or f"known here: {', '.join(known)}"
        return lines.problem(place, f"there is no key `{name[:60]}` here", hint, code="BS110")
    place = document.place(path)
    what = f"`{'.'.join(map(str, path))}`" if path else "a spec"
    if _last_key(path) in PRIVATE:
        return lines.problem(
            place,
            f"{what} names an environment variable, as {{env: NAME}}; never write a secret into a file",
            code="BS113",
        )
    if kind == "string_pattern_mismatch":
        return lines.problem(place, f"{what} is not a valid value", _PATTERNS.get(_last_key(path), ""), code="BS112")
    sentence = _message(details)
    return lines.problem(place, what + sentence if sentence.startswith(":") else f"{what} {sentence}", code="BS112")


def _other_home(name: str, model: type[BaseModel], path: Path) -> str:
    if len(path) > 1 or "prompt" not in model.model_fields:
        return ""
    if name in {"project", "store", "providers", "prices"}:
        return "it belongs in batchspec.yaml"
    for outer, inner in _INNER.items():
        if name in inner:
            return f"write it under `{outer}`"
    return f"write it under `parameters`: {{{name}: …}}" if name in known_parameters() - {"text"} else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


_CONSTRAINTS = {
    "union_tag_invalid": "has {key} {tag}; allowed: {expected_tags}",
    "union_tag_not_found": "needs a `{key}`",
    "greater_than_equal": "is {value}; it must be at least {ge}",
    "less_than_equal": "is {value}; it may be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "has {characters} characters; at most {max_length} are allowed",
    "too_short": "is empty; it needs at least 1 entry",
    "too_long": "has {actual_length} entries; at most {max_length} are allowed",
    "value_error": ": {error}",
}
"""Messages by pydantic's error type, filled in from the error's context."""


def _message(details: ErrorDetails) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind in _TYPES:
        return f"{_TYPES[kind]}, not {_shown(value)}"
    if kind in {"literal_error", "enum"}:
        expected = context["expected"]
        if kind == "literal_error" and isinstance(value, str) and value == expected:
            return f"is the text {_shown(value)}; write {value}, without quotes"
        return f"is {_shown(value)}; allowed: {expected}"
    if kind in _CONSTRAINTS:
        known = {
            **context,
            "tag": _shown(context.get("tag")),
            "key": str(context.get("discriminator")).strip("'"),
            "value": _shown(value),
            "characters": len(str(value)),
        }
        return _CONSTRAINTS[kind].format_map(known)
    return f"is {_shown(value)}, which is not allowed here"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f'"{value[:60]}"' if value else "empty"
    return str(value)[:60]


def _last_key(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _written(loc: tuple[int | str, ...], document: Document) -> Path:
    path: Path = ()
    for part in loc:
        if (*path, part) in document.places or (*path, part) in document.keys:
            path = (*path, part)
    return path


def _known(model: type[BaseModel], path: Path, document: Document) -> list[str]:
    current: Any = model
    value: Any = document.value
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
        current = _step(current, part, value)
    if not (isinstance(current, type) and issubclass(current, BaseModel)):
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _step(model: Any, part: str | int, value: Any) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
        choices = _models(model.model_fields[str(part)].annotation)
    elif isinstance(model, list):
        choices = model
    else:
        return None
    if len(choices) > 1:
        fitting = [m for m in choices if isinstance(value, dict) and _fits(m, value)]
        return fitting[0] if fitting else choices
    return choices[0] if choices else None


def _fits(model: type[BaseModel], value: dict[str, Any]) -> bool:
    from typing import get_args  # noqa: PLC0415

    named = [name for name in ("kind", "type") if name in model.model_fields]
    return any(value.get(name) in get_args(model.model_fields[name].annotation) for name in named)


def _models(annotation: Any) -> list[type[BaseModel]]:
    from typing import get_args  # noqa: PLC0415

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
