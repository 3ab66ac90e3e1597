"""A rendering process: reads chunks from file slots, writes lines to its file and records to a slot.

Its pipes carry small messages only. It has no keys, no network and bounded memory, and exits when its pipe closes, so
it never outlives its parent.
"""

from __future__ import annotations

import gc
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from runner.planner.confine import confine
from runner.planner.input.parse import Chunk, RowProblem
from runner.planner.requests.layout import RequestLayout
from runner.planner.requests.refusal_rules import Finding
from runner.planner.requests.renderer import Renderer
from runner.planner.templates.environment import LoadedTemplate, Templates

SLOTS = 2
"""Chunks per worker: one being rendered and one queued, so that the worker is never idle."""
SLOT_BYTES = 1 << 30
"""Distance of slots in their sparse file; more than the longest record and its chunk."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first message. `chunks`, `records` and `lines` are scratch files."""

    layout: RequestLayout
    root: Path
    loaded: dict[str, LoadedTemplate]
    chunks: Path
    records: Path
    lines: Path


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk of `size` bytes in a slot."""

    slot: int
    size: int
    file_number: int
    line: int
    kind: str
    header: tuple[str, ...]
    delimiter: str


@dataclass(frozen=True, slots=True)
class Done:
    """A rendered chunk: `records`, then `ids` bytes in the slot, and new lines in the file.

    `loaded` are templates with computed names, first read for this chunk.
    """

    slot: int
    file_number: int
    records: int
    ids: int
    spans: tuple[tuple[int, int], ...]
    seen: int
    bad: int
    problems: tuple[RowProblem, ...]
    findings: tuple[Finding, ...]
    loaded: dict[str, LoadedTemplate]


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the worker can't continue."""

    reason: str


def main(read: int, write: int) -> None:
    """Work until the pipe `read` closes. Takes file descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles the interrupt and ends its workers
    confine()
    incoming, outgoing = Connection(read, writable=False), Connection(write, readable=False)
    try:
        start: Start = incoming.recv()
        try:
            _work(start, incoming, outgoing)
        except (OSError, MemoryError) as error:
            outgoing.send(Failed(str(error) or type(error).__name__))
    except (EOFError, BrokenPipeError):
        return  # the parent closed the pipe or died


def _work(start: Start, incoming: Connection, outgoing: Connection) -> None:
    templates = Templates(start.root, start.layout.variables, start.loaded)
    renderer = Renderer(start.layout, templates)
    known = set(templates.loaded)
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # rows leave few cycles; the default of 700 costs a tenth
    chunks, records = os.open(start.chunks, os.O_RDONLY), os.open(start.records, os.O_RDWR)
    with start.lines.open("wb") as lines:
        while True:
            task: Task = incoming.recv()
            at = task.slot * SLOT_BYTES
            data = read_at(chunks, task.size, at)
            chunk = Chunk(task.file_number, task.line, task.kind, data, task.header, task.delimiter)
            rendered = renderer.render(chunk)
            lines.write(rendered.lines)
            lines.flush()
            write_at(records, rendered.records + rendered.ids, at)
            fresh = {name: templates.loaded[name] for name in templates.loaded.keys() - known}
            known |= fresh.keys()
            outgoing.send(
                Done(
                    task.slot,
                    task.file_number,
                    len(rendered.records),
                    len(rendered.ids),
                    rendered.spans,
                    rendered.seen,
                    rendered.bad,
                    rendered.problems,
                    rendered.findings,
                    fresh,
                )
            )


def read_at(file: int, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes. Raises OSError at the end."""
    data = os.pread(file, size, offset)
    while len(data) < size:
        more = os.pread(file, size - len(data), offset + len(data))
        if not more:
            raise OSError("a scratch file is shorter than it was")
        data += more
    return data


def write_at(file: int, data: bytes | bytearray, offset: int) -> None:
    """Write all of `data`. Raises OSError, as for a full disk."""
    view = memoryview(data)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count
