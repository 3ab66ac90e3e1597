"""What log entries say of themselves: the job, shard and batch that are worked on.

Logs are set up by whoever runs the program (`runner.cli.terminal.terminal`), which adds these fields to each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("logfields", default={})  # noqa: B039  it is never changed in place


def fields() -> Mapping[str, str]:
    """Return the fields of an entry that is made here and now."""
    return _FIELDS.get()


@contextmanager
def bind(**more: str) -> Iterator[None]:
    """Entries made inside, in this thread, have these fields too."""
    token = _FIELDS.set({**_FIELDS.get(), **more})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def wrap(task: Callable[[], T], **more: str) -> Callable[[], T]:
    """Return a task whose entries have these fields, and those of whoever made it, in whichever thread it runs."""
    fields_here = {**_FIELDS.get(), **more}

    def run() -> T:
        with bind(**fields_here):
            return task()

    return run
