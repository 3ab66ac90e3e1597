"""Step costs of filters and tests, charged before anything long is made."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jinja2

from runner.planner.templates.step_limit import NUMBERS, RowError, StepLimit

_LARGE_WIDTH = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""Widths and precisions of formats that are too large, or that a value supplies."""
_FIELDS = re.compile(r"[%{]")
_SHORT = 1_000
CONTAINERS = frozenset({list, dict, tuple})
"""Types of values that contain others."""
_READS_NO_ENTRY = frozenset(
    {"attr", "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject", "rejectattr"}
    | {"reverse", "select", "selectattr"}
)
"""Filters that pass entries on without reading them."""
_SPLITS_TEXT = frozenset({"groupby", "max", "min", "sort", "sum", "unique"})
"""Filters that split text into characters."""
_LAZY = frozenset({"map", "reject", "rejectattr", "select", "selectattr"})
"""Filters that process each entry on demand."""
_MAKES_TEXT = frozenset(
    {"capitalize", "center", "dedent", "e", "escape", "forceescape", "format", "indent", "lower", "replace", "string"}
    | {"safe", "striptags", "title", "trim", "truncate", "truncate_tokens", "upper", "urlize", "wordcount", "wordwrap"}
    | {"xml_escape"}
)
"""Filters that convert their value to text."""
_NUMERIC_TESTS = frozenset({"divisibleby", "even", "odd"})
"""Tests that Jinja implements with `%`, which formats if the value is text."""
_CHEAP_TESTS = frozenset(
    {"boolean", "callable", "defined", "escaped", "false", "float", "integer", "iterable", "mapping", "none", "number"}
    | {"sameas", "sequence", "string", "true", "undefined"}
)
"""Tests that read no entry."""
_BY_ATTRIBUTE = _SPLITS_TEXT | _LAZY
"""Filters that follow an attribute path, such as `a.b,c.d`, for each entry."""
_PRECISION = 400
"""Most digits for rounding; a double has at most 324 after the point."""
_INTEGER_BITS = 4_096


def metered(steps: StepLimit, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that each call costs what it reads and makes."""
    first = 1 if getattr(filter_, "jinja_pass_arg", None) is not None else 0
    if name == "join":
        return _metered_join(steps, filter_, first)
    cost = _COSTS.get(name)
    if cost is None:
        return _metered_by_value(steps, name, filter_, first)
    return _metered_by_cost(steps, filter_, first, cost, makes_text=name in _MAKES_TEXT)


def _metered_by_value(steps: StepLimit, name: str, filter_: Callable[..., Any], first: int) -> Callable[..., Any]:
    """Wrap a filter whose cost is proportional to its value.

    Short text with steps left, the usual case, calls no other function.
    """
    characters_a_step = 1 if name in _SPLITS_TEXT else 100
    shallow, makes_text, lazy = name in _READS_NO_ENTRY, name in _MAKES_TEXT, name in _LAZY
    by_attribute = name in _BY_ATTRIBUTE

    @functools.wraps(filter_)
    def charged(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        if type(value) is str:
            steps.remaining -= 1 + len(value) // characters_a_step
        else:
            given, value = value, _charge_value(steps, value, shallow=shallow, makes_text=makes_text)
            if value is not given:
                args = (*args[:first], value, *args[first + 1 :])
        if steps.remaining < 0:
            steps.spend(0)
        parts = 1
        if kwargs or len(args) > first + 1:
            parts = _charge_options(steps, value, args[first + 1 :], kwargs, by_attribute=by_attribute)
        if lazy and not isinstance(value, jinja2.Undefined):
            items = value if hasattr(value, "__len__") else steps.spend_each(value, parts)
            args = (*args[:first], steps.spend_each(items), *args[first + 1 :])
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _charge_text(steps, result)
        return result

    return charged


def _charge_value(steps: StepLimit, value: Any, *, shallow: bool, makes_text: bool) -> Any:
    """Charge other values than plain text; return them, or a generator's or view's entries."""
    kind = type(value)
    if kind in CONTAINERS and not shallow:
        steps.spend_nested(value)
        return value
    steps.remaining -= 1 + len(value) // 100 if kind in CONTAINERS else 1
    if makes_text:
        check_printable(value)
    elif not (shallow or isinstance(value, (str, jinja2.Undefined))) and hasattr(kind, "__iter__"):
        return to_list(steps, value)
    return value


def _charge_options(
    steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, by_attribute: bool
) -> int:
    charge_arguments(steps, args, kwargs)
    parts = _parts(args, kwargs) if by_attribute else 1
    if parts > 1 and hasattr(value, "__len__"):
        steps.spend(parts * len(value))
    return parts


def _metered_by_cost(
    steps: StepLimit, filter_: Callable[..., Any], first: int, cost: Callable[..., None], *, makes_text: bool
) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def charged(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        if makes_text:
            check_printable(value)
        charge_arguments(steps, args[first + 1 :], kwargs)
        cost(steps, value, args[first + 1 :], kwargs)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _charge_text(steps, result)
        elif type(result) is int and result.bit_length() > _INTEGER_BITS:
            raise RowError("this number is too large")
        return result

    return charged


def metered_test(steps: StepLimit, name: str, test: Any) -> Callable[..., Any]:
    """Wrap a test so that each call costs what it may compare, hash or convert to text."""
    first = 1 if getattr(test, "jinja_pass_arg", None) is not None else 0
    numeric, cheap = name in _NUMERIC_TESTS, name in _CHEAP_TESTS

    @functools.wraps(test)
    def charged(*args: Any) -> Any:
        steps.spend(1)
        for value in () if cheap else args[first:]:
            charge_comparison(steps, value)
        if numeric and isinstance(args[first], str):
            raise RowError(f"the test `{name}` takes a number, not text")
        return test(*args)

    return charged


def to_list(steps: StepLimit, value: Any) -> list[Any]:
    """Charge and return the entries of a generator, view or range."""
    items = list(steps.spend_each(value))
    steps.spend_nested(items)
    return items


def _parts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    values = (*args, *kwargs.values())
    return max((value.count(".") + value.count(",") + 1 for value in values if isinstance(value, str)), default=1)


def charge_comparison(steps: StepLimit, value: Any) -> Any:
    """Charge a value before comparing or hashing; return it."""
    if type(value) in CONTAINERS:
        steps.spend_nested(value)
    elif isinstance(value, str):
        steps.spend(len(value) // 200)
    elif isinstance(value, _VIEWS):
        steps.spend_nested(list(value))
    return value


_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))


def charge_slice(steps: StepLimit, value: Any) -> Any:
    """Charge a value before slicing; return it."""
    if isinstance(value, str):
        steps.spend_text(len(value))
    elif type(value) in CONTAINERS:
        steps.spend_entries(len(value))
    return value


def check_printable(value: Any) -> None:
    """Raise RowError unless a value is plain data: other text may contain a memory address."""
    kind = type(value)
    if kind in NUMBERS or kind in CONTAINERS or isinstance(value, (str, jinja2.Undefined)):
        return
    more = "; add `| list` or `| join`" if kind.__name__ in {"generator", "map", "filter", "reversed"} else ""
    raise RowError(f"a {kind.__name__} cannot be printed{more}")


def charge_arguments(steps: StepLimit, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge each entry of the arguments."""
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) in CONTAINERS:
            steps.spend_nested(value)


def _charge_text(steps: StepLimit, result: str) -> None:
    if len(result) < _SHORT and steps.remaining > 0:
        steps.remaining -= 1
    else:
        steps.spend_text(len(result))


def _metered_join(steps: StepLimit, filter_: Callable[..., Any], first: int) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def join(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        if value is not None and not isinstance(value, (str, list, tuple, dict)):
            # A generator has no length to check before joining.
            value = list(steps.spend_each(value))
            args = (*args[:first], value, *args[first + 1 :])
        charge_arguments(steps, args[first + 1 :], kwargs)
        between = len(str((*args[first + 1 :], kwargs.get("d", ""))[0]))
        steps.spend_text(_charge_entries(steps, value) + between * len(value))
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _charge_text(steps, result)
        return result

    return join


def _charge_entries(steps: StepLimit, value: Any) -> int:
    """Charge like `StepLimit.spend_nested`; return the text entries' characters."""
    if type(value) is list:
        sizes = [len(item) for item in value if type(item) is str]
        if len(sizes) == len(value) and max(sizes, default=0) < _SHORT:  # the usual case
            steps.spend(1 + 2 * len(value))
            return sum(sizes)
    steps.spend_nested(value)
    return sum(len(item) for item in value if isinstance(item, str))


_BYTES_A_STEP = 20_000
"""Characters copied or compared in about the time of one step."""


def charge_product(steps: StepLimit, text: str, args: tuple[Any, ...]) -> None:
    """Charge comparing each character of a text with each of a pattern."""
    if args and isinstance(args[0], str):
        steps.spend(len(text) * len(args[0]) // _BYTES_A_STEP)


def length_after_replace(text: str, old: str, new: str) -> int:
    """Return a text's length after replacing `old` by `new`."""
    return len(text) + (text.count(old) if old else len(text) + 1) * max(0, len(new) - len(old))


def _numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    return [abs(value) for value in (*args, *kwargs.values()) if isinstance(value, int)]


def _padded(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge padding: each line may grow by a given number or text."""
    steps.spend_nested(value)
    texts = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    grown = max([*_numbers(args, kwargs), *texts], default=4)
    text = value if isinstance(value, str) else ""
    steps.spend_text(len(text) + (text.count("\n") + 1) * grown)


def _wrapped(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    steps.spend_nested(value)
    text, width = str(value), max(1, min(_numbers(args, kwargs), default=79))
    ends = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    steps.spend_text(len(text) + (len(text) // width + text.count("\n") + 1) * max(ends, default=1))
    longest = max(map(len, text.split()), default=0)
    # Cutting a long word copies its rest each time, and each chunk of a line is a text.
    steps.spend(len(text) // 2 + longest * longest // (width * _BYTES_A_STEP))


def _trimmed(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    steps.spend_nested(value)
    text = str(value)
    steps.spend(1 + len(text) // 100)
    charge_product(steps, text, (*args, *kwargs.values()))


def _replace(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    steps.spend_nested(value)
    old, new = (*args, kwargs.get("old", ""), kwargs.get("new", ""))[:2]
    steps.spend_text(length_after_replace(str(value), str(old), str(kwargs.get("new", new))))


def _filled(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _listed(steps, value, (), {})
    steps.spend_nested(value)
    steps.spend_entries(max(_numbers(args, kwargs), default=0))


def _cut(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _listed(steps, value, (), {})
    steps.spend_nested(value)
    steps.spend(1 + max(_numbers(args, kwargs), default=0))  # each slice is a list


def _rounded(steps: StepLimit, _value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    steps.spend(1)
    if max(_numbers(args, kwargs), default=0) > _PRECISION:
        raise RowError(f"a number is rounded to {_PRECISION} digits at most")


def _listed(steps: StepLimit, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    # Text becomes a list of characters.
    steps.spend_entries((5 if isinstance(value, str) else 1) * (len(value) if hasattr(value, "__len__") else 0))


def _taken_apart(steps: StepLimit, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    steps.spend_nested(value)
    steps.spend(1 + len(value) // 5 if isinstance(value, str) else 1)


def _halved(steps: StepLimit, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    steps.spend_nested(value)
    steps.spend(1 + len(value) // 2 if isinstance(value, str) else 1)


def charge_search(steps: StepLimit, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """Charge filters that read the text for each match."""
    steps.spend_nested(value)
    steps.spend(1 + (len(value) ** 2 // 100_000 if isinstance(value, str) else 0))


def _cheap(steps: StepLimit, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    charge_comparison(steps, value)
    steps.spend(1)


def _deep(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge serialized values: `indent` is repeated for each entry and level."""
    start = steps.remaining
    steps.spend_nested(value)
    steps.spend_text((start - steps.remaining) * max(_numbers(args, kwargs), default=0))


def charge_format(steps: StepLimit, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge formatting. Raises RowError for widths that are too large or not constant."""
    steps.spend_nested(value)
    left = steps.remaining
    steps.spend_nested([*args, *kwargs.values()])
    text = str(value)
    if _LARGE_WIDTH.search(text):
        raise RowError("a format's width must be a constant of at most 999")
    fields = len(_FIELDS.findall(text))
    if fields > 1:
        # Each field may be as wide as the largest width or the longest argument, including its entries.
        given = (*args, *kwargs.values())
        longest = max((len(part) for part in given if isinstance(part, str)), default=0)
        wide = 999 if any(mark.isdigit() for mark in text) else 25
        steps.spend_text(
            len(text) + fields * max(wide, longest, 200 * (left - steps.remaining) if _holds_more(given) else 0)
        )


def _holds_more(values: tuple[Any, ...]) -> bool:
    return any(type(value) in CONTAINERS for value in values)


_COSTS = {
    "batch": _filled,
    "center": _padded,
    "dedent": _halved,
    "format": charge_format,
    "indent": _padded,
    "pprint": _deep,
    "replace": _replace,
    "int": _cheap,
    "list": _listed,
    "round": _rounded,
    "slice": _cut,
    "string": _deep,
    "striptags": charge_search,
    "title": _halved,
    "truncate_tokens": _taken_apart,
    "urlize": charge_search,
    "wordcount": _taken_apart,
    "tojson": _deep,
    "trim": _trimmed,
    "wordwrap": _wrapped,
    "xmlattr": _deep,
}
