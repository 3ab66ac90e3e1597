"""Shell completion: job names and addresses, spec files, providers. Errors complete nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from runner.base.visible import visible_line
from runner.cli.loading import read_project
from runner.errors import BatchspecError

_SPLIT = re.compile(r"\S+\[\S*(\s[=:]\s?\S*)+$")
"""An address as bash passes it, split at `=` and `:`."""


def complete_jobs(incomplete: str) -> list[str]:
    """Return names and addresses of jobs, with the lockfiles' partitions."""
    names: dict[str, None] = {}
    root = Path()
    try:
        project = read_project(None, None, None, placeholders=True)
        root = project.root
        for job in project.jobs:
            names |= dict.fromkeys([job.job.name] if job.partition else [job.job.name, job.address])
    except BatchspecError:
        pass
    for path in sorted((root / "specs").rglob("*.lock")):
        names |= dict.fromkeys(_addresses(root, path))
    return _offered(names, incomplete)


def complete_specs(incomplete: str) -> list[str]:
    """Return spec files, or the rest of an address that bash has split."""
    if split := _SPLIT.search(os.environ.get("COMP_WORDS", "")):
        typed = "".join(split[0].split())
        done = max(typed.rfind(mark) for mark in "=:") + 1
        return [name[done:] for name in complete_jobs(typed)]
    found = (path for pattern in ("*.yaml", "*.yml") for path in Path("specs").rglob(pattern))
    return _offered(sorted(path.as_posix() for path in found), incomplete)


def complete_providers(incomplete: str) -> list[str]:
    """Return the names of provider profiles."""
    from runner.jobspec.loader import find_root, load_settings  # noqa: PLC0415

    names = sorted({"digitalocean", "local", *load_settings(find_root(Path.cwd()), []).providers})
    return _offered(names, incomplete)


def _offered(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the matching names, without control characters: the shell prints them unescaped."""
    return [name for name in names if name.startswith(incomplete) and visible_line(name) == name]


def _addresses(root: Path, lockfile: Path) -> list[str]:
    import json  # noqa: PLC0415

    from runner.base.repository_paths import LOCKFILE_BYTES, read_inside  # noqa: PLC0415

    try:
        header = json.loads(read_inside(root, lockfile.relative_to(root).as_posix(), LOCKFILE_BYTES).splitlines()[0])
        return sorted(header["current"])
    except (BatchspecError, OSError, ValueError, KeyError, IndexError, TypeError):
        return []
