"""A job's spec and templates in an earlier commit."""

from __future__ import annotations

import re
from pathlib import Path

from runner.base.git import copy_at, files_at, resolve_commit
from runner.errors import BatchspecError, TrustError
from runner.jobspec.loader import SETTINGS_FILE, JobSpec, Project, load_project
from runner.state.lockfile_lines import PinsLine


def pinned_commit(root: Path, pins: PinsLine) -> str:
    """Return the commit of some pins, even if tracked files differed. Raises BatchspecError."""
    if not pins.commit:
        raise BatchspecError("the last apply ran outside git", code="BS804")
    # The lockfile may come from an untrusted branch: check its commit before use.
    if not re.fullmatch(r"[0-9a-f]{40,64}\+?", pins.commit):
        raise BatchspecError("the lockfile has no valid commit", code="BS804")
    return resolve_commit(root, pins.commit.rstrip("+"))


def earlier(project: Project, spec: JobSpec, commit: str, scratch: Path) -> JobSpec | None:
    """Return a job as its spec was in a commit, copied to `scratch`; None if it had no such job.

    Raises BatchspecError and OSError.
    """
    # To git, the copy is a checkout of its own: the project ignores its store, but what a commit has is not ignored.
    _below(scratch, "checkout").with_name(".git").mkdir()
    root = project.root
    templates = [turn.text.template for turn in spec.job.prompt.turns if not isinstance(turn.text, str)]
    written = spec.document.value
    variables = written.get("vars_file") or ()
    names = [variables] if isinstance(variables, str) else list(variables)
    schema = [] if spec.job.answer_schema is None else [spec.job.answer_schema]
    for path in (SETTINGS_FILE, spec.file, *files_at(root, commit, "templates"), *templates, *names, *schema):
        target = _below(scratch, path)
        if not target.exists() and not copy_at(root, commit, path, target):
            target.unlink()
    partition = written.get("partition") or ()
    given = {name: str(spec.job.vars[name]) for name in ([partition] if isinstance(partition, str) else partition)}
    loaded = load_project(scratch, [scratch / spec.file], variables=given, provider=None, environ={})
    return next((job for job in loaded.jobs if job.address == spec.address), None)


def _below(folder: Path, path: str) -> Path:
    """Return a path inside `folder`, and make its parents. Raises TrustError if it leads outside."""
    target = folder / path
    if ".." in target.parts or not target.is_relative_to(folder):
        raise TrustError(f"{path} leads out of the project")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
