"""What a repository names is opened once, is a regular file, and is neither outside, hidden, git's, ignored nor huge."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.base.repository_paths import (
    MARKER,
    TRUST_PATHS,
    TooLarge,
    check_ignored,
    check_store,
    open_inside,
    read_inside,
    read_named,
    writable,
)
from runner.errors import BatchspecError, InputError, TrustError
from runner.jobspec.loader import load_project
from runner.jobspec.output_targets import forbidden
from runner.planner.templates.environment import LoadedTemplate, Templates
from runner.state.project_paths import ProjectPaths
from tests.untrusted.checkout import git

Write = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with every kind of file that must not be read, and a folder outside of it."""
    root, outside = tmp_path / "project", tmp_path / "outside"
    for folder in (root / "data", root / ".github", root / ".git", root / "cache/realms", outside):
        folder.mkdir(parents=True)
    for path in (
        ".env",
        "data/.hidden",
        ".github/x",
        ".git/config",
        "cache/realms/token",
        "data/a.txt",
        "cache/" + MARKER,
    ):
        (root / path).write_text("the text")
    (outside / "secret").write_text("the secret")
    for link, target in (
        ("data/out", outside / "secret"),
        ("data/env", "../.env"),
        ("data/git", "../.git/config"),
        ("data/away", outside),
        ("data/zero", "/dev/zero"),
        ("data/self", "/proc/self/environ"),
        ("data/loop", "loop"),
        ("data/inside", "a.txt"),
        ("data/gone", "nothing"),
    ):
        (root / link).symlink_to(target)
    os.mkfifo(root / "data/pipe")
    return root


READS = [
    pytest.param("data/a.txt", None, id="a file"),
    pytest.param("./data/../data/a.txt", None, id="another spelling"),
    pytest.param("data/inside", None, id="a link inside"),
    pytest.param("/etc/passwd", "absolute", id="absolute"),
    pytest.param("../outside/secret", "outside the project", id="upward"),
    pytest.param("data/out", "outside the project", id="a link out"),
    pytest.param("data/away/secret", "outside the project", id="a folder out"),
    pytest.param("data/zero", "outside the project", id="a device"),
    pytest.param("data/self", "outside the project", id="the environment"),
    pytest.param("data/loop", "can't be resolved|No such|loop", id="a loop"),
    pytest.param("data/gone", "No such file", id="a link to nothing"),
    pytest.param(".env", "hidden", id="hidden"),
    pytest.param("data/.hidden", "hidden", id="hidden below"),
    pytest.param("data/env", "hidden", id="a link to what is hidden"),
    pytest.param(".github/x", "hidden", id="a hidden folder"),
    pytest.param(".git/config", "git's own", id="git"),
    pytest.param(".GIT/config", "git's own", id="git in capitals"),
    pytest.param("data/git", "git's own", id="a link to git"),
    pytest.param("cache/realms/token", "own store", id="the store"),
    pytest.param("data", "not a file", id="a folder"),
    pytest.param("data/pipe", "not a file", id="a pipe"),
    pytest.param("data/a\0b", "zero byte", id="a zero byte"),
    pytest.param(".", "not a file", id="the project itself"),
]


@pytest.mark.parametrize(("path", "wrong"), READS)
def test_what_a_repository_names_is_read_or_refused(path: str, wrong: str | None, root: Path) -> None:
    begun = time.monotonic()
    if wrong is None:
        assert read_inside(root, path, 100) == b"the text"
    else:
        with pytest.raises((TrustError, OSError), match=wrong):
            read_inside(root, path, 100)
    assert time.monotonic() - begun < 5, "a pipe or a device is never waited for"


@pytest.mark.parametrize(
    ("path", "trust"),
    [
        pytest.param(".env", ".env", id="one hidden file"),
        pytest.param("data/env", ".env", id="by what a link leads to"),
        pytest.param(".github/x", "data, .github ,", id="a folder"),
        pytest.param("data/away/secret", "../outside", id="outside"),
        pytest.param("data/out", "$/outside/secret", id="outside, absolute"),
    ],
)
def test_the_environment_can_allow_more(path: str, trust: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_PATHS, "somewhere/else")
    with pytest.raises(TrustError):
        read_inside(root, path, 100)
    monkeypatch.setenv(TRUST_PATHS, trust.replace("$", str(root.parent)))
    assert read_inside(root, path, 100).startswith(b"the ")


@pytest.mark.parametrize("path", [".git/config", "data/git"])
def test_the_environment_allows_nothing_of_git(path: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST_PATHS, f"., .git, {path}")
    with pytest.raises(TrustError, match="git's own"):
        read_inside(root, path, 100)


def test_the_size_is_known_before_the_bytes_are_read(root: Path) -> None:
    """A terabyte of nothing takes no memory."""
    os.truncate(root / "data/a.txt", 1 << 40)
    with pytest.raises(TooLarge) as caught:
        read_inside(root, "data/a.txt", 100)
    assert caught.value.size == 1 << 40
    with pytest.raises(TooLarge):
        read_named(root / "data/a.txt", 100)


def test_a_folder_that_becomes_a_link_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check and the open, somebody exchanges a folder."""
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/secret").write_text("harmless")
    original = os.open

    def exchanging(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if path == "deep":
            shutil.rmtree(root / "deep/er")
            (root / "deep/er").symlink_to(root.parent / "outside")
        handle: int = original(path, flags, *rest, **named)
        return handle

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(OSError, match="symbolic|Not a directory"), open_inside(root, "deep/er/secret"):
        pass


def test_a_named_file_may_be_anywhere_but_is_a_file(root: Path) -> None:
    assert read_named(root.parent / "outside/secret", 100) == b"the secret"
    for path in (root / "data/pipe", root / "data/zero", root / "data"):
        with pytest.raises(OSError, match="not a file"):
            read_named(path, 100)


def test_a_text_that_git_ignores_may_be_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "private.txt", "committed.txt"):
        (tmp_path / name).write_text("x")
    check_ignored(tmp_path, "private.txt")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "committed.txt")
    (tmp_path / ".gitignore").write_text("private.txt\ncommitted.txt\n")
    check_ignored(tmp_path, "a.txt")
    check_ignored(tmp_path, "committed.txt")
    with pytest.raises(TrustError, match="ignored by git"):
        check_ignored(tmp_path, "private.txt")
    learned = {"private.txt": LoadedTemplate("x", "private.txt", "0" * 64)}
    with pytest.raises(InputError, match="ignored by git"):
        Templates(tmp_path, {}).add_loaded(learned)
    monkeypatch.setenv(TRUST_PATHS, "private.txt")
    check_ignored(tmp_path, "private.txt")
    Templates(tmp_path, {}).add_loaded(learned)


# The store.

Make = Callable[[Path], object]


def tree(*names: str) -> Make:
    """Makes files in the folder `cache`."""

    def make(root: Path) -> None:
        (root / "cache").mkdir()
        for name in names:
            (root / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "cache" / name).write_text("*\n")

    return make


def committed(*names: str) -> Make:
    def make(root: Path) -> None:
        tree(*names)(root)
        git(root, "init", "--quiet")
        git(root, "add", "--force", "--all")

    return make


def linked(link: str, target: str) -> Make:
    def make(root: Path) -> None:
        tree(MARKER)(root)
        (root / "src").mkdir()
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)

    return make


STORES = [
    pytest.param("cache", lambda root: None, None, id="absent"),
    pytest.param("cache/of/mine", lambda root: None, None, id="absent, below"),
    pytest.param("cache", tree(), None, id="empty"),
    pytest.param("cache", tree(MARKER, "store/x", "anything"), None, id="with the marker"),
    pytest.param("cache", tree(".gitignore", "ledger.db", "ledger.db-wal", "scratch/x", "locks/x"), None, id="of 0.1.0"),
    pytest.param("cache", tree("ledger.db", "main.py"), "did not make it", id="with something else"),
    pytest.param("cache", tree("scratch/a", "src/b"), "did not make it", id="of another program"),
    pytest.param("cache/main.py", tree("main.py"), "not a folder", id="a file"),
    pytest.param("cache", committed(MARKER, "scratch/x"), "git tracks", id="a marker in git"),
    pytest.param("cache", committed("scratch/x"), "git tracks", id="names of ours in git"),
    pytest.param("Cache", lambda root: (committed(MARKER)(root), (root / "Cache").mkdir(), (root / "Cache" / MARKER).touch()),
                 "git tracks", id="in another case"),
    pytest.param("cache", linked("cache/scratch", "../src"), "is a link", id="a link in it"),
    pytest.param("cache", linked("cache/realms/local/scratch", "../../../src"), "is a link", id="a link in a realm"),
    pytest.param("link", linked("link", "cache"), None, id="a link to a store"),
    pytest.param("link", linked("link", "src"), None, id="a link to an empty folder"),
    pytest.param("link", linked("link", ".."), "outside", id="a link upward"),
    pytest.param("link", linked("link", "."), "can't be the store", id="a link to the project"),
    *(
        pytest.param(path, lambda root: None, "can't be the store|git's own|outside|absolute", id=path)
        for path in (".", "specs", "Specs/x", "templates", ".github", ".GitHub/workflows", "sub/.git/x", ".git", "..", "/tmp")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("store", "make", "wrong"), STORES)
def test_a_store_is_new_or_batchspecs_own(store: str, make: Make, wrong: str | None, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    if wrong is None:
        check_store(root, store)
        return
    with pytest.raises(TrustError, match=wrong):
        check_store(root, store)


def test_the_default_store_needs_no_marker_but_may_not_be_in_git(tmp_path: Path) -> None:
    (tmp_path / ".batchspec").mkdir()
    (tmp_path / ".batchspec/plan.json").touch()
    check_store(tmp_path, ".batchspec")
    git(tmp_path, "init", "--quiet")
    check_store(tmp_path, ".batchspec")
    git(tmp_path, "add", "--all")
    with pytest.raises(TrustError, match="git tracks"):
        check_store(tmp_path, ".batchspec")


def test_a_plan_deletes_nothing_in_a_folder_that_is_not_its_own(project: Write) -> None:
    """The store of a pull request may be any folder."""
    root = project({"batchspec.yaml": "version: 1\nstore: src\n", "src/scratch/old/in-use": "", "src/main.py": "x"})
    os.utime(root / "src/scratch/old", (1, 1))
    with pytest.raises(BatchspecError) as caught:
        load_project(root, variables={}, provider="local", environ={})
    assert caught.value.codes == ("BS308",)
    assert "batchspec.yaml:2:8" in str(caught.value)
    assert sorted(path.name for path in (root / "src").iterdir()) == ["main.py", "scratch"]


def test_clean_up_deletes_only_scratch_folders(tmp_path: Path) -> None:
    places = ProjectPaths.for_provider(tmp_path, "cache", None)
    parent = tmp_path / "cache/scratch"
    with places.scratch():
        assert (tmp_path / "cache" / MARKER).is_file()
    (tmp_path / "mine").mkdir()
    for name in ("left", "without-sign", "sign-is-a-link", "young"):
        (parent / name).mkdir()
        (parent / name / "work").touch()
    (parent / "left/in-use").touch()
    (parent / "young/in-use").touch()
    (parent / "sign-is-a-link/in-use").symlink_to(tmp_path / "mine")
    (parent / "a-link").symlink_to(tmp_path / "mine")
    (parent / "a-file").touch()
    for path in parent.iterdir():
        if path.name != "young":
            os.utime(path, (1, 1), follow_symlinks=False)
    with places.scratch():
        pass
    assert sorted(path.name for path in parent.iterdir()) == [
        "a-file",
        "a-link",
        "sign-is-a-link",
        "without-sign",
        "young",
    ]


def test_the_store_is_marked_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/.gitignore").symlink_to(tmp_path / "victim")
    with ProjectPaths.for_provider(tmp_path, "cache", None).scratch():
        pass
    assert not (tmp_path / "victim").exists()


# What is written.


def test_outputs_and_lockfiles_stay_in_the_project(root: Path) -> None:
    (root / "out").symlink_to("data")
    (root / "data/x.jsonl").symlink_to("a.txt")
    places = ProjectPaths.for_provider(root, ".batchspec", None)
    assert places.output("out/x.jsonl") == root / "data/x.jsonl", "the link in its place is not followed"
    assert places.output("new/x.jsonl") == root / "new/x.jsonl"
    for path in ("data/away/x.jsonl", "data/out", "data/zero", "data/git", "../x.jsonl", ".git/x"):
        with pytest.raises(TrustError):
            writable(root, path)
        with pytest.raises(TrustError):
            places.lockfile(path)


TARGETS = [
    pytest.param("out/a.jsonl", "", id="usual"),
    pytest.param("results/a.csv.gz", "", id="packed"),
    pytest.param("answers", "", id="without an ending"),
    pytest.param("go", "", id="a name like an ending"),
    pytest.param("link/a.jsonl", "hidden|below .github/, where link", id="by a link"),
    pytest.param("deep/link/a.jsonl", "below .github/", id="by a deeper link"),
    *(
        pytest.param(path, "can't be written", id=path)
        for path in (
            ".github/x.jsonl", ".GitHub/x.jsonl", ".gitlab-ci.yml", ".circleci/x.jsonl", ".husky/x", "out/.x.jsonl",
            "specs/x.jsonl", "Specs/x.jsonl", "templates/x.j2", "Templates/x.jsonl", "cache/x.jsonl", "CACHE/x.jsonl",
            "batchspec.yaml", "Batchspec.YML", "Makefile", "sub/makefile", "GNUmakefile", "Jenkinsfile", "Dockerfile",
            "azure-pipelines.yml", "package.json", "pyproject.toml", "setup.cfg", "conftest.py", "sub/Conftest.py", "a.PY",
            "a.sh", "a.pth", "a.ipynb", "x/uv.lock", "index.html", "CODEOWNERS", "requirements.txt",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "wrong"), TARGETS)
def test_an_output_replaces_no_code_and_no_settings(path: str, wrong: str, root: Path) -> None:
    (root / "link").symlink_to(".github")
    (root / "deep").mkdir()
    (root / "deep/link").symlink_to("../.github")
    reason = forbidden(root, "cache", path)
    assert any(part in reason for part in wrong.split("|")) if wrong else not reason, reason
