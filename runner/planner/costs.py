"""What each filter and each method of text costs a row, told to the meter before anything long is made."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from runner.planner.meter import Meter, RowError

_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_FAR = re.compile(r"\d{4}|\*|\{[^{}]*\{")
"""Widths and precisions of formats that are too large, or that a value gives."""
_SHORT = 1_000


def metered(meter: Meter, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that costs what it takes and gives.

    It is called for most of what is printed, so the meter's own functions are called only where they have something to
    say: a row has run out of steps, or a text is long.
    """
    first = 1 if getattr(filter_, "jinja_pass_arg", None) is not None else 0
    if name == "join":
        return _metered_join(meter, filter_, first)
    before = _BEFORE.get(name)

    @functools.wraps(filter_)
    def plain(*args: Any, **kwargs: Any) -> Any:
        value = args[first] if len(args) > first else None
        meter.left -= 1 + len(value) // 100 if isinstance(value, (str, list, dict)) else 1
        if meter.left < 0:
            meter.take(0)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _given(meter, result)
        return result

    @functools.wraps(filter_)
    def growing(*args: Any, **kwargs: Any) -> Any:
        assert before is not None
        before(meter, args[first] if len(args) > first else None, args[first + 1 :], kwargs)
        result = filter_(*args, **kwargs)
        if isinstance(result, str):
            _given(meter, result)
        return result

    return plain if before is None else growing


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


def method(meter: Meter, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take what a method of `text` costs with these arguments. Raises RowError."""
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
    elif name == "translate":
        raise RowError("text can't be translated with .translate(); use the filter `replace`")
    else:
        meter.text(len(text))


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
    text, width = str(value), max(1, min(_numbers(args, kwargs), default=79))
    ends = [len(part) for part in (*args, *kwargs.values()) if isinstance(part, str)]
    meter.text(len(text) + (len(text) // width + text.count("\n") + 1) * max(ends, default=1))


def _replace(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    old, new = (*args, kwargs.get("old", ""), kwargs.get("new", ""))[:2]
    meter.text(_replaced(str(value), str(old), str(kwargs.get("new", new))))


def _filled(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    meter.weigh(value)
    meter.text(max(_numbers(args, kwargs), default=0))


def _deep(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Filters that write a value out: `indent` stands before each entry, once for each level."""
    start = meter.left
    meter.weigh(value)
    meter.text((start - meter.left) * max(_numbers(args, kwargs), default=0))


def formatting(meter: Meter, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take what filling a format costs. Raises RowError, for widths too large or unknown above all."""
    meter.weigh([*args, *kwargs.values()])
    if _FAR.search(str(value)):
        raise RowError("a format's width is at most 999, and stands in the format")


_BEFORE = {
    "batch": _filled,
    "center": _wide,
    "format": formatting,
    "indent": _wide,
    "pprint": _deep,
    "replace": _replace,
    "round": _filled,
    "slice": _filled,
    "string": _deep,
    "tojson": _deep,
    "wordwrap": _wrapped,
    "xmlattr": _deep,
}
