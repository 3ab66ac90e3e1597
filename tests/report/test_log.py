"""`batchspec log` tells a job's history from its lockfile in git."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runner.state.lockfile_parser import parse
from tests.report.conftest import Shell


def test_each_commit_of_the_lockfile_is_an_entry(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.commit("First answers")
    shell.edit("data/rows.jsonl", '"two"', '"zwei"')
    shell.edit("specs/hello.yaml", "gpt-4o-mini", "gpt-4.1-mini")
    shell.commit("Another model")
    shell.batchspec("apply", "--yes")
    entries = json.loads(shell.batchspec("log", "hello", "--json"))
    assert [entry["subject"] for entry in entries] == [None, "First answers"]
    newest, first = entries
    assert first["model"] == "gpt-4o-mini"
    assert first["changed"] == "first run"
    assert (first["completed"], first["failed"], first["rows"]) == (3, 0, 3)
    assert list(first["submitted"]) == list(first["ended"])
    assert newest["commit"] is None
    assert "model changed: gpt-4o-mini to gpt-4.1-mini; rows changed in data/rows.jsonl" in newest["changed"]
    text = shell.batchspec("log", "hello")
    assert text.startswith("not committed\n    gpt-4.1-mini: model changed")
    assert "Tester\n    First answers\n" in text
    assert "3 answered" in text


def test_submitting_and_fetching_in_two_commits_are_two_entries(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    lock = shell.root / "specs/hello.lock"
    ended = lock.read_bytes()
    lockfile = parse(ended, "hello.lock", "tests")
    [line] = lockfile.batches.values()
    waiting = line.model_copy(update={"state": "submitted"})
    lock.write_bytes(replace(lockfile, batches={line.batch: waiting}, outputs={}).text())
    shell.commit("Submitted")
    lock.write_bytes(ended)
    shell.commit("Fetched")
    fetched, submitted = json.loads(shell.batchspec("log", "hello", "--json"))
    assert (submitted["subject"], len(submitted["submitted"]), submitted["ended"]) == ("Submitted", 1, {})
    assert (fetched["subject"], fetched["submitted"], len(fetched["ended"])) == ("Fetched", {}, 1)


def test_a_renamed_job_keeps_its_history(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.commit("Under the old name")
    shell.edit("specs/hello.yaml", "name: hello\n", "name: greeting\nmoved: {from: hello}\n")
    shell.edit("data/rows.jsonl", '"two"', '"zwei"')
    shell.batchspec("apply", "--yes")
    shell.commit("Under the new name")
    new, old = json.loads(shell.batchspec("log", "greeting", "--json"))
    assert (new["subject"], new["completed"]) == ("Under the new name", 1)
    assert new["changed"] == "renamed: hello to greeting; rows changed in data/rows.jsonl"
    assert (old["subject"], old["completed"]) == ("Under the old name", 3)


@pytest.mark.slow
def test_an_output_that_is_written_elsewhere_is_no_new_question(shell: Shell) -> None:
    """Each output has its own rows; nothing is said to lack an answer."""
    shell.batchspec("apply", "--yes")
    shell.edit("specs/hello.yaml", "out/hello.jsonl", "out/hello.csv")
    shell.batchspec("apply", "--yes")
    [both] = json.loads(shell.batchspec("log", "hello", "--json"))
    assert (both["rows"], both["outputs"]) == (3, {"out/hello.jsonl": 3, "out/hello.csv": 3})
    shell.commit("Two outputs")
    shell.edit("specs/hello.yaml", "out/hello.csv", "out/new.jsonl")
    shell.batchspec("apply", "--yes")
    text = shell.batchspec("log", "hello").partition("\n\n")[0]
    assert "the output moved from out/hello.csv, out/hello.jsonl to out/new.jsonl" in text
    assert "> wrote 3 rows to out/new.jsonl" in text
    assert "no answer" not in text
    shell.commit("Elsewhere")
    shell.edit("specs/hello.yaml", "out/new.jsonl}", "out/new.jsonl, include: [text]}")
    shell.batchspec("apply", "--yes")
    assert "the spec changed, but no request did" in shell.batchspec("log", "hello").partition("\n\n")[0]


@pytest.mark.slow
def test_what_was_imported_is_told_apart_from_what_was_submitted(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.edit("specs/hello.yaml", "name: hello\n", "name: other\n")
    shell.edit("specs/hello.yaml", "out/hello.jsonl", "out/other.jsonl")
    lock = shell.root / "specs/hello.lock"
    lockfile = parse(lock.read_bytes(), "hello.lock", "tests")
    [line] = lockfile.batches.values()
    # What `import` writes of a batch that was made without this tool.
    imported = line.model_copy(update={"batch": "theirs", "job": "other", "pins": None, "request_id": "their-own"})
    adopted = line.model_copy(update={"batch": "ours", "job": "other", "pins": None, "bytes": None, "request_id": ""})
    lock.write_bytes(replace(lockfile, batches={"theirs": imported, "ours": adopted}, outputs={}).text())
    [entry] = json.loads(shell.batchspec("log", "other", "--json"))
    assert (entry["submitted"], entry["imported"]) == ({"ours": 3}, {"theirs": 3})
    text = shell.batchspec("log", "other")
    assert "+ submitted 3 requests in 1 batch\n    = imported 3 requests in 1 batch\n" in text


def test_a_job_that_never_ran_has_no_history(shell: Shell) -> None:
    assert "has no entry for hello yet" in shell.batchspec("log", "hello")


def test_a_broken_version_is_told_and_the_rest_is_shown(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.commit("Good")
    good = (shell.root / "specs/hello.lock").read_text()
    (shell.root / "specs/hello.lock").write_text("rubbish\n")
    shell.commit("Broken")
    (shell.root / "specs/hello.lock").write_text(good)
    shell.commit("Mended")
    text = shell.batchspec("log", "hello")
    assert "Broken\n    ! specs/hello.lock at" in text
    assert "Good" in text


def test_outside_git_it_says_what_is_missing(shell: Shell) -> None:
    (shell.root / ".git").rename(shell.root.parent / "gone")
    assert "inside the project's repository" in shell.batchspec("log", "hello", expect=1)


def test_a_run_apart_has_no_history_in_git(shell: Shell) -> None:
    shell.edit("specs/hello.yaml", "provider: local\n", "")
    assert "not recorded in git" in shell.batchspec("log", "hello", "--provider", "local", expect=1)
