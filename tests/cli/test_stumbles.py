"""Where newcomers tripped: each command says the real reason, and what to do about it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_recurring import DAILY, DAYS, LOCAL, batchspec
from tests.conftest import ROWS
from tests.sampling import sampled

Write = Callable[..., Path]
LEAN = LOCAL.replace("{path: out/hello.jsonl}", "{path: out/hello.jsonl, include: [%s]}")
OTHER = LOCAL.replace("name: hello", "name: other").replace("out/hello", "out/other")
RENAMED = "if this is that job renamed, write `moved: {from: hello}`: its answers are then used, and not paid again"


@pytest.mark.parametrize("form", sampled(["text", "markdown"], 1))
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("include", sampled(["text", "text, error"], 1))
def test_unknown_requests_are_not_said_to_have_failed(project: Write, include: str) -> None:
    """The store and the output are gone, and with the store the embedded service: nothing knows the answers."""
    root = project({"specs/hello.yaml": LEAN % include})
    batchspec(root, "apply", "--yes")
    shutil.rmtree(root / ".batchspec")
    shutil.rmtree(root / "out")
    told = batchspec(root, "apply", "--yes", expect=3)
    assert re.search(r"hello: failed \(requests submitted: 0, 3 unknown\)\n    3 unknown: ", told)
    assert "To resubmit them: `--ask-unknown hello`" in told
    assert "allowed by" not in told


@pytest.mark.parametrize(
    ("include", "says"),
    [("text", "Add batch, error, request"), ("text, error", "Add batch, request"), ("error, request, batch", "")],
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
    assert "hello has no running batch.\nEnded but not fetched yet: " in told
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


def test_a_project_without_a_name_is_told_to_be_one(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes", "--no-wait")
    (root / "batchspec.yaml").write_text("version: 1\n")
    told = batchspec(root, "plan", expect=1)
    assert "is of project tests, but no batchspec.yaml sets `project`, so its name is default [BS403]" in told
    assert "\nWrite `project: tests` into batchspec.yaml at the project's root.\n" in told
    (root / "batchspec.yaml").write_text("version: 1\nproject: other\n")
    told = batchspec(root, "plan", expect=1)
    assert "batchspec.yaml sets other [BS403]\nPut the old name back: `project: tests`; " in told


@pytest.mark.parametrize("arguments", [[], ["--provider", "srv"]], ids=["named by the spec", "named by the command"])
def test_a_profile_that_is_wrong_is_not_said_to_be_missing(project: Write, arguments: list[str]) -> None:
    settings = "version: 1\nproviders:\n  srv: {kind: digitalocean, key: sk-abc}\n"
    spec = LOCAL.replace("provider: local", "provider: srv").replace("data/rows", "data/none")
    told = batchspec(project({"batchspec.yaml": settings, "specs/hello.yaml": spec}), "plan", *arguments, expect=1)
    assert "batchspec.yaml:3:" in told
    assert "there is no provider" not in told


SERVED = """\
version: 1
project: tests
providers:
  keyed: {kind: digitalocean, base_url: "https://inference.do-ai.run", key: {env: BATCHSPEC_TEST_KEY}}
"""


def test_apply_without_a_key_names_the_variable_and_asks_nothing(
    project: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project({"batchspec.yaml": SERVED, "specs/hello.yaml": LOCAL.replace("provider: local", "provider: keyed")})
    for name in ("MODEL_ACCESS_KEY", "DIGITALOCEAN_TOKEN", "GRADIENT_API_KEY", "BATCHSPEC_TEST_KEY"):
        monkeypatch.delenv(name, raising=False)
    told = batchspec(root, "apply", "--yes", expect=1)
    assert "there is no key for https://inference.do-ai.run [BS503]\n    set BATCHSPEC_TEST_KEY; or try it" in told
    assert "was not asked" not in told
    assert "this plan uses the lockfile only" in batchspec(root, "plan")


def test_what_failed_can_be_asked_again_and_the_command_is_said(project: Write) -> None:
    """The echo backend answers with text, which is no object."""
    spec = f"{LOCAL}schema: schemas/s.json\n"
    root = project({"specs/hello.yaml": spec, "schemas/s.json": '{"type": "object"}'})
    told = batchspec(root, "apply", "--yes", expect=3)
    assert "To retry failed requests: `batchspec apply --retry-failed hello`" in told
    assert "3 failed. To retry failed requests: `--retry-failed hello`.\n" in batchspec(root, "plan")
    assert "3 to submit" in batchspec(root, "plan", "--retry-failed", "hello")


def test_hints_that_ask_end_once(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    told = batchspec(root, "plan", "--job", "helo", expect=1)
    assert "Did you mean `hello`?\n" in told
    assert "Did you mean `hello`?\n" in batchspec(root, "cancel", "helo", expect=1)


def test_cancel_names_the_partitions_that_lockfiles_know(project: Write) -> None:
    root = project({"specs/hello.yaml": DAILY, f"data/{DAYS[0]}.jsonl": ROWS, "specs/other.yaml": OTHER})
    batchspec(root, "apply", "--yes", "--job", f"daily[date={DAYS[0]}]")
    assert f"The jobs are: daily[date={DAYS[0]}], other.\n" in batchspec(root, "cancel", "zz", expect=1)


def test_differences_outside_of_git_are_refused_as_the_log_is(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    for command in (["render", "--diff", "HEAD"], ["log", "hello"]):
        told = batchspec(root, *command, expect=1)
        assert "is not in a git repository" in told
        assert "History is read from git; run it inside the project's repository." in told
        assert "knows no commit" not in told


def test_a_broken_budget_is_told_once(project: Write) -> None:
    root = project({"specs/hello.yaml": f"{LOCAL}budget: {{max_requests: 1}}\n"})
    told = batchspec(root, "apply", "--yes", expect=1)
    assert told.count("max_requests: 3 requests; the budget is 1") == 1
    assert "Error: the plan is over budget [BS601]\nNothing was submitted. " in told


@pytest.mark.parametrize("target", ["specs/hello.yaml", "batchspec.yaml", "data/rows.jsonl", "."])
def test_what_is_written_replaces_nothing_else(project: Write, target: str) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    before = (root / target).read_bytes() if target != "." else b""
    for command, kind in (("plan", "a saved plan"), ("report", "a report")):
        told = batchspec(root, command, "--out", target, expect=1)
        assert f"{target} exists and is not {kind} [BS811]\nNothing was written. " in told
    assert target == "." or (root / target).read_bytes() == before


def test_what_is_written_replaces_what_was_written_before(project: Write) -> None:
    root = project({"specs/hello.yaml": LOCAL})
    (root / "new").touch()
    for _ in range(2):
        batchspec(root, "plan", "--out", "new")
        for form in ("html", "json", "csv"):
            batchspec(root, "report", "--format", form, "--out", "report")
    assert "is not a saved plan" in batchspec(root, "plan", "--out", "report", expect=1)
    assert "is not a report" in batchspec(root, "report", "--out", "new", expect=1)
