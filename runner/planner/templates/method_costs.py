"""Step costs of methods of text and containers, charged before the call."""

from __future__ import annotations

from typing import Any

from runner.planner.templates.filter_costs import (
    CONTAINERS,
    charge_arguments,
    charge_format,
    charge_product,
    charge_search,
    length_after_replace,
    to_list,
)
from runner.planner.templates.step_limit import RowError, StepLimit

_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_SEARCHED_BACKWARD = frozenset({"rfind", "rindex", "rpartition", "rsplit"})
"""Methods that take text length times pattern length; searching forward takes their sum."""
_STRIPPED = frozenset({"strip", "lstrip", "rstrip"})
"""Methods that look up each character of the text in their argument."""


def charge_method(
    steps: StepLimit, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Charge a method call on `text`; return its arguments, generators as lists. Raises RowError."""
    charge_arguments(steps, args, kwargs)
    if name in {"format", "format_map"}:
        charge_format(steps, text, args, kwargs)
    elif name in _WIDTHS:
        widths = [value for value in (*args, *kwargs.values()) if isinstance(value, int)]
        steps.spend_text(len(text) * (max(widths, default=8) if name == "expandtabs" else 1) + max(widths, default=0))
    elif name == "replace" and len(args) >= 2 and isinstance(args[0], str) and isinstance(args[1], str):
        steps.spend_text(length_after_replace(text, args[0], args[1]))
    elif name == "join" and args:
        items = to_list(steps, args[0])
        steps.spend_text(sum(len(item) + len(text) for item in items if isinstance(item, str)))
        return items, *args[1:]
    elif name == "translate":
        raise RowError("text can't be translated with .translate(); use the filter `replace`")
    elif name == "encode":
        raise RowError("text can't be encoded with .encode(); bytes are no text")
    else:
        if name in _SEARCHED_BACKWARD or name in _STRIPPED:
            charge_product(steps, text, args)
        elif name == "striptags":
            charge_search(steps, text, (), {})
        if name in {"split", "rsplit", "splitlines"}:
            steps.spend_entries(len(text))
        else:
            steps.spend_text(len(text))
    return args


def charge_builtin(steps: StepLimit, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Charge a call of a list's or mapping's method, or of `dict`."""
    charge_arguments(steps, args, kwargs)
    owner: Any = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "")
    if type(owner) in CONTAINERS:
        if name in {"index", "count"}:
            steps.spend_nested(owner)
        else:
            steps.spend_entries(len(owner))
    elif name in {"to_bytes", "from_bytes"}:
        raise RowError(f"bytes are no text; .{name}() can't be used")
