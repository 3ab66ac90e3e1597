"""Where newcomers tripped: each command says the real reason, and what to do about it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_recurring import LOCAL, batchspec

Write = Callable[..., Path]
LEAN = LOCAL.replace("{path: out/hello.jsonl}", "{path: out/hello.jsonl, include: [%s]}")
RENAMED = "if this is that job renamed, write `moved: {from: hello}`: its answers are then used, and not paid again"


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_job_that_may_have_been_renamed_is_told_how_to_keep_its_answers(project: Write, form: str) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    assert "renamed" not in batchspec(root, "plan", "--format", form)
    (root / "specs/hello.yaml").write_text(LOCAL.replace("name: hello", "name: hello2"))
    told = batchspec(root, "plan", "--format", form)
    assert f"note: specs/hello.lock has hello, which no spec has now; {RENAMED}" in told
    (root / "specs/hello.yaml").write_text(LOCAL.replace("name: hello", "name: hello2\nmoved: {from: hello}"))
    told = batchspec(root, "plan", "--format", form)
    assert "renamed" not in told
    assert "0 to submit, 3 reused" in told or "0 requests to submit, 3 reused" in told


def test_a_moved_that_names_no_job_does_not_hide_that_one_was_renamed(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    for name, old in (("hello2", "helo"), ("hello3", "hello")):
        (root / "specs/hello.yaml").write_text(LOCAL.replace("name: hello", f"name: {name}\nmoved: {{from: {old}}}"))
        told = batchspec(root, "plan")
        assert (RENAMED in told) == (old == "helo")
        (root / "specs/hello.yaml").write_text(LOCAL.replace("name: hello", "name: hello2\nmoved: {from: hello}"))
        batchspec(root, "apply", "--yes")
    # It is hello2 by now, so that moving from hello again misses it.
    (root / "specs/hello.yaml").write_text(LOCAL.replace("name: hello", "name: hello3\nmoved: {from: hello}"))
    assert RENAMED.replace("hello", "hello2") in batchspec(root, "plan")


def test_a_job_that_was_renamed_with_its_file_is_told_too(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    (root / "specs/hello.yaml").rename(root / "specs/other.yaml")
    (root / "specs/other.yaml").write_text(LOCAL.replace("name: hello", "name: other"))
    assert f"note: specs/hello.lock has hello, which no spec has now; {RENAMED}" in batchspec(root, "plan")
    (root / "specs/other.yaml").write_text(
        LOCAL.replace("name: hello", "name: other").replace("rows.jsonl", "more.jsonl")
    )
    (root / "data/more.jsonl").write_bytes((root / "data/rows.jsonl").read_bytes())
    assert "renamed" not in batchspec(root, "plan")


def test_a_new_job_beside_one_that_still_stands_is_no_renamed_one(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    second = LOCAL.replace("name: hello", "name: second").replace("out/hello", "out/second")
    (root / "specs/hello.yaml").write_text(f"{LOCAL}---\n{second}")
    assert "renamed" not in batchspec(root, "plan")


@pytest.mark.parametrize("include", ["text", "text, error"])
def test_unknown_requests_are_not_said_to_have_failed(project: Write, include: str) -> None:
    """The store and the output are gone, and with the store the embedded service: nothing knows the answers."""
    root = project({"specs/hello.yaml": LEAN % include})
    batchspec(root, "apply", "--yes")
    shutil.rmtree(root / ".batchspec")
    shutil.rmtree(root / "out")
    told = batchspec(root, "apply", "--yes", expect=3)
    assert re.search(r"hello: failed \(requests submitted: 0, 3 unknown\)\n    cost [^\n]+\n    3 unknown: ", told)
    assert "`--ask-unknown hello` asks them again" in told
    assert "failed, and" not in told


@pytest.mark.parametrize(
    ("include", "says"),
    [("text", "add batch, error, request"), ("text, error", "add batch, request"), ("error, request, batch", "")],
)
def test_an_output_that_can_not_stand_in_for_lost_results_is_warned_of(project: Write, include: str, says: str) -> None:
    told = batchspec(project({"specs/hello.yaml": LEAN % include}), "validate")
    assert ("BS194" in told) == bool(says)
    assert says in told


def test_a_plan_of_another_provider_says_which(project: Write) -> None:
    root = project()
    batchspec(root, "plan", "--provider", "local", "--out", "plan.json")
    told = batchspec(root, "apply", "plan.json", expect=1, MODEL_ACCESS_KEY="")
    assert "Error: this plan was made with --provider local [BS603]" in told
    assert "`batchspec apply plan.json --provider local`" in told
    assert "Plan:" not in told
    assert "hello: succeeded" in batchspec(root, "apply", "plan.json", "--provider", "local")


def test_paths_are_those_of_the_place_where_an_output_will_stand(project: Write) -> None:
    root = project()
    told = batchspec(root, "plan", "--provider", "local")
    assert "  > write  .batchspec/realms/local/out/hello.jsonl: " in told
    told = batchspec(root, "apply", "--yes", "--provider", "local")
    assert "hello: wrote .batchspec/realms/local/out/hello.jsonl (3 rows)" in told
    told = batchspec(root, "status", "--provider", "local")
    assert ".batchspec/realms/local/out/hello.jsonl: 3 rows" in told
    assert ".batchspec/realms/local/specs/hello.lock" in told


def test_cancel_and_forget_tell_of_a_batch_that_ended_and_is_not_fetched(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes", "--no-wait")
    batchspec(root, "status", "--watch")
    assert "to fetch" in batchspec(root, "status")
    told = batchspec(root, "cancel", "hello", "--yes")
    assert "hello has no running batch.\nEnded at the service and not fetched yet: " in told
    told = batchspec(root, "forget", "hello", "--yes", expect=1)
    assert "hello has a batch that runs, or that ended at the service and is not fetched yet: " in told


def test_a_mistyped_job_is_told_what_it_may_have_been(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    assert "there is no job helo [BS801]\nDid you mean `hello`?" in batchspec(root, "plan", "--job", "helo", expect=1)


def test_rows_that_came_and_went_beside_a_changed_prompt_are_told_by_their_number(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    rows = (root / "data/rows.jsonl").read_text().splitlines()
    (root / "data/rows.jsonl").write_text(rows[0] + '\n{"id": 77, "text": "new"}\n')
    spec = root / "specs/hello.yaml"
    spec.write_text(LOCAL.replace("version: 1", "version: 1\nsalt: again", 1))
    told = batchspec(root, "plan")
    assert "2 rows, 2 removed" in told
    assert "rows differ in data/rows.jsonl: 2 now, 3 before" in told
    assert "row removed from" not in told
