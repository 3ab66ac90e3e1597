"""What each filter and each method of text costs a row, told to the meter before anything long is made."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jinja2

from runner.planner.meter import NUMBERS, Meter, RowError

_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_FAR = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""Widths and precisions of formats that are too large, or that a value gives."""
_FIELDS = re.compile(r"[%{]")
_SHORT = 1_000
_CONTAINERS = frozenset({list, dict, tuple})
_SHALLOW = frozenset(
    {"attr", "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject", "rejectattr"}
    | {"reverse", "select", "selectattr"}
)
"""Filters that hand entries on, and look into none."""
_LETTERS = frozenset({"groupby", "max", "min", "sort", "sum", "unique"})
"""Filters that take text apart into one text for each character."""
_ONE_BY_ONE = frozenset({"map", "reject", "rejectattr", "select", "selectattr"})
"""Filters that do something with each entry when it is asked for."""
_TEXTS = frozenset(
    {"capitalize", "center", "dedent", "e", "escape", "forceescape", "format", "indent", "lower", "replace", "string"}
    | {"striptags", "title", "trim", "truncate", "truncate_tokens", "upper", "urlize", "wordcount", "wordwrap"}
    | {"xml_escape"}
)
"""Filters that make text of what they are given."""
TESTS = (
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "in",
)
"""Tests that compare."""
_PRECISION = 400
"""Digits that rounding may be asked for; a double has no more than 324 behind the point."""
_INTEGER_BITS = 4_096


def metered(meter: Meter, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that costs what it takes and gives.

    It is called for most of what is printed, so the meter's own functions are called only where they have something to
    say: a row has run out of steps, or a text is long.
    """
    first = 1 if getattr(filter_, "jinja_pass_arg", None) is not None else 0
    if name == "join":
        return _metered_join(meter, filter_, first)
    before = _BEFORE.get(name)
    letters = 1 if name in _LETTERS else 100
    shallow, texts, one_by_one = name in _SHALLOW, name in _TEXTS, name in _ONE_BY_ONE

    @functools.wraps(filter_)
    def plain(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        kind = type(value)
        if kind is str:
            meter.left -= 1 + len(value) // letters
        elif kind in _CONTAINERS and not shallow:
            meter.weigh(value)
        else:
            meter.left -= 1 + len(value) // 100 if kind in _CONTAINERS else 1
            if texts:
                printed(value)
        if meter.left < 0:
            meter.take(0)
        if kwargs or len(args) > first + 1:
            _arguments(meter, args[first + 1 :], kwargs)
        if one_by_one and not isinstance(value, jinja2.Undefined):
            args = (*args[:first], meter.count(value), *args[first + 1 :])
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _given(meter, result)
        return result

    @functools.wraps(filter_)
    def growing(*args: Any, **kwargs: Any) -> Any:
        assert before is not None
        value: Any = args[first] if len(args) > first else None
        if texts:
            printed(value)
        _arguments(meter, args[first + 1 :], kwargs)
        before(meter, value, args[first + 1 :], kwargs)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _given(meter, result)
        elif type(result) is int and result.bit_length() > _INTEGER_BITS:
            raise RowError("this number is too large")
        return result

    return plain if before is None else growing


def weighed_test(meter: Meter, test: Any) -> Callable[..., Any]:
    """A test that costs what it compares."""

    @functools.wraps(test)
    def weighed(*args: Any) -> Any:
        meter.take(1)
        _arguments(meter, args, {})
        return test(*args)

    return weighed


def compared(meter: Meter, value: Any) -> Any:
    """A value that is about to be compared or hashed, after its cost was taken."""
    if type(value) in _CONTAINERS:
        meter.weigh(value)
    elif isinstance(value, str):
        meter.take(len(value) // 200)
    elif isinstance(value, _VIEWS):
        meter.weigh(list(value))
    return value


_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))


def sliced(meter: Meter, value: Any) -> Any:
    """A value of which a part is about to be taken, after its cost was taken."""
    if isinstance(value, str):
        meter.text(len(value))
    elif type(value) in _CONTAINERS:
        meter.entries(len(value))
    return value


def printed(value: Any) -> None:
    """Raise RowError for what is no value: its text would name an address, and be another in each run."""
    kind = type(value)
    if kind in NUMBERS or kind in _CONTAINERS or isinstance(value, (str, jinja2.Undefined)):
        return
    more = "; add `| list` or `| join`" if kind.__name__ in {"generator", "map", "filter", "reversed"} else ""
    raise RowError(f"a {kind.__name__} cannot be printed{more}")


def _arguments(meter: Meter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) in _CONTAINERS:
            meter.weigh(value)


def builtin(meter: Meter, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take what a function of Python's own costs with these arguments: a method of a list or mapping, or `dict`."""
    _arguments(meter, args, kwargs)
    owner: Any = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "")
    if type(owner) in _CONTAINERS:
        if name in {"index", "count"}:
            meter.weigh(owner)
        else:
            meter.entries(len(owner))
    elif name in {"to_bytes", "from_bytes"}:
        raise RowError(f"bytes are no text; .{name}() can't be used")


def _given(meter: Meter, result: str) -> None:
    """Take what a text that was made costs."""
    if len(result) < _SHORT and meter.left > 0:
        meter.left -= 1
    else:
        meter.text(len(result))


def _metered_join(meter: Meter, filter_: Callable[..., Any], first: int) -> Callable[..., Any]:
    @functools.wraps(filter_)
    def join(*args: Any, **kwargs: Any) -> Any:
        value: Any = args[first] if len(args) > first else None
        if value is not None and not isinstance(value, (str, list, tuple, dict)):
            # What comes one by one has no length to look at before it is joined.
            value = list(meter.count(value))
            args = (*args[:first], value, *args[first + 1 :])
        _arguments(meter, args[first + 1 :], kwargs)
        between = len(str((*args[first + 1 :], kwargs.get("d", ""))[0]))
        meter.text(_entries(meter, value) + between * len(value))
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _given(meter, result)
        return result

    return join


def _entries(meter: Meter, value: Any) -> int:
    """Take a step for each entry, as `Meter.weigh` does; the characters of those that are text, together."""
    if type(value) is list:
        sizes = [len(item) for item in value if type(item) is str]
        if len(sizes) == len(value) and max(sizes, default=0) < _SHORT:  # most are
            meter.take(1 + 2 * len(value))
            return sum(sizes)
    meter.weigh(value)
    return sum(len(item) for item in value if isinstance(item, str))


def method(meter: Meter, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Take what a method of `text` costs with these arguments. Raises RowError.

    Returns the arguments to call it with: what comes one by one is gathered, since it comes once only.
    """
    if name in {"format", "format_map"}:
        formatting(meter, text, args, kwargs)
    elif name in _WIDTHS:
        widths = [value for value in (*args, *kwargs.values()) if isinstance(value, int)]
        meter.text(len(text) * (max(widths, default=8) if name == "expandtabs" else 1) + max(widths, default=0))
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        meter.text(_replaced(text, args[0], args[1]))
    elif name == "join" and args:
        items = list(meter.count(args[0]))
        meter.text(sum(len(item) + len(text) for item in items if isinstance(item, str)))
        return items, *args[1:]
    elif name == "translate":
        raise RowError("text can't be translated with .translate(); use the filter `replace`")
    elif name == "encode":
        raise RowError("text can't be encoded with .encode(); bytes are no text")
    elif name in {"split", "rsplit", "splitlines"}:
        meter.entries(len(text))
    else:
        meter.text(len(text))
    return args


def _replaced(text: str, old: str, new: str) -> int:
    return len(text) + (text.count(old) if old else len(text) + 1) * max(0, len(new) - len(old))


def _numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    return [abs(value) for value in (*args, *kwargs.values()) if isinstance(value, int)]


def _wide(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Filters that pad: each line may be as much longer as a number or text that is given."""
    meter.weigh(value)
    texts = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    grown = max([*_numbers(args, kwargs), *texts], default=4)
    text = value if isinstance(value, str) else ""
    meter.text(len(text) + (text.count("\n") + 1) * grown)


def _wrapped(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.weigh(value)
    text, width = str(value), max(1, min(_numbers(args, kwargs), default=79))
    ends = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    meter.text(len(text) + (len(text) // width + text.count("\n") + 1) * max(ends, default=1))


def _replace(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.weigh(value)
    old, new = (*args, kwargs.get("old", ""), kwargs.get("new", ""))[:2]
    meter.text(_replaced(str(value), str(old), str(kwargs.get("new", new))))


def _filled(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _listed(meter, value, (), {})
    meter.weigh(value)
    meter.entries(max(_numbers(args, kwargs), default=0))


def _cut(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _listed(meter, value, (), {})
    meter.weigh(value)
    meter.take(1 + max(_numbers(args, kwargs), default=0))  # each part is a list


def _rounded(meter: Meter, _value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.take(1)
    if max(_numbers(args, kwargs), default=0) > _PRECISION:
        raise RowError(f"a number is rounded to {_PRECISION} digits at most")


def _listed(meter: Meter, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    # Text is taken apart into one text for each character.
    meter.entries((5 if isinstance(value, str) else 1) * (len(value) if hasattr(value, "__len__") else 0))


def _taken_apart(meter: Meter, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """Filters that look for words or lines, and hold them all."""
    meter.weigh(value)
    meter.take(1 + len(value) // 5 if isinstance(value, str) else 1)


def _dedented(meter: Meter, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    meter.weigh(value)
    meter.take(1 + len(value) // 2 if isinstance(value, str) else 1)


def _searched(meter: Meter, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    """Filters that go over the text again for what they find in it."""
    meter.weigh(value)
    meter.take(1 + (len(value) ** 2 // 100_000 if isinstance(value, str) else 0))


def _cheap(meter: Meter, value: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    compared(meter, value)
    meter.take(1)


def _deep(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Filters that write a value out: `indent` stands before each entry, once for each level."""
    start = meter.left
    meter.weigh(value)
    meter.text((start - meter.left) * max(_numbers(args, kwargs), default=0))


def formatting(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take what filling a format costs. Raises RowError, for widths too large or unknown above all."""
    meter.weigh(value)
    left = meter.left
    meter.weigh([*args, *kwargs.values()])
    text = str(value)
    if _FAR.search(text):
        raise RowError("a format's width is at most 999, and stands in the format")
    fields = len(_FIELDS.findall(text))
    if fields > 1:
        # Each field may be as wide as a width can be, or as the longest text that is given, entries and all.
        given = (*args, *kwargs.values())
        longest = max((len(part) for part in given if isinstance(part, str)), default=0)
        wide = 999 if any(mark.isdigit() for mark in text) else 25
        meter.text(len(text) + fields * max(wide, longest, 200 * (left - meter.left) if _holds_more(given) else 0))


def _holds_more(values: tuple[Any, ...]) -> bool:
    return any(type(value) in _CONTAINERS for value in values)


_BEFORE = {
    "batch": _filled,
    "center": _wide,
    "dedent": _dedented,
    "format": formatting,
    "indent": _wide,
    "pprint": _deep,
    "replace": _replace,
    "int": _cheap,
    "list": _listed,
    "round": _rounded,
    "slice": _cut,
    "string": _deep,
    "striptags": _searched,
    "title": _taken_apart,
    "truncate_tokens": _taken_apart,
    "urlize": _searched,
    "wordcount": _taken_apart,
    "tojson": _deep,
    "wordwrap": _wrapped,
    "xmlattr": _deep,
}
