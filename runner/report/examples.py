"""Prompts before and after a change: today's rows by two specs.

The earlier spec and templates come from the git commit that the lockfile pins.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from runner.base.visible import visible_line
from runner.errors import BatchspecError, TrustError
from runner.jobspec.loader import SETTINGS_FILE, JobSpec, Project, load_project
from runner.planner.render import first_requests
from runner.reconciler.plan.plan import Example
from runner.report.git import Git
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


def earlier(project: Project, spec: JobSpec, commit: str, scratch: Path) -> JobSpec | None:
    """Return a job as it was in a commit, copied to `scratch`; None if it had no such job.

    Raises BatchspecError and OSError.
    """
    # The project ignores its store. Make the copy a checkout of its own, or git ignores the commit's files.
    _below(scratch, "checkout").with_name(".git").mkdir()
    git = Git(project.root)
    templates = [turn.text.template for turn in spec.job.prompt.turns if not isinstance(turn.text, str)]
    written = spec.document.value
    variables = written.get("vars_file") or ()
    names = [variables] if isinstance(variables, str) else list(variables)
    schema = [] if spec.job.answer_schema is None else [spec.job.answer_schema]
    for path in (SETTINGS_FILE, spec.file, *git.files(commit, "templates"), *templates, *names, *schema):
        target = _below(scratch, path)
        if not target.exists() and not git.copy(commit, path, target):
            target.unlink()
    partition = written.get("partition") or ()
    given = {name: str(spec.job.vars[name]) for name in ([partition] if isinstance(partition, str) else partition)}
    loaded = load_project(scratch, [scratch / spec.file], variables=given, provider=None, environ={})
    return next((job for job in loaded.jobs if job.address == spec.address), None)


def _rendered(spec: JobSpec, root: Path) -> dict[str, str]:
    return {row.decode(): key_and_prompt(line)[1] for row, line in first_requests(spec, root, LOOKED_AT)}


def _prompts_at(project: Project, spec: JobSpec, pins: PinsLine, scratch: Path) -> dict[str, str]:
    if not pins.commit:
        raise BatchspecError("the last apply ran outside git", code="BS804")
    if pins.commit.endswith("+"):
        raise BatchspecError("the last apply ran with changes that were not committed", code="BS804")
    # The lockfile may come from an untrusted branch: check its commit before use.
    if not re.fullmatch(r"[0-9a-f]{40,64}", pins.commit):
        raise BatchspecError("the lockfile has no valid commit", code="BS804")
    commit = Git(project.root).resolve(pins.commit)
    found = earlier(project, spec, commit, scratch)
    if found is None:
        raise BatchspecError(f"commit {commit[:12]} has no such job", code="BS804")
    requests = first_requests(found, scratch, LOOKED_AT, rows_of=(spec, project.root))
    return {row.decode(): key_and_prompt(line)[1] for row, line in requests}


def _below(folder: Path, path: str) -> Path:
    """Return a path inside `folder`, and make its parents. Raises TrustError if it leads outside."""
    target = folder / path
    if ".." in target.parts or not target.is_relative_to(folder):
        raise TrustError(f"{path} leads out of the project")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
