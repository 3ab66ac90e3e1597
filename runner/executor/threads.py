"""A few tasks beside each other on threads, their results as they come. An interrupt leaves at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

TRANSFERS = 4
"""Uploads, or downloads, that run beside each other."""


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    value: T


def run_tasks(tasks: Iterable[Callable[[], T]], workers: int = TRANSFERS) -> Iterator[T]:
    """Run tasks, at most `workers` at once, and yield their results in the order in which they end.

    Tasks are taken from the iterable only when there is room. After a task that raises no other starts; those that run
    are waited for, their results yielded, and then the first error is raised. The threads are daemons, and an
    exception in the caller (Ctrl-C) is not held up by them: what they were doing is known by its intent in the ledger.
    """
    waiting: queue.SimpleQueue[Callable[[], T] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[_Done[T] | BaseException] = queue.SimpleQueue()

    def work() -> None:
        while (task := waiting.get()) is not None:
            try:
                done.put(_Done(task()))
            except BaseException as error:  # noqa: BLE001  it is raised again in the caller's thread
                done.put(error)

    source = iter(tasks)
    threads = 0
    running = 0
    failed: BaseException | None = None
    try:
        while True:
            while failed is None and running < workers:
                try:
                    task = next(source)
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  what is under way is still seen to its end
                    failed = error
                    break
                if threads == running:
                    threading.Thread(target=work, daemon=True).start()
                    threads += 1
                waiting.put(task)
                running += 1
            if not running:
                break
            result = done.get()
            running -= 1
            if isinstance(result, _Done):
                yield result.value
            else:
                failed = failed or result
    finally:
        for _ in range(threads):
            waiting.put(None)
    if failed is not None:
        raise failed


class TransferProgress:
    """Adds up what several threads do, and tells how much of how much is done.

    Where `total` is not known before, it is worked out from the parts that have begun, of `parts` in all.
    """

    def __init__(self, tell: Callable[[int, int], None], *, total: int = 0, parts: int = 1) -> None:
        self._tell = tell
        self._total = total
        self._parts = parts
        self._begun: set[str] = set()
        self._expected = 0
        self._sum = 0
        self._turn = threading.Lock()

    def add(self, count: int, expected: int = 0, *, part: str = "") -> None:
        """`count` more is done, of a part of which `expected` more is known to be done in all than before."""
        with self._turn:
            self._sum += count
            self._expected += expected
            self._begun |= {part} if expected else set()
            guess = self._expected * self._parts // max(1, len(self._begun))
            done, total = self._sum, self._total or (guess if guess >= self._sum else 0)
            self._tell(done, total)

    def end(self) -> None:
        """All is done that is to be done now."""
        with self._turn:
            if self._sum:
                self._tell(self._sum, self._sum)
