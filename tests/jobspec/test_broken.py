"""Broken specs, each with the report that a person gets: where, what, what is allowed. The first line of each says its point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.cli.terminal.terminal import error_text
from runner.errors import SpecError
from runner.jobspec.loader import load_project

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
Write = Callable[..., Path]


def report(root: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_project(root, variables={}, provider=None, environ={})
    return error_text(caught.value)


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_spec_is_reported(project: Write, path: Path, snapshot: SnapshotAssertion) -> None:
    text = path.read_text(encoding="utf-8")
    told = report(project({"specs/hello.yaml": text, "templates/hello.j2": "Say {{ text }}."}))
    first, says = text.splitlines()[0], "# says: "
    assert first.startswith(says)
    assert first.removeprefix(says) in told
    assert "specs/hello.yaml:" in told
    assert told == snapshot


def test_there_are_enough_of_them() -> None:
    assert len(BROKEN) >= 60


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"# only a comment\n", "the file is empty", id="only a comment"),
        pytest.param(b"\x7fELF\x02\x01\x01\0\0\0", "the file is binary", id="binary"),
        pytest.param("version: 1\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8", id="UTF-16"),
        pytest.param(b"version: 1\nname: caf\xe9\n", ":2:10: the file is not UTF-8 text", id="Latin-1"),
        pytest.param(b"version: 1\nname: \x1b[31m\n", ":2: the file holds a character", id="control character"),
        pytest.param(b"#" * 10_000_000, "the file has 10000000 bytes; at most 1000000 are read", id="10 MB"),
        pytest.param(b"[" * 500_000, "not valid YAML", id="nested lists"),
        pytest.param(b"{a: " * 200_000, "not valid YAML", id="nested mappings"),
        pytest.param(b"a: &a [*a]\n", "nested more than 60 deep", id="an anchor in itself"),
        pytest.param(b"---\na: 1\n" * 5_000, "more than 100 documents", id="many documents"),
        pytest.param(b"".join(b"k%d: 1\n" % n for n in range(20_000)), "more problems in this document", id="many keys"),
        pytest.param(b"k: 1\n" * 20_000, "these come first", id="one key often"),
    ],
)  # fmt: skip
def test_any_file_is_told_in_a_sentence(project: Write, data: bytes, says: str) -> None:
    told = report(project({"specs/hello.yaml": data}))
    assert says in told
    assert len(told) < 100_000


def test_what_is_no_file_is_told(project: Write) -> None:
    root = project()
    (root / "specs/folder.yaml").mkdir()
    (root / "specs/gone.yaml").symlink_to("nowhere.yaml")
    (root / "specs/out.yaml").symlink_to("/etc/hostname")
    told = report(root)
    assert "specs/gone.yaml: cannot be read: No such file or directory" in told
    assert "specs/out.yaml: cannot be read: specs/out.yaml leads outside the project" in told
    assert "folder.yaml" not in told


def test_a_file_of_vars_is_told_at_its_own_place(project: Write, snapshot: SnapshotAssertion) -> None:
    from tests.conftest import SPEC

    told = report(project({"specs/hello.yaml": SPEC + "vars_file: [vars/a.yaml, vars/b.yaml]\n",
                           "vars/a.yaml": "tone: on\n", "vars/b.yaml": "- a\n"}))  # fmt: skip
    assert "vars/a.yaml:1:7: on is read as a boolean" in told
    assert told == snapshot


def test_a_secret_in_a_file_is_not_repeated(project: Write) -> None:
    """Whatever else is wrong on its line, a log must not hold it."""
    from tests.conftest import SPEC

    told = report(project({"specs/hello.yaml": SPEC + "webhook: {url: ftp://x, secret: hunter2, colour: on}\n"}))
    assert "webhook.secret" in told
    assert "hunter2" not in told
