"""Run a few tasks on threads. Ctrl-C does not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

TRANSFERS = 4
"""Parallel uploads or downloads."""


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    value: T


class _Pool(Generic[T]):
    def __init__(self) -> None:
        self.running = 0
        self._threads = 0
        self._waiting: queue.SimpleQueue[Callable[[], T] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Done[T] | BaseException] = queue.SimpleQueue()

    def start(self, task: Callable[[], T]) -> None:
        if self._threads == self.running:
            threading.Thread(target=self._work, daemon=True).start()
            self._threads += 1
        self._waiting.put(task)
        self.running += 1

    def wait(self) -> _Done[T] | BaseException:
        result = self._done.get()
        self.running -= 1
        return result

    def close(self) -> None:
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                self._done.put(_Done(task()))
            except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
                self._done.put(error)


def run_tasks(tasks: Iterable[Callable[[], T]], workers: int = TRANSFERS) -> Iterator[T]:
    """Run at most `workers` tasks at once. Yield results as they end.

    After a failure, tasks under way finish and yield; then it is raised. Ctrl-C leaves at once: threads are daemons,
    and the ledger has their intents.
    """
    pool = _Pool[T]()
    source = iter(tasks)
    failed: BaseException | None = None
    try:
        while True:
            while failed is None and pool.running < workers:
                try:
                    pool.start(next(source))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  tasks under way still finish
                    failed = error
            if not pool.running:
                break
            result = pool.wait()
            if isinstance(result, _Done):
                yield result.value
            else:
                failed = failed or result
    finally:
        pool.close()
    if failed is not None:
        raise failed


class TransferProgress:
    """Bytes of several threads. An unknown `total` is estimated."""

    def __init__(self, report: Callable[[int, int], None], *, total: int = 0, parts: int = 1) -> None:
        self._report = report
        self._total = total
        self._parts = parts
        self._begun: set[str] = set()
        self._expected = 0
        self._sum = 0
        self._lock = threading.Lock()

    def add(self, count: int, expected: int = 0, *, part: str = "") -> None:
        """Add transferred bytes. A part is known to have `expected` more."""
        with self._lock:
            self._sum += count
            self._expected += expected
            self._begun |= {part} if expected else set()
            guess = self._expected * self._parts // max(1, len(self._begun))
            done, total = self._sum, self._total or (guess if guess >= self._sum else 0)
            self._report(done, total)

    def end(self) -> None:
        """Report the end."""
        with self._lock:
            if self._sum:
                self._report(self._sum, self._sum)
