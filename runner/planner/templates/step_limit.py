"""Step limit of one row's rendering: planning an untrusted pull request always terminates.

Unlike seconds, steps keep rendering pure: it fails at the same place everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jinja2

MAX_STEPS = 1_000_000
"""Steps of one row. A loop turn, call or filter costs one, text one per 200 characters, a list one per 50 entries. So a
row's values fit into some hundred megabytes.
"""
MAX_TEXT = 10_000_000
"""Longest text, in characters, and longest list that a template may make."""


NUMBERS = frozenset({int, float, bool, type(None)})
"""Types of values with a short text."""


class RowError(Exception):
    """A row could not be rendered; the message names template, line and columns.

    `public` omits the row's content.
    """

    code = "BS206"

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message)
        self.public = public or message


class StepLimit:
    """A row's remaining steps. Hot paths subtract directly, to save a call."""

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Spend steps. Raises RowError."""
        self.remaining -= steps
        if self.remaining < 0:
            raise RowError(f"the template exceeds {MAX_STEPS} steps for one row; a loop turn costs one")

    def spend_text(self, size: int) -> None:
        """Spend a text's cost before it is made. Raises RowError."""
        if size > MAX_TEXT:
            raise RowError(
                f"the template makes a text or list of {size} characters or entries; at most {MAX_TEXT} are allowed"
            )
        self.spend(1 + size // 200)

    def spend_entries(self, size: int) -> None:
        """Spend a list's cost before it is made. Raises RowError."""
        if size > MAX_TEXT:
            self.spend_text(size)
        self.spend(1 + size // 50)

    def spend_each(self, items: Iterable[Any], cost: int = 1) -> Iterator[Any]:
        """Yield the items; each costs some steps."""
        for item in items:
            self.remaining -= cost
            if self.remaining < 0:
                self.spend(0)
            yield item

    def spend_nested(self, value: Any) -> None:
        """Spend a step for each nested entry, before a value is printed or compared.

        Shared references count each time, because nesting them multiplies the entries exponentially. Raises RowError,
        also for an entry that is not plain data, such as a generator.
        """
        if not isinstance(value, (list, tuple, dict)):
            return
        self.spend(1 + len(value))
        for item in value.values() if isinstance(value, dict) else value:
            kind = type(item)
            if kind is str and len(item) < 1_000:  # the usual case
                self.remaining -= 1
            elif isinstance(item, (list, tuple, dict)):
                self.spend_nested(item)
            elif kind not in NUMBERS:
                self._spend_leaf(item)
        for key in value if isinstance(value, dict) else ():
            if type(key) is not str:
                self.spend_nested([key])
        self.spend(0)

    def _spend_leaf(self, item: Any) -> None:
        if isinstance(item, jinja2.Undefined):
            str(item)  # raises UndefinedError
        elif isinstance(item, str):
            self.spend_text(len(item))
        else:
            raise RowError(f"a list or mapping that holds a {type(item).__name__} can't be printed or compared")
