"""Prompts before and after a change: today's rows by two specs.

The earlier spec and templates come from the git commit that the lockfile pins.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.base.visible import visible_line
from runner.errors import BatchspecError
from runner.jobspec.loader import JobSpec, Project
from runner.operations.earlier_spec import earlier, pinned_commit
from runner.planner.render import first_requests
from runner.reconciler.plan.plan import Example
from runner.report.prompts import key_and_prompt
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine

LOOKED_AT = 50
"""First input rows that are rendered both ways."""
SHOWN = 3


def changed_prompts(
    project: Project, spec: JobSpec, lockfile: Lockfile, scratch: Path
) -> tuple[tuple[Example, ...], str]:
    """Return the first rows whose prompts change, and a note.

    Without earlier prompts, return the first row's prompt alone; the note is why, empty for a first run.
    """
    try:
        after = _rendered(spec, project.root)
    except BatchspecError:
        return (), ""  # the plan has that error already
    pins = lockfile.pins_of(spec.address)
    before: dict[str, str] | None = None
    note = ""
    try:
        if pins is not None:
            before = _prompts_at(project, spec, pins, scratch)
    except (BatchspecError, OSError) as error:
        reason = error.message if isinstance(error, BatchspecError) else error.strerror or str(error)
        reason = reason.partition("\n")[0]
        note = f"no earlier prompts to compare with: {visible_line(reason)}"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if before is None:
        return tuple(Example(row, None, prompt) for row, prompt in list(after.items())[:1]), note
    changed = [Example(row, before[row], prompt) for row, prompt in after.items() if before.get(row, prompt) != prompt]
    return tuple(changed[:SHOWN]), ""


def _rendered(spec: JobSpec, root: Path) -> dict[str, str]:
    return {row.decode(): key_and_prompt(line)[1] for row, line in first_requests(spec, root, LOOKED_AT)}


def _prompts_at(project: Project, spec: JobSpec, pins: PinsLine, scratch: Path) -> dict[str, str]:
    if pins.commit.endswith("+"):
        raise BatchspecError("the last apply ran with changes that were not committed", code="BS804")
    commit = pinned_commit(project.root, pins)
    found = earlier(project, spec, commit, scratch)
    if found is None:
        raise BatchspecError(f"commit {commit[:12]} has no such job", code="BS804")
    requests = first_requests(found, scratch, LOOKED_AT, rows_of=(spec, project.root))
    return {row.decode(): key_and_prompt(line)[1] for row, line in requests}
