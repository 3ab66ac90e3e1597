"""Suggest the known name closest to an unknown one."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean X?`, or nothing if no name is close."""
    close = difflib.get_close_matches(name[:100], itertools.islice(known, 1_000), n=1, cutoff=0.6)
    return question(close[0]) if close else ""


def question(name: str) -> str:
    """Return a suggestion as a question."""
    return f"did you mean `{name}`?"
