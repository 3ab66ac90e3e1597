"""Find a job's moved outputs by their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from runner.base.digest import sha256_file
from runner.base.repository_paths import readable
from runner.errors import TrustError
from runner.state.lockfile_lines import OutputLine


def find_previous_outputs(root: Path, recorded: Iterable[OutputLine], own: Iterable[Path]) -> tuple[Path, ...]:
    """Return files below `root` with the bytes of a recorded output or of its failed rows.

    own: files that the job writes now.
    """
    lines = list(recorded)
    failed_files = [line.errors for line in lines if line.errors is not None and line.errors.rows]
    digests = {line.digest for line in lines} | {errors.digest for errors in failed_files}
    names = {line.output for line in lines} | {errors.path for errors in failed_files}
    paths = dict.fromkeys([*own, *_inside(root, sorted(names))])
    return tuple(path for path in paths if path.is_file() and sha256_file(path) in digests)


def failed_rows_of(root: Path, line: OutputLine) -> tuple[Path, ...]:
    """Return a recorded output's unchanged file of failed rows."""
    if line.errors is None or not line.errors.rows:
        return ()
    found = _inside(root, [line.errors.path])
    return tuple(path for path in found if path.is_file() and sha256_file(path) == line.errors.digest)


def _inside(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield recorded paths inside the project: a lockfile may be hostile."""
    for name in names:
        with suppress(TrustError):
            yield readable(root, name)
