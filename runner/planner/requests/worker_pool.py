"""A pool of processes that render one job: chunks in any order, results in input order.

Slots are scratch files (0.05 s per GB against 1.0 s through pipes, see docs/performance.md). Neither fork nor
`multiprocessing`, which would import the program's main module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Self

from runner.errors import WorkerError
from runner.planner.confine import environment, import_path
from runner.planner.input.parse import Chunk
from runner.planner.requests.layout import RequestLayout
from runner.planner.requests.worker import SLOT_BYTES, SLOTS, Done, Failed, Start, Task, read_at, write_at
from runner.planner.spool.spool import Part
from runner.planner.templates.environment import LoadedTemplate, Templates

_BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; from runner.planner.requests.worker import main; "
    "main(*map(int, sys.argv[1:3]))"
)
_HINT = "this machine may be short of memory or disk; `--jobs 1` renders in one process"
_MAX_AHEAD = 8
"""Chunks per worker that may be ahead of the slowest one; finished chunks wait in memory."""


class WorkerPool:
    """`count` rendering processes. On exit of its context all of them have ended."""

    def __init__(self, count: int, layout: RequestLayout, templates: Templates, root: Path, folder: Path) -> None:
        self._templates = templates
        self._workers: list[_Worker] = []
        try:
            for number in range(count):
                self._workers.append(_Worker(number, layout, templates.loaded, root, folder))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def processes(self) -> tuple[subprocess.Popen[bytes], ...]:
        """Return the workers' processes."""
        return tuple(worker.process for worker in self._workers)

    def render(self, chunks: Iterable[Chunk]) -> Iterator[Part]:
        """Yield the rendered chunks in input order. Raises WorkerError if a worker ends."""
        source = enumerate(chunks)
        free = deque((worker, slot) for slot in range(SLOTS) for worker in self._workers)
        busy = {worker.results: worker for worker in self._workers}
        in_progress: dict[tuple[int, int], int] = {}
        ready: dict[int, Part] = {}
        next_part, more = 0, True
        while True:
            while more and free and len(in_progress) + len(ready) < _MAX_AHEAD * len(self._workers):
                numbered = next(source, None)
                if numbered is None:
                    more = False
                    break
                worker, slot = free.popleft()
                in_progress[worker.number, slot] = numbered[0]
                worker.submit(numbered[1], slot)
            if not in_progress:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                done, part = worker.receive()
                self._templates.add_loaded(done.loaded)
                ready[in_progress.pop((worker.number, done.slot))] = part
                free.append((worker, done.slot))
            while next_part in ready:
                yield ready.pop(next_part)
                next_part += 1

    def close(self) -> None:
        """Kill all workers at once."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.release()


class _Worker:
    def __init__(
        self, number: int, layout: RequestLayout, loaded: dict[str, LoadedTemplate], root: Path, folder: Path
    ) -> None:
        self.number = number
        self._segment = f"lines-{number}"
        self._offset = 0
        chunks, records = folder / f"chunks-{number}", folder / f"records-{number}"
        self._chunks = os.open(chunks, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._records = os.open(records, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        task_end, tasks = os.pipe()
        results, result_end = os.pipe()
        self._tasks, self.results = Connection(tasks, readable=False), Connection(results, writable=False)
        try:
            self.process = subprocess.Popen(  # noqa: S603  this interpreter, with our own code
                [sys.executable, "-I", "-S", "-c", _BOOT, str(task_end), str(result_end), *import_path()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
                pass_fds=(task_end, result_end),
            )
        finally:
            os.close(task_end)
            os.close(result_end)
        self._send(Start(layout, root, loaded, chunks, records, folder / self._segment))

    def submit(self, chunk: Chunk, slot: int) -> None:
        write_at(self._chunks, chunk.data, slot * SLOT_BYTES)
        size = len(chunk.data)
        self._send(Task(slot, size, chunk.file_number, chunk.line, chunk.kind, chunk.header, chunk.delimiter))

    def receive(self) -> tuple[Done, Part]:
        try:
            done: Done | Failed = self.results.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(done, Failed):
            raise WorkerError(f"a rendering process failed: {done.reason}", hint=_HINT)
        data = read_at(self._records, done.records + done.ids, done.slot * SLOT_BYTES)
        spans = []
        for rows, size in done.spans:
            spans.append((self._segment, self._offset, rows, size))
            self._offset += size
        return done, Part(
            done.file_number,
            data[: done.records],
            data[done.records :],
            tuple(spans),
            done.seen,
            done.bad,
            done.problems,
            done.findings,
        )

    def kill(self) -> None:
        """Don't wait for its end."""
        self.process.kill()

    def release(self) -> None:
        self.process.wait()
        self._tasks.close()
        self.results.close()
        os.close(self._chunks)
        os.close(self._records)

    def _send(self, message: Start | Task) -> None:
        try:
            self._tasks.send(message)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> WorkerError:
        self.process.kill()
        code = self.process.wait()
        reason = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return WorkerError(
            f"a rendering process {reason} before it finished; nothing was submitted",
            hint=_HINT,
        )
