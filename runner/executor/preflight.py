"""Before anything is paid for: whether what it brings can be written down, in the lockfile and in the output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.context import Context
from runner.errors import StoreError
from runner.jobspec.loader import JobSpec


def check_writable(context: Context, spec: JobSpec) -> None:
    """Raise StoreError where a job's lockfile, output or file of failed rows could not be written now.

    A file is begun in the folder of each and never gets a name. A folder that is not there is not made for that.
    """
    for what, path in _places(context, spec):
        wrong = _wrong(path, context)
        if wrong:
            raise StoreError(
                f"{what} {context.places.shown(path)} can't be written: {wrong}",
                hint="nothing more was submitted; mend its rights or make room, or change its path, and apply again",
                code="BS411",
            )


def _places(context: Context, spec: JobSpec) -> Iterator[tuple[str, Path]]:
    yield "the lockfile", context.places.lockfile(spec.lock_path)
    yield "the output", context.places.output(spec.job.output.path)
    if spec.job.output.errors is not None:
        yield "the file of failed rows", context.places.output(spec.job.output.errors)


def _wrong(path: Path, context: Context) -> str:
    """Why a file can't be written at a path, in words; empty where it can."""
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
