"""Check that a job's files can be written, before submitting."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.context import Context
from runner.errors import StoreError
from runner.jobspec.loader import JobSpec


def check_writable(context: Context, spec: JobSpec) -> None:
    """Create an unnamed temporary file in each folder. Raises StoreError."""
    for what, path in _paths(context, spec):
        problem = _problem(path, context)
        if problem:
            raise StoreError(
                f"{what} {context.places.shown(path)} can't be written: {problem}",
                hint="nothing more was submitted. Fix the permissions, free some disk space, or change its path, "
                "then apply again",
                code="BS411",
            )


def _paths(context: Context, spec: JobSpec) -> Iterator[tuple[str, Path]]:
    yield "the lockfile", context.places.lockfile(spec.lock_path)
    yield "the output", context.places.output(spec.job.output.path)
    if spec.job.output.errors is not None:
        yield "the file of failed rows", context.places.output(spec.job.output.errors)


def _problem(path: Path, context: Context) -> str:
    if path.is_dir():
        return "it is a folder"
    folder = next(folder for folder in path.parents if folder.exists() or folder.is_symlink())
    if not folder.is_dir():
        return f"{context.places.shown(folder)} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{context.places.shown(folder)}: {error.strerror or error}"
