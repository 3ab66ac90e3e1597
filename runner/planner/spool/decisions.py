"""The decision for each request occurrence: one file of fixed records.

Decisions are made in key order and read in row order. Each block of rows has an area of appended records; reading sorts
them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntEnum
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from runner.planner.spool.spool import Block, Spool


class KeyState(IntEnum):
    """State of a key. Only scratch files have the numbers."""

    ABSENT = 0
    """Never submitted, or not billed: apply may submit it."""
    RETRY = 1
    """Transient error with rounds left: apply may submit it in the next round."""
    ANSWERED = 2
    FAILED = 3
    """Permanent error, or no rounds left: use the error."""
    IN_FLIGHT = 4
    """In a batch that has not ended or is not indexed: wait, fetch."""
    UNKNOWN = 5
    """Perhaps answered and billed, but unreadable. Never submitted without `--ask-unknown`."""


DECISION = np.dtype(
    [
        ("ordinal", "<u4"),
        ("state", "u1"),
        ("round", "u1"),
        ("first", "u1"),
        ("file", "u1"),
        ("source", "<u4"),
        ("length", "<u4"),
        ("offset", "<u8"),
    ]
)
"""One occurrence: its key's ordinal and state, the round to submit it in, whether this row is the first with its key
(the one submitted), and its answer's position: source number, file in it, offset and length in bytes.
"""
_POSITIONED = np.dtype([("at", "<u4"), ("decision", DECISION)])

Decisions = npt.NDArray[np.void]


class DecisionWriter:
    """Writes each occurrence's decision, in any order."""

    def __init__(self, spool: Spool) -> None:
        self._replicates = spool.replicates
        self._starts = np.array([block.start for block in spool.blocks()] + [spool.rows], np.int64)
        self._filled = self._starts * spool.replicates
        self._file = os.open(spool.folder / "decisions", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, rows: npt.NDArray[np.int64], replicate: int, decisions: Decisions) -> None:
        """Write one replicate's decisions for row numbers in any order."""
        block = np.searchsorted(self._starts, rows, "right") - 1
        order = np.argsort(block.astype(np.uint16) if len(self._starts) < 1 << 16 else block, kind="stable")
        block = block[order]
        positioned = np.empty(len(rows), _POSITIONED)
        positioned["at"] = (rows[order] - self._starts[block]) * self._replicates + replicate
        positioned["decision"] = decisions[order]
        cuts = np.flatnonzero(block[1:] != block[:-1]) + 1
        for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(block)], strict=True):
            if start < end:
                number = int(block[start])
                data = memoryview(positioned[start:end].tobytes())
                offset = int(self._filled[number]) * _POSITIONED.itemsize
                while data:
                    count = os.pwrite(self._file, data, offset)
                    data, offset = data[count:], offset + count
                self._filled[number] += end - start


def read_decisions(spool: Spool) -> Iterator[tuple[Block, Decisions]]:
    """Yield each block with its decisions, by row and then by replicate."""
    with (spool.folder / "decisions").open("rb") as file:
        for block in spool.blocks():
            count = len(block.records) * spool.replicates
            positioned = np.frombuffer(file.read(count * _POSITIONED.itemsize), _POSITIONED)
            decisions = np.zeros(count, DECISION)
            decisions[positioned["at"]] = positioned["decision"]
            yield block, decisions
