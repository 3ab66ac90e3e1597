"""Where the answers of an output come from: the batches, their files, and why batches failed as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Failure = tuple[str, str]
"""Why a whole batch failed: the service's code and words."""


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """What a source number points to: a batch, and its files by the `file` number of its entries."""

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
        """Return the ids of batches whose answers the output uses."""
        ...
