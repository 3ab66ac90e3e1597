"""Outputs that a job wrote elsewhere: under the path it had before, or in a file that was moved since.

Only a file whose bytes are those of a recorded output of the job counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from runner.digest import sha256_file
from runner.errors import TrustError
from runner.reconciler.lockfile import OutputLine
from runner.spec.trust import inside


def older_outputs(root: Path, recorded: Iterable[OutputLine], output: Path) -> tuple[Path, ...]:
    """The files that have the bytes of a recorded output, below `root`; `output` too, where one was moved there.

    `recorded` are the job's lines in lockfiles.
    """
    lines = list(recorded)
    digests = {line.digest for line in lines}
    paths = dict.fromkeys([output, *_inside(root, sorted({line.output for line in lines}))])
    return tuple(path for path in paths if path.is_file() and sha256_file(path) in digests)


def _inside(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """A lockfile's paths are as much a stranger's as a spec's are: those that lead out are passed over."""
    for name in names:
        with suppress(TrustError):
            yield inside(root, name)
