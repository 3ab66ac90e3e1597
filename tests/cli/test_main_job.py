"""The main job through the real command, a real service and real files: what a person sees, and what is paid for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli_runner import run_cli

Write = Callable[..., Path]
HOME = ".batchspec/realms/local"


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli([*arguments, "--provider", "local"], cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(root: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (root / HOME / "out/hello.jsonl").read_text().splitlines()]


def batches(root: Path) -> list[dict[str, object]]:
    lines = map(json.loads, (root / HOME / "specs/hello.lock").read_text().splitlines())
    return [line for line in lines if "batch" in line]


def kept(root: Path) -> dict[str, bytes]:
    return {name: (root / HOME / name).read_bytes() for name in ("specs/hello.lock", "out/hello.jsonl")}


@pytest.fixture
def applied(project: Write) -> Path:
    root = project()
    assert "Plan: 3 to submit, 0 reused." in batchspec(root, "plan")
    batchspec(root, "apply", "--yes")
    return root


def test_apply_answers_every_row_in_order(applied: Path) -> None:
    assert [row["id"] for row in rows(applied)] == [1, 2, 3]
    assert [row["text"] for row in rows(applied)] == ["Say one.", "Say two.", "Say three."]
    [batch] = batches(applied)
    assert (batch["state"], batch["requests"], batch["realm"]) == ("completed", 3, "local:echo")


def test_the_second_apply_has_nothing_to_do_and_changes_no_byte(applied: Path) -> None:
    before = kept(applied)
    assert "Nothing to do: 3 reused." in batchspec(applied, "apply")
    assert kept(applied) == before


def test_a_removed_output_is_written_again_without_submitting(applied: Path) -> None:
    before = kept(applied)
    (applied / HOME / "out/hello.jsonl").unlink()
    assert "the file is not there" in batchspec(applied, "plan")
    batchspec(applied, "apply", "--yes")
    assert kept(applied) == before


def test_an_output_that_was_changed_by_hand_is_rewritten(applied: Path) -> None:
    before = kept(applied)
    (applied / HOME / "out/hello.jsonl").write_text("<<<<<<< HEAD\n")
    assert "not what the lockfile says" in batchspec(applied, "plan")
    batchspec(applied, "apply", "--yes")
    assert kept(applied) == before


def test_one_changed_word_is_one_request(applied: Path) -> None:
    data = applied / "data/rows.jsonl"
    data.write_text(data.read_text().replace("two", "too"))
    assert "Plan: 1 to submit, 2 reused." in batchspec(applied, "plan")
    batchspec(applied, "apply", "--yes")
    assert [batch["requests"] for batch in sorted(batches(applied), key=lambda b: str(b["created_at"]))] in (
        [3, 1],
        [1, 3],
    )
    assert [row["text"] for row in rows(applied)] == ["Say one.", "Say too.", "Say three."]


def test_without_ledger_and_store_the_output_still_counts(applied: Path) -> None:
    before = kept(applied)
    (applied / HOME / "ledger.db").unlink()
    shutil.rmtree(applied / HOME / "store")
    assert "Nothing to do: 3 reused." in batchspec(applied, "plan")
    batchspec(applied, "apply")
    assert kept(applied) == before
    data = applied / "data/rows.jsonl"
    data.write_text(data.read_text().replace("three", "tree"))
    assert "Plan: 1 to submit, 2 reused." in batchspec(applied, "plan")
    batchspec(applied, "apply", "--yes")
    assert sorted(str(batch["requests"]) for batch in batches(applied)) == ["1", "3"]


def test_without_lockfile_the_batch_is_adopted_and_nothing_is_paid_twice(applied: Path) -> None:
    shutil.rmtree(applied / HOME)
    assert "adopt" in batchspec(applied, "plan")
    batchspec(applied, "apply", "--yes")
    assert len(batches(applied)) == 1
    assert [row["text"] for row in rows(applied)] == ["Say one.", "Say two.", "Say three."]


def test_equal_rows_are_asked_once(project: Write) -> None:
    root = project({"data/rows.jsonl": '{"id": 1, "text": "x"}\n{"id": 2, "text": "x"}\n{"id": 3, "text": "y"}\n'})
    batchspec(root, "apply", "--yes")
    assert [batch["requests"] for batch in batches(root)] == [2]
    assert [row["text"] for row in rows(root)] == ["Say x.", "Say x.", "Say y."]


def test_switching_dedupe_off_asks_only_the_second_of_equal_rows(project: Write) -> None:
    root = project({"data/rows.jsonl": '{"id": 1, "text": "x"}\n{"id": 2, "text": "x"}\n'})
    batchspec(root, "apply", "--yes")
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text() + "dedupe: false\n")
    assert "Plan: 1 to submit, 1 reused." in batchspec(root, "plan")


def test_shards_are_cut_where_the_spec_says(project: Write) -> None:
    data = "".join(f'{{"id": {n}, "text": "t{n}"}}\n' for n in range(25))
    root = project({"data/rows.jsonl": data})
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text() + "shards: {max_requests: 10}\nmax_in_flight: {shards: 1}\n")
    batchspec(root, "apply", "--yes")
    assert sorted(int(str(batch["requests"])) for batch in batches(root)) == [5, 10, 10]
    assert [row["text"] for row in rows(root)] == [f"Say t{n}." for n in range(25)]


def test_nobody_to_ask_means_no(project: Write) -> None:
    root = project()
    done = run_cli(["apply", "--provider", "local"], cwd=root)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert not (root / HOME / "specs/hello.lock").exists()


def test_errors_name_file_line_and_column(project: Write) -> None:
    root = project({"specs/hello.yaml": "version: 1\nname: hello\nmodle: m\n"})
    told = batchspec(root, "validate", expect=1)
    assert "specs/hello.yaml:3:1: there is no key `modle` here (did you mean `model`?)" in told


def test_usage_errors_are_exit_code_1(project: Write) -> None:
    assert "--nope" in batchspec(project(), "plan", "--nope", expect=1)


def test_detailed_exitcode(project: Write) -> None:
    root = project()
    batchspec(root, "plan", "--detailed-exitcode", expect=2)
    batchspec(root, "apply", "--yes")
    batchspec(root, "plan", "--detailed-exitcode")


def test_validate_says_it_to_programs(project: Write) -> None:
    root = project({"specs/hello.yaml": "version: 1\nname: hello\nmodle: m\n"})
    told = json.loads(batchspec(root, "validate", "--json", expect=1))
    assert told["valid"] is False
    assert {"file": "specs/hello.yaml", "line": 3, "column": 1, "hint": "did you mean `model`?"}.items() <= next(
        problem for problem in told["problems"] if problem["column"] == 1 and problem["line"] == 3
    ).items()
    told = json.loads(batchspec(project(), "validate", "--json"))
    assert (told["valid"], told["jobs"]) == (True, [{"address": "hello", "file": "specs/hello.yaml"}])
