"""JSON Schema validation that always terminates and reads nothing else: schemas and answers are untrusted.

jsonschema alone fetches references, matches patterns with backtracking, and has no step limit. Here references stay
inside the schema, patterns use RE2 (linear time), and steps are limited.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import re2
from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import Draft202012Validator, extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_DEPTH = 60
"""The deepest nesting of a schema."""
MAX_APPLIED = 10_000
"""Schemas that apply to one value, through references, `allOf` and the like."""
MAX_STEPS = 20_000
"""References that may be followed for one value, including all nested values."""
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
"""Keywords with schemas under names of the user's choice."""
_DATA = frozenset({"enum", "const", "default", "examples"})
"""Keywords with values, not schemas."""
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords with schemas for the same value."""
_UNICODE = re.compile(r"(?<!\\)((?:\\\\)*)\\u([0-9A-Fa-f]{4})")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class UnsupportedSchema(Exception):
    """A schema that can't be used; the message gives place and reason."""


class StepLimitExceeded(Exception):
    """Validation of a value needs more than MAX_STEPS."""


class SchemaValidator:
    """A compiled schema. The constructor raises UnsupportedSchema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._steps = 0
        if not isinstance(schema.get("$schema", ""), str):
            raise UnsupportedSchema("$schema must be text")
        base: Any = validator_for(schema, default=Draft202012Validator)
        plain = {key: value for key, value in schema.items() if key != "$schema"}
        try:
            base.check_schema(schema, format_checker=FormatChecker(()))  # patterns are checked below
        except SchemaError as error:
            raise UnsupportedSchema(f"at {_where(error)}: {error.message[:200]}") from error
        except RecursionError as error:
            raise UnsupportedSchema("it is nested too deep") from error
        known = base.VALIDATORS
        counted = {name: self._counted(known[name]) for name in _REFERENCES if name in known}
        checked: dict[str, Keyword] = {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": functools.partial(_additional_properties, known["additionalProperties"]),
            "uniqueItems": _unique_items,
        }
        made: Any = extend(base, {**checked, **counted})  # type: ignore[no-untyped-call]  # types-jsonschema: untyped
        self._validator = made(plain, registry=Registry())
        self._check_references(plain)

    def first_problem(self, value: Any) -> ValidationError | None:
        """Return the first problem of a value, by place. Raises StepLimitExceeded and RecursionError."""
        self._steps = 0
        problem: ValidationError | None = min(
            self._validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)), default=None
        )
        return problem

    def _counted(self, keyword: Keyword) -> Keyword:
        def counted(*arguments: Any) -> Iterator[ValidationError]:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise StepLimitExceeded
            yield from keyword(*arguments) or ()

        return counted

    def _check_references(self, schema: dict[str, Any]) -> None:
        resolver = self._validator._resolver  # noqa: SLF001  the one that validation uses
        sizes: dict[int, int] = {}
        keywords: set[str] = set()

        def size(node: Any) -> int:
            """Return how many schemas apply to a value if this one does."""
            if not isinstance(node, dict):
                return 1
            if id(node) not in sizes:
                sizes[id(node)] = 0
                sizes[id(node)] = min(1 + sum(map(size, _applied_with(node, resolver))), MAX_APPLIED + 1)
            elif not sizes[id(node)]:
                raise UnsupportedSchema("a $ref leads back to itself without a step into the value")
            return sizes[id(node)]

        try:
            for node in schemas(schema):
                keywords |= node.keys()
                _check_keywords(node, is_root=node is schema)
                if size(node) > MAX_APPLIED:
                    raise UnsupportedSchema(f"a value would have to match more than {MAX_APPLIED} schemas")
        except (RecursionError, AttributeError, TypeError) as error:
            raise UnsupportedSchema("its references can't be resolved") from error
        if "patternProperties" in keywords and "unevaluatedProperties" in keywords:
            raise UnsupportedSchema("a schema can't have both patternProperties and unevaluatedProperties")


def schemas(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield a schema and all nested schemas. Raises UnsupportedSchema if it is nested too deep."""
    if depth > MAX_DEPTH:
        raise UnsupportedSchema(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        for item in value:
            yield from schemas(item, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key in _NAMED and isinstance(item, dict):
                for inner in item.values():
                    yield from schemas(inner, depth + 2)
            elif key not in _DATA:
                yield from schemas(item, depth + 1)


def _check_keywords(node: Mapping[str, Any], *, is_root: bool) -> None:
    for key in _REFERENCES:
        if isinstance(node.get(key), str) and not node[key].startswith("#"):
            raise UnsupportedSchema(f"{key} {node[key][:80]} leads to another file; write it into `$defs`")
    if not is_root and (named := [key for key in ("$id", "$schema") if isinstance(node.get(key), str)]):
        raise UnsupportedSchema(f"{named[0]} is allowed only at the top; remove it from the nested schemas")
    patterns = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
    if isinstance(node.get("patternProperties"), dict):
        patterns += node["patternProperties"]
    for pattern in patterns:
        _search(pattern)


def _applied_with(node: Mapping[str, Any], resolver: Any) -> Iterator[Any]:
    for key in _REFERENCES:
        if isinstance(node.get(key), str):
            try:
                yield resolver.lookup(node[key]).contents
            except Unresolvable as error:
                raise UnsupportedSchema(f"{key} {node[key][:80]} leads to nothing in it") from error
    for key in _SAME_VALUE:
        inner = node.get(key)
        if isinstance(inner, list):
            yield from inner
        elif key == "dependentSchemas" and isinstance(inner, dict):
            yield from inner.values()
        elif inner is not None:
            yield inner


@functools.lru_cache(maxsize=1_000)
def _search(pattern: str) -> Callable[[str], Any]:
    """Return a pattern's search function. Raises UnsupportedSchema if RE2 rejects it."""
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], Any] = re2.compile(_UNICODE.sub(r"\1\\x{\2}", pattern), options).search
    except (re2.error, UnicodeError) as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        message = f"the pattern {pattern[:80]!r} can't be used: {reason}"
        raise UnsupportedSchema(
            f"{message}; look-around, back references and more than 1,000 repeats are not known"
        ) from error
    return search


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _search(pattern)(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        search = _search(pattern)
        for name, value in instance.items():
            if search(name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(
    plain: Keyword, validator: Any, additional: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:
        yield from plain(validator, additional, instance, schema) or ()
        return
    if not validator.is_type(instance, "object"):
        return
    searches = [_search(pattern) for pattern in schema["patternProperties"]]
    known = schema.get("properties", {})
    for name in instance:
        if name in known or any(search(name) for search in searches):
            continue
        if additional is False:
            yield ValidationError(f"{name!r} matches none of the patterns of properties")
        else:
            yield from validator.descend(instance[name], additional, path=name)


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array") and len(set(map(_frozen, instance))) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _frozen(value: Any) -> Any:
    """Return a hashable value, equal for what JSON Schema considers equal."""
    match value:
        case bool():
            return ("boolean", value)
        case list():
            return ("array", *map(_frozen, value))
        case dict():
            return ("object", frozenset((key, _frozen(item)) for key, item in value.items()))
    return value


def _where(error: SchemaError) -> str:
    return "".join(f"/{part}" for part in error.absolute_path) or "/"
