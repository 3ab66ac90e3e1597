"""Git is started in one place, and nothing that a checkout configures runs or is fetched."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.base.git import commit_of, run_git, tracked
from runner.errors import BatchspecError
from runner.report.git import Git
from tests.conftest import REPOSITORY
from tests.untrusted.checkout import git

STARTS = r"system$|popen$|exec[lv]|spawn[lv]|posix_spawn"
"""Functions of `os` that start a program."""
LIBRARIES = frozenset({"git", "pygit2", "dulwich"})
Attack = Callable[[Path, Path], Path]
"""Writes a hostile repository below a folder whose configuration runs a script; returns the project's folder."""


def repository(folder: Path, config: str = "", files: dict[str, str] | None = None) -> Path:
    """A repository with one commit and with changed settings."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name, text in {"a.txt": "a\n", **(files or {})}.items():
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")
    with (folder / ".git" / "config").open("a") as file:
        file.write(textwrap.dedent(config))
    os.utime(folder / "a.txt", (1, 1))  # so that git looks at its bytes
    return folder


def bare_in_checkout(folder: Path, script: Path) -> Path:
    sub = repository(folder / "top") / "sub"
    for name in ("objects", "refs/heads"):
        (sub / name).mkdir(parents=True)
    (sub / "HEAD").write_text("ref: refs/heads/main\n")
    (sub / "config").write_text(
        f"[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ../sub\n\tfsmonitor = {script}\n"
    )
    return sub


def monitor(folder: Path, script: Path) -> Path:
    return repository(folder / "top", f"[core]\n\tfsmonitor = {script}\n")


def git_file(folder: Path, script: Path) -> Path:
    top = monitor(folder, script)
    (top / ".git").rename(top / "innocent")
    (top / ".git").write_text("gitdir: innocent\n")
    return top


def worktree_settings(folder: Path, script: Path) -> Path:
    top = repository(folder / "top", "[extensions]\n\tworktreeConfig = true\n")
    git(top, "config", "core.repositoryFormatVersion", "1")
    (top / ".git/config.worktree").write_text(f"[core]\n\tfsmonitor = {script}\n")
    return top


def included_settings(folder: Path, script: Path) -> Path:
    top = repository(folder / "top", "[include]\n\tpath = ../more\n")
    (top / "more").write_text(f"[core]\n\tfsmonitor = {script}\n")
    return top


def clean_filter(folder: Path, script: Path) -> Path:
    return repository(
        folder / "top", f'[filter "My.Filter"]\n\tclean = {script}\n', {".gitattributes": "*.txt filter=My.Filter\n"}
    )


def process_filter(folder: Path, script: Path) -> Path:
    config = f'[filter "x"]\n\tprocess = {script}\n\trequired = true\n'
    return repository(folder / "top", config, {".gitattributes": "*.txt filter=x\n"})


ATTACKS = [bare_in_checkout, monitor, git_file, worktree_settings, included_settings, clean_filter, process_filter]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program that leaves a file `ran` beside itself."""
    path = tmp_path / "script.sh"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_program_of_a_checkout_runs(attack: Attack, tmp_path: Path, script: Path) -> None:
    project = attack(tmp_path, script)
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    status = ["git", "-C", str(project), "-c", "core.untrackedCache=false", "status", "--porcelain"]
    subprocess.run(status, env=plain, capture_output=True, check=False)
    assert (tmp_path / "ran").exists(), "the attack does not work, so this test shows nothing"
    (tmp_path / "ran").unlink()
    with (project / "new").open("w"):
        pass
    if (project / "a.txt").exists():
        os.utime(project / "a.txt", (2, 2))
    commit_of(project)
    if attack is bare_in_checkout:
        with pytest.raises(BatchspecError, match="bare"):
            tracked(project, ["a.txt"])
    else:
        assert tracked(project, ["a.txt", "b.txt"]) == {"a.txt"}
    assert not (tmp_path / "ran").exists()


def test_signatures_are_not_checked(tmp_path: Path, script: Path) -> None:
    top = repository(tmp_path / "top", f"[log]\n\tshowSignature = true\n[gpg]\n\tprogram = {script}\n")
    commit = git(top, "cat-file", "commit", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    signed = subprocess.run(
        ["git", "-C", str(top), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=commit, text=True, capture_output=True, check=True,
    ).stdout.strip()  # fmt: skip
    git(top, "update-ref", "HEAD", signed)
    subprocess.run(["git", "-C", str(top), "log", "--", "a.txt"], capture_output=True, check=False)
    assert (tmp_path / "ran").exists(), "the attack does not work, so this test shows nothing"
    (tmp_path / "ran").unlink()
    assert [commit.hash for commit in Git(top).commits("a.txt", 5)] == [signed]
    assert not (tmp_path / "ran").exists()


def test_a_partial_clone_is_not_completed(tmp_path: Path, script: Path) -> None:
    """Git would fetch a missing object by itself, by a program that the repository names."""
    top = repository(
        tmp_path / "top",
        f'[extensions]\n\tpartialClone = far\n[remote "far"]\n\turl = ssh://git@127.0.0.1/x\n\tpromisor = true\n'
        f"[core]\n\trepositoryFormatVersion = 1\n\tsshCommand = {script}\n",
    )
    blob = git(top, "rev-parse", "HEAD:a.txt").strip()
    (top / ".git/objects" / blob[:2] / blob[2:]).unlink()
    subprocess.run(["git", "-C", str(top), "cat-file", "blob", blob], capture_output=True, check=False)
    assert (tmp_path / "ran").exists(), "the attack does not work, so this test shows nothing"
    (tmp_path / "ran").unlink()
    head = git(top, "rev-parse", "HEAD").strip()
    with pytest.raises(BatchspecError, match="cat-file"):
        Git(top).read(head, "a.txt")
    assert Git(top).read(head, "other.txt") is None
    assert not (tmp_path / "ran").exists()


def test_git_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git itself may be replaced by a wrapper of the user's; what it gets is all that a child of git could read."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "bin/git").chmod(0o755)
    top = repository(tmp_path / "top")
    for name in ("MODEL_ACCESS_KEY", "BATCHSPEC_PLAN_KEY", "AWS_SECRET_ACCESS_KEY", "GIT_DIR", "GIT_CONFIG_VALUE_0"):
        monkeypatch.setenv(name, "the-key")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert b"the-key" not in run_git(top, "version")


@pytest.mark.parametrize(
    ("body", "limits", "wrong"),
    [
        pytest.param("exec sleep 30", {"seconds": 0.2}, "longer than", id="time"),
        pytest.param("exec cat /dev/zero", {"most": 100_000}, "more than 100,000 bytes", id="output"),
        pytest.param("echo broken >&2; exit 7", {}, "broken", id="failure"),
    ],
)
def test_a_call_is_bounded(
    body: str, limits: dict[str, float], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f"#!/bin/sh\n{body}\n")
    (tmp_path / "bin/git").chmod(0o755)
    (tmp_path / "top/.git").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(BatchspecError, match=wrong) as caught:
        run_git(tmp_path / "top", "log", **limits)  # type: ignore[arg-type]
    assert caught.value.code == "BS803"


def test_the_commit_that_is_checked_out(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert commit_of(tmp_path / "plain") == ""
    top = repository(tmp_path / "top")
    head = git(top, "rev-parse", "HEAD").strip()
    assert commit_of(top) == head, "a new time stamp is no change"
    (top / "new.txt").write_text("untracked")
    assert commit_of(top) == head
    (top / "a.txt").write_text("b\n")
    assert commit_of(top) == f"{head}+"
    (top / "sub").mkdir()
    assert commit_of(top / "sub") == f"{head}+"
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert commit_of(tmp_path / "empty") == ""


def test_tracked_files_in_any_case(tmp_path: Path) -> None:
    top = repository(tmp_path / "top", files={"[x]*.csv": "1\n", "é.csv": "1\n"})
    assert tracked(top, ["A.TXT", "[x]*.csv", "[x]?.csv", "é.csv"]) == {"a.txt", "[x]*.csv", "é.csv"}
    assert tracked(top, ["."]) == {"a.txt", "[x]*.csv", "é.csv"}
    assert tracked(top, []) == frozenset()


def test_nothing_else_starts_git() -> None:
    """Also not through a shell or a library."""
    starts = {
        path.relative_to(REPOSITORY / "runner").as_posix(): list(starts_of_git(ast.parse(path.read_text("utf-8"))))
        for path in sorted((REPOSITORY / "runner").rglob("*.py"))
    }
    assert {path: found for path, found in starts.items() if found} == {"base/git.py": ["'git'"]}


@pytest.mark.parametrize(
    "code",
    [
        "run(['git', 'log'])",
        "os.system('x')",
        "os.execvp('x', ['x'])",
        "os.posix_spawn('x', [], {})",
        "from os import popen",
        "run('x', shell=True)",
        "import pygit2",
        "from git import Repo",
    ],
)
def test_a_start_of_git_is_found(code: str) -> None:
    assert len(list(starts_of_git(ast.parse(code)))) == 1
    assert not list(starts_of_git(ast.parse(f"NAME = {code!r}")))


def starts_of_git(tree: ast.AST) -> Iterator[str]:
    """Code that starts git, or may do so: its name, a shell, another way to start a program, a library."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value="git"):
                yield "'git'"
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if re.match(STARTS, name):
                yield f"os.{name}"
            case ast.keyword(arg="shell"):
                yield "shell="
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.partition(".")[0] in LIBRARIES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.partition(".")[0] in LIBRARIES:
                    yield module
                yield from (f"os.{one.name}" for one in names if module == "os" and re.match(STARTS, one.name))
