"""`moved:` - the job's address before a rename or before its matrix got more axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runner.errors import Problem
from runner.jobspec.matrix import address_of, address_value
from runner.jobspec.models import Job, Moved
from runner.jobspec.partition_options import Scalar


def moved_from(
    job: Job, address: str, values: Mapping[str, Scalar], say: Callable[..., Problem], problems: list[Problem]
) -> str:
    """Return the former address, with this job's matrix and partition values.

    Omits added axes. Empty if the job has other values for them.
    """
    found = ""
    for number, move in enumerate(job.moves):
        path = ("moved", number) if isinstance(job.moved, tuple) else ("moved",)
        if move.to:
            found = found or (move.from_ if move.to == address else "")
        else:
            found = found or _former(job, move, path, address, values, say, problems)
    return found


def _former(
    job: Job,
    move: Moved,
    path: tuple[str | int, ...],
    address: str,
    values: Mapping[str, Scalar],
    say: Callable[..., Problem],
    problems: list[Problem],
) -> str:
    old, added = move.from_, move.added
    axes = values.keys() | ((job.matrix.model_extra or {}).keys() if job.matrix is not None else set())
    problems += [
        say(f"this job has no axis {axis}", *path, "added", axis, code="BS123") for axis in added if axis not in axes
    ]
    if any(axis not in values or address_value(values[axis]) != address_value(added[axis]) for axis in added):
        return ""
    if "[" not in old:
        old = address_of(old, {axis: value for axis, value in values.items() if axis not in added})
    if old == address:
        message = "this job has that address now"
        if values:
            message += "; if its matrix got more axes, set their former values in `added`: {AXIS: VALUE}"
        problems.append(say(message, *path, "from", code="BS123"))
    return old
