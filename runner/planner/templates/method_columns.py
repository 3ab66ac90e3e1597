"""What each method of text and of Python's containers costs a row, taken from the meter before it is called."""

from __future__ import annotations

from typing import Any

from runner.planner.templates.filter_costs import (
    CONTAINERS,
    arguments,
    formatting,
    gathered,
    product,
    replaced,
    searched,
)
from runner.planner.templates.step_limit import RowError, StepLimit

_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_SEARCHED_BACKWARD = frozenset({"rfind", "rindex", "rpartition", "rsplit"})
"""Methods whose search takes the text's length times the pattern's; searching forward takes their sum."""
_STRIPPED = frozenset({"strip", "lstrip", "rstrip"})
"""Methods that look for each character of the text among the given ones."""


def method(meter: StepLimit, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Take what a method of `text` costs with these arguments. Raises RowError.

    Returns the arguments to call it with: what comes one by one is gathered, since it comes once only.
    """
    arguments(meter, args, kwargs)
    if name in {"format", "format_map"}:
        formatting(meter, text, args, kwargs)
    elif name in _WIDTHS:
        widths = [value for value in (*args, *kwargs.values()) if isinstance(value, int)]
        meter.text(len(text) * (max(widths, default=8) if name == "expandtabs" else 1) + max(widths, default=0))
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        meter.text(replaced(text, args[0], args[1]))
    elif name == "join" and args:
        items = gathered(meter, args[0])
        meter.text(sum(len(item) + len(text) for item in items if isinstance(item, str)))
        return items, *args[1:]
    elif name == "translate":
        raise RowError("text can't be translated with .translate(); use the filter `replace`")
    elif name == "encode":
        raise RowError("text can't be encoded with .encode(); bytes are no text")
    else:
        if name in _SEARCHED_BACKWARD or name in _STRIPPED:
            product(meter, text, args)
        elif name == "striptags":
            searched(meter, text, (), {})
        if name in {"split", "rsplit", "splitlines"}:
            meter.entries(len(text))
        else:
            meter.text(len(text))
    return args


def builtin(meter: StepLimit, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Take what a function of Python's own costs with these arguments: a method of a list or mapping, or `dict`."""
    arguments(meter, args, kwargs)
    owner: Any = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "")
    if type(owner) in CONTAINERS:
        if name in {"index", "count"}:
            meter.spend_nested(owner)
        else:
            meter.entries(len(owner))
    elif name in {"to_bytes", "from_bytes"}:
        raise RowError(f"bytes are no text; .{name}() can't be used")
