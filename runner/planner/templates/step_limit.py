"""The meter that bounds what one row's rendering may cost, so that planning a stranger's pull request ends.

Each loop turn, call, loaded template and long text costs steps; a row has `MAX_STEPS` of them. No text grows beyond
`MAX_TEXT`
characters. Counting steps instead of seconds keeps rendering a pure function: it fails at the same place on every
machine. What costs how much stands in `runner.planner.templates.filter_costs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jinja2

MAX_STEPS = 1_000_000
"""What one row may cost. A turn of a loop, a call, a filter and a loaded template cost one each, a text one for 200
characters, a list one for 50 entries; so all that a row makes together fits into some hundred megabytes."""
MAX_TEXT = 10_000_000
"""The longest text, in characters, that a template may make; also the longest list."""


NUMBERS = frozenset({int, float, bool, type(None)})
"""The types of values that have a short text."""


class RowError(Exception):
    """A row could not be rendered; the message names template, line and the columns there are.

    `public` is the message without what stands in the row; the message itself where nothing of a row is in it.
    """

    code = "BS206"

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message)
        self.public = public or message


class StepLimit:
    """What is left of a row's steps. Rendering takes some of `left` by itself where a call would cost more than it."""

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Take some steps. Raises RowError where there are not so many left."""
        self.remaining -= steps
        if self.remaining < 0:
            raise RowError(f"the template runs on: a row may cost {MAX_STEPS} steps, such as turns of a loop")

    def spend_text(self, size: int) -> None:
        """Take what a text or list of this size costs, before it is made. Raises RowError."""
        if size > MAX_TEXT:
            raise RowError(f"the template makes something of {size} characters or entries; at most {MAX_TEXT} may be")
        self.spend(1 + size // 200)

    def spend_entries(self, size: int) -> None:
        """Take what a list of this size costs, before it is made. Raises RowError."""
        if size > MAX_TEXT:
            self.spend_text(size)
        self.spend(1 + size // 50)

    def spend_each(self, items: Iterable[Any], cost: int = 1) -> Iterator[Any]:
        """Yield the items; each takes some steps."""
        for item in items:
            self.remaining -= cost
            if self.remaining < 0:
                self.spend(0)
            yield item

    def spend_nested(self, value: Any) -> None:
        """Take a step for each entry of a list or mapping, however deep, before it is written out or compared.

        One list may stand in another many times, and that again, so that a few hold more entries than there are atoms.
        Raises RowError, also for an entry that is no value, such as a generator, whose text would name an address.
        """
        if isinstance(value, (list, tuple, dict)):
            self.spend(1 + len(value))
            for item in value.values() if isinstance(value, dict) else value:
                kind = type(item)
                if kind is str and len(item) < 1_000:  # most are
                    self.remaining -= 1
                elif isinstance(item, (list, tuple, dict)):
                    self.spend_nested(item)
                elif isinstance(item, jinja2.Undefined):
                    str(item)  # raises, in Jinja's words
                elif isinstance(item, str):
                    self.spend_text(len(item))
                elif kind not in NUMBERS:
                    raise RowError(f"a list or mapping that holds a {kind.__name__} can't be printed or compared")
            if isinstance(value, dict):
                for key in value:
                    if type(key) is not str:
                        self.spend_nested([key])
            self.spend(0)
