"""A plan as Markdown for a review: what it shows and what it hides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.priced import Write, batchspec
from tests.cli_runner import run_cli
from tests.conftest import SPEC
from tests.untrusted.checkout import git


def test_a_plan_as_markdown_shows_prompts_only_where_the_spec_says_so(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("")
    assert "number 3" not in batchspec(root, "plan", "--format", "markdown")
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text() + "review: {show_prompts: true}\n")
    told = batchspec(root, "plan", "--format", "markdown")
    assert told.startswith("<!-- batchspec plan -->\n### Batchspec plan: 40 requests to submit")
    assert "+Say number 0 ." in told
    assert told == batchspec(root, "plan", "--format", "markdown"), "stable between runs"


def test_an_error_in_a_review_says_nothing_of_the_rows(project: Write) -> None:
    """Places and names from the template are said; ids, columns and values of rows are not."""
    prompt = "{{ 'a' if id < 3 else row[text] }} {% if id == 2 %}{{ titel }}{% endif %}"
    prompt += "{% if id == 1 %}{{ row[text].x }}{{ text * text }}{% endif %}"
    rows = [{"id": 1, "text": "alice@example.com"}, {"id": 2, "text": "Bob"}, {"id": 3, "text": "Carol"}]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{broken Dora\n"
    root = project({"specs/hello.yaml": SPEC.replace("Say {{ text }}.", prompt), "data/rows.jsonl": text})
    told = batchspec(root, "plan", "--format", "markdown", expect=1)
    assert "data/rows.jsonl:2: specs/hello.yaml prompt.user:1: 'titel' is undefined [BS206]\n" in told
    assert "data/rows.jsonl:3: specs/hello.yaml prompt.user:1: UndefinedError [BS206]\n" in told
    assert "data/rows.jsonl:4" in told
    for secret in ("alice", "Bob", "Carol", "Dora"):
        assert secret not in told
    assert "'dict object' has no attribute 'Carol'" in batchspec(root, "plan", expect=1)


def test_a_review_of_specs_that_cant_be_read_says_why(project: Write) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("model:", "modell:")})
    told = batchspec(root, "plan", "--format", "markdown", expect=1)
    assert told.startswith("<!-- batchspec plan -->\n### Batchspec plan: none, because of errors\n\n```text\n")
    assert "specs/hello.yaml:3:1: " in told.partition("```text\n")[2].partition("```")[0]


def test_rows_that_are_gone_are_counted_as_removed(project: Write) -> None:
    root = project()
    batchspec(root, "apply", "--yes")
    (root / "data/rows.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 7, "text": "seven"}\n')
    told = batchspec(root, "plan")
    assert "    2 rows, 1 reused, 2 removed\n" in told
    assert "Plan: 1 to submit, 1 reused, 2 rows removed." in told
    (root / "data/rows.jsonl").write_text('{"id": 1, "text": "one"}\n')
    told = batchspec(root, "plan", "--format", "markdown")
    assert "| `hello` | 3 → 1 |  | 1 | 2 |" in told
    assert "`2 rows removed from data/rows.jsonl`" in told


def test_changed_prompts_are_shown_against_the_commit_that_is_pinned(project: Write) -> None:
    spec = SPEC.replace("name: hello", "name: hello\nprovider: local").replace(
        '"Say {{ text }}."', "{template: t/say.j2}"
    )
    spec += "review: {show_prompts: true}\n"
    root = project({"specs/hello.yaml": spec, "t/say.j2": "Say {{ text }}.\nNow.\n", ".gitignore": ".batchspec/\n"})

    def run(*arguments: str) -> str:
        done = run_cli(arguments, cwd=root, check=True)
        return done.stdout

    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Start"]):
        git(root, *arguments)
    run("apply", "--yes")
    (root / "t/say.j2").write_text("Shout {{ text }}!\nNow.\n")
    told = run("plan", "--format", "markdown")
    assert "-Say one.\n+Shout one!\n Now." in told
    assert "`template changed: t/say.j2`" in told
    # What a stranger's lockfile names as templates is never written outside the scratch folder.
    lock = root / "specs/hello.lock"
    lock.write_text(lock.read_text().replace('"t/say.j2":', '"../../../escaped.j2":'))
    assert "+Shout one!" in run("plan", "--format", "markdown")
    assert not list(root.parent.rglob("escaped.j2"))


@pytest.mark.slow
def test_a_plan_says_why_there_are_no_earlier_prompts(project: Write) -> None:
    """The lockfile names no commit, or one that does not have the prompts of the last apply."""
    text = SPEC.replace("name: hello", "name: hello\nprovider: local\nreview: {show_prompts: true}")
    root = project({"specs/hello.yaml": text})
    run_cli(["apply", "--yes"], cwd=root, check=True)
    (root / "specs/hello.yaml").write_text(text.replace("Say", "Shout"))
    for arguments in (["init"], ["add", "-A"], ["commit", "-m", "Apply, then commit"]):
        git(root, *arguments)
    commit = git(root, "rev-parse", "HEAD").strip()
    lock = (root / "specs/hello.lock").read_text()
    for pinned, why in {
        "": "the last apply ran outside git",
        f"{commit}+": "the last apply ran with changes that were not committed",
        "0" * 40: f"git knows no commit {'0' * 40}",
        "--output=x": "the lockfile has no valid commit",
    }.items():
        assert '"commit":""' in lock
        (root / "specs/hello.lock").write_text(lock.replace('"commit":""', f'"commit":"{pinned}"'))
        told = run_cli(["plan", "--format", "markdown", "specs/hello.yaml"], cwd=root, check=True).stdout
        assert "+Shout one." in told
        assert f"note: no earlier prompts to compare with: {why}\n" in told
