"""Sources of an output's answers, and why batches failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Failure = tuple[str, str]
"""The service's code and message for a failed batch."""


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """A batch, and its files by its entries' `file` number."""

    batch: str
    files: tuple[Path, ...]
    codes: tuple[str, ...]


class AnswerSources(Protocol):
    """What the writer needs of a classified job. Decisions point to `sources`, then to `failures`."""

    @property
    def sources(self) -> tuple[AnswerSource, ...]:
        """Return the sources by number."""
        ...

    @property
    def failures(self) -> tuple[Failure | None, ...]:
        """Return why batches failed as a whole."""
        ...

    @property
    def used(self) -> frozenset[str]:
        """Return ids of batches with answers in the output."""
        ...
