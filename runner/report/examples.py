"""Prompts before and after a change, for review: the same rows rendered by the specs of the last run and by today's.

The earlier spec and templates come from git, from the commit that the lockfile pins. Rows are today's, so what shows is
what the change of spec and templates does to them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from runner.errors import BatchspecError, TrustError
from runner.planner.render import first_requests
from runner.reconciler.lockfile import Lockfile, PinsLine
from runner.reconciler.plan import Example
from runner.report.git import Git
from runner.report.prompts import key_and_prompt
from runner.spec.load import SETTINGS_FILE, JobSpec, Project, load_project

LOOKED_AT = 50
"""Rows, the first of the input, that are rendered both ways."""
SHOWN = 3
_COPIED = 64_000_000
"""Bytes of input that are copied at most for rendering the earlier way."""


def changed_prompts(project: Project, spec: JobSpec, lockfile: Lockfile, scratch: Path) -> tuple[Example, ...]:
    """The first rows whose prompts the change alters. Without a version to compare with, their prompts as they are."""
    try:
        after = _rendered(spec, project.root)
    except BatchspecError:
        return ()  # the plan has that error already
    pins = lockfile.pins_of(spec.address)
    try:
        before = None if pins is None else _earlier(project, spec, pins, scratch)
    except (BatchspecError, OSError):
        before = None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if before is None:
        return tuple(Example(row, None, prompt) for row, prompt in list(after.items())[:1])
    changed = [Example(row, before[row], prompt) for row, prompt in after.items() if before.get(row, prompt) != prompt]
    return tuple(changed[:SHOWN])


def _rendered(spec: JobSpec, root: Path) -> dict[str, str]:
    return {row.decode(): key_and_prompt(line)[1] for row, line in first_requests(spec, root, LOOKED_AT)}


def _earlier(project: Project, spec: JobSpec, pins: PinsLine, scratch: Path) -> dict[str, str] | None:
    """Today's rows by the spec and the templates of the pinned commit; None where these can't be had."""
    files = sorted(project.root.glob(spec.job.input.path))
    # The lockfile may come from a stranger's branch: what it names as commit and paths is checked before it is used.
    if not re.fullmatch(r"[0-9a-f]{40,64}", pins.commit) or sum(file.stat().st_size for file in files) > _COPIED:
        return None
    git = Git(project.root)
    for path in (SETTINGS_FILE, spec.file, *pins.templates):
        target = _below(scratch, path)
        if not git.copy(pins.commit, path, target):
            target.unlink()
    for file in files:
        shutil.copyfile(file, _below(scratch, file.relative_to(project.root).as_posix()))
    earlier = load_project(scratch, [scratch / spec.file], variables={}, provider=None, environ={})
    found = next((job for job in earlier.jobs if job.address == spec.address), None)
    return None if found is None else _rendered(found, scratch)


def _below(folder: Path, path: str) -> Path:
    """A path inside `folder`, whose parents are there. Raises TrustError for one that leads out."""
    target = folder / path
    if ".." in target.parts or not target.is_relative_to(folder):
        raise TrustError(f"{path} leads out of the project")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
