"""`batchspec diff` shows which answers changed, by row id and by field, and holds few rows in memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from runner.report.compare import Comparison, compare
from tests.report.conftest import Shell
from tests.sampling import sampled


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    usual = {"text": None, "parsed": None, "error": None}
    path.write_text("".join(json.dumps({**usual, **row}) + "\n" for row in rows))
    return path


@pytest.fixture
def compared(tmp_path: Path):
    def run(before: list[dict[str, object]], after: list[dict[str, object]], limit: int = 10) -> Comparison:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        return compare(write(tmp_path / "a", before), write(tmp_path / "b", after), scratch, limit)

    return run


def test_rows_are_matched_by_id_whatever_their_order(compared) -> None:
    before = [{"id": 1, "text": "a"}, {"id": "1", "text": "b"}, {"id": 3, "text": "c"}]
    after = [{"id": 4, "text": "new"}, {"id": "1", "text": "b"}, {"id": 1, "text": "A"}]
    found = compared(before, after)
    assert (found.same, found.changed, found.added, found.removed) == (1, 1, 1, 1)
    [change] = found.changes
    assert (change.id, change.before, change.after) == ("1", "a", "A")


def test_errors_that_come_and_go_are_counted(compared) -> None:
    failed = {"code": "server_error", "message": "no"}
    found = compared(
        [{"id": 1, "error": failed}, {"id": 2, "text": "x"}], [{"id": 1, "text": "x"}, {"id": 2, "error": failed}]
    )
    assert (found.now_answered, found.now_failed) == (1, 1)
    assert found.changes[0].before == "error server_error: no"


def test_structured_answers_are_summed_up_by_field(compared) -> None:
    """Fields come from `parsed`, else from text that is a JSON object."""
    before = [{"id": n, "parsed": {"label": "mixed", "score": 1}} for n in range(4)] + [{"id": 9, "text": '{"a": 1}'}]
    after = [{"id": n, "parsed": {"label": "good", "score": 1}} for n in range(3)]
    after += [{"id": 3, "parsed": {"label": "bad", "score": 2}}, {"id": 9, "text": '{"b": 1}'}]
    found = compared(before, after)
    assert [(one.name, one.rows) for one in found.fields] == [("label", 4), ("a", 1), ("b", 1), ("score", 1)]
    assert found.fields[0].values == (("mixed", "good", 3), ("mixed", "bad", 1))
    assert found.fields[1].values == (("1", "unset", 1),)


def test_without_text_what_was_parsed_is_shown(tmp_path: Path) -> None:
    for name, label in (("a", "good"), ("b", "bad")):
        (tmp_path / name).write_text(json.dumps({"id": 1, "parsed": {"label": label}}) + "\n")
    [change] = compare(tmp_path / "a", tmp_path / "b", tmp_path, 5).changes
    assert (change.before, change.after) == ('{"label":"good"}', '{"label":"bad"}')


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    before = write(tmp_path / "a", [{"id": n, "text": "x" * 1_000} for n in range(5_000)])
    after = write(tmp_path / "b", [{"id": n, "text": "y" * 1_000} for n in range(5_000)])
    tracemalloc.start()
    found = compare(before, after, tmp_path, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.changed == 5_000
    assert len(found.changes) == 5
    assert peak < 1_000_000, "the files have 5 MB each"


def test_between_two_commits(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.commit("One")
    shell.edit("data/rows.jsonl", '"two"', '"zwei"')
    shell.batchspec("apply", "--yes")
    shell.commit("Two")
    shell.edit("data/rows.jsonl", '"three"', '"drei"')
    shell.batchspec("apply", "--yes")
    text = shell.batchspec("diff", "HEAD~1..HEAD", "hello")
    assert text == "2\n  - two\n  + zwei\n\n1 of 3 answers changed (33.3%).\n"
    assert "3\n  - three\n  + drei" in shell.batchspec("diff", "HEAD", "hello")
    assert "2 of 3 answers changed" in shell.batchspec("diff", "HEAD~1..", "hello")
    found = json.loads(shell.batchspec("diff", "HEAD~1..HEAD", "hello", "--json"))
    assert found["changes"] == [{"id": "2", "before": "two", "after": "zwei", "fields": []}]


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        pytest.param("nope..HEAD", "git knows no commit nope", id="no such commit"),
        pytest.param("HEAD..HEAD", "is not in commit", id="output not committed"),
        pytest.param("--output=x..HEAD", "git knows no commit --output=x", id="an option in disguise"),
    ],
)
def test_what_cant_be_read_is_said(shell: Shell, revisions: str, message: str) -> None:
    assert message in shell.batchspec("diff", "--", revisions, "hello", expect=1)


@pytest.mark.parametrize("path", sampled(["out/hello.csv", "out/hello.jsonl.gz", "out/hello.csv.zst"], 1))
def test_outputs_of_other_kinds_are_compared_and_reported_too(shell: Shell, path: str) -> None:
    shell.edit("specs/hello.yaml", "out/hello.jsonl", path)
    shell.batchspec("apply", "--yes")
    shell.commit("One")
    shell.edit("data/rows.jsonl", '"two"', '"zwei"')
    shell.batchspec("apply", "--yes")
    told = shell.batchspec("diff", "HEAD", "hello")
    assert "  - two\n  + zwei\n" in told
    assert told.endswith("1 of 3 answers changed (33.3%).\n")
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--out", "-"))["jobs"]
    assert (job["output"]["rows"], job["output"]["answered"]) == (3, 3)
    assert job["output"]["output_tokens"] > 0
    assert {one["text"] for one in job["output"]["samples"]} == {"one", "zwei", "three"}
