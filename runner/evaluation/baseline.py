"""The output of another commit, graded again by today's graders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.base import lfs
from runner.base.digest import sha256_file
from runner.base.git import copy_blob, ignored, run_git
from runner.errors import BatchspecError
from runner.jobspec.output_options import Output


class NoBaseline(BatchspecError):
    """The output can't be compared with the revision's."""

    code = "BS902"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An output at a commit, copied to `path`. The spec or `--against` names `revision`."""

    revision: str
    commit: str
    path: Path
    digest: str


def read_baseline(files: Path, output: Output, revision: str, scratch: Path) -> Baseline | None:
    """Copy the output at the merge base of HEAD and `revision` into `scratch`; None without such a file.

    If the merge base is HEAD, use the last commit whose output differs from today's. Raises BatchspecError if git can't
    tell.
    """
    target = scratch / f"baseline-{Path(output.path).name}"
    if not (files / output.path).is_file() or ignored(files, output.path):
        raise NoBaseline(
            f"{output.path} is not in git, so there is no output at {revision} to compare with",
            hint="remove it from .gitignore and commit it",
        )
    if run_git(files, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise NoBaseline(
            f"cannot find {revision}: this clone is shallow",
            hint="fetch the whole history: `git fetch --unshallow`, or `fetch-depth: 0` in CI",
        )
    base = _merge_base(files, revision)
    head = _commit(files, "HEAD")
    today = sha256_file(files / output.path)
    commits = [base] if base != head else _versions(files, output.path, head)
    for commit in commits:
        digest = _copy(files, commit, output.path, target)
        if digest is not None and (base != head or digest != today):
            return Baseline(revision, commit, target, digest)
    return None


def _merge_base(files: Path, revision: str) -> str:
    commit = _commit(files, revision)
    try:
        return run_git(files, "merge-base", "HEAD", commit).decode().strip()
    except BatchspecError as error:
        raise NoBaseline(f"HEAD and {revision} have no common commit", hint="name a revision of this branch") from error


def _commit(files: Path, revision: str) -> str:
    try:
        found = run_git(files, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except BatchspecError as error:
        raise NoBaseline(
            f"git knows no commit {revision}",
            hint="write a branch, a tag or a hash. In CI, fetch that branch first",
        ) from error
    return found.decode().strip()


def _versions(files: Path, path: str, head: str) -> list[str]:
    """Return HEAD and the parents of commits that changed a file, newest first."""
    text = run_git(files, "log", "--max-count=100", "--first-parent", "--format=%P", head, "--", f"./{path}")
    parents = [line.split()[0] for line in text.decode().splitlines() if line.split()]
    return [head, *parents]


def _copy(files: Path, commit: str, path: str, target: Path) -> str | None:
    try:
        blob = run_git(files, "rev-parse", "--verify", "--quiet", f"{commit}:./{path}").decode().strip()
    except BatchspecError:
        return None
    with target.open("wb") as file:
        copy_blob(files, blob, file)
    with target.open("rb") as file:
        if lfs.is_pointer(file.read(200)):
            raise NoBaseline(
                f"{path} at {commit[:12]} is a Git LFS pointer, not the file itself",
                hint="store outputs in git, without Git LFS, to compare them",
            )
    return sha256_file(target)
