"""Which project a command is about: the one around its specs, the current folder, or `-C DIR`."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.cli.main import run

SPEC = """\
version: 1
name: reviews
model: gpt-4o-mini
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
output: {path: out/reviews.jsonl}
"""


@pytest.fixture
def monorepo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "teams/reviews"
    for path, text in {
        "batchspec.yaml": "version: 1\nproject: reviews\n",
        "specs/reviews.yaml": SPEC,
        "data/rows.jsonl": '{"id": 1, "text": "x"}\n',
    }.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "teams/reviews/specs"],
        ["validate", "teams/reviews/specs/reviews.yaml"],
        ["validate", "teams/reviews"],
        ["-C", "teams/reviews", "validate"],
        ["-C", "teams/reviews", "validate", "."],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("monorepo")
def test_the_project_is_found(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """From the repository's root, by a spec's folder, by a project's, and by `-C`."""
    code = run(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "reviews" in out + err


@pytest.mark.usefixtures("monorepo")
def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", "nowhere", "validate"]) == 1
    assert "-C nowhere: No such file or directory [BS802]" in capsys.readouterr().err
