"""Each threat in docs/explanation/untrusted.md names a test that there is."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import REPOSITORY

TABLE = (REPOSITORY / "docs/explanation/untrusted.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [^|]+ \| [^|]+ \| `(tests/\S+\.py)::(\w+)` \|$", TABLE, re.MULTILINE)


def test_every_row_names_a_test() -> None:
    headings = 1
    assert len(ROWS) == sum(line.startswith("| ") for line in TABLE.splitlines()) - headings
    assert len(ROWS) > 15


@pytest.mark.parametrize(("file", "name"), ROWS, ids=[name for _, name in ROWS])
def test_the_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", ["requirements/dev.txt", "docs/ci/requirements.txt"])
def test_requirements_are_pinned_by_hash(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) > 20
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in text


@pytest.mark.parametrize("name", ["github.yml", "github-comment.yml", "gitlab.yml"])
def test_ci_runs_python_apart_from_the_checkout_and_pins_what_it_installs(name: str) -> None:
    text = (REPOSITORY / "docs/ci" / name).read_text(encoding="utf-8")
    assert not re.findall(r"python3 (?!-I)", text)
    assert not [
        action for action in re.findall(r"uses: (\S+)", text) if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
    ]
    assert "pip install" not in text or "--require-hashes" in text


def test_a_run_by_hand_applies_the_default_branch_only() -> None:
    text = (REPOSITORY / "docs/ci/github.yml").read_text(encoding="utf-8")
    assert (
        "github.event_name != 'workflow_dispatch' || github.ref_name == github.event.repository.default_branch" in text
    )
