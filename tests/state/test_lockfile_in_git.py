"""The lockfile through real merges of git with `merge=union`, and through older formats."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import LockfileError
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, CountsField, OutputLine, PinsLine, UsageField
from runner.state.lockfile_parser import parse

LOCK = "specs/x.lock"
GOLDEN = Path(__file__).parent / "golden"


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def batch(name: str, job: str = "x", state: str = "submitted", pins: str | None = None) -> BatchLine:
    line = BatchLine(
        batch=name, job=job, realm="local:echo", shard="a" * 64, requests=3, bytes=100, attempt=1, round=1,
        request_id=f"id-{name}", file="f", created_at="2026-11-01T00:00:00Z", pins=pins, state="submitted",
    )  # fmt: skip
    if state == "submitted":
        return line
    return line.model_copy(
        update={
            "state": state,
            "ended_at": "2026-11-01T01:00:00Z",
            "counts": CountsField(total=3, completed=3, failed=0),
            "usage": UsageField(input_tokens=3, output_tokens=3, cached_tokens=0),
        }
    )


def pins(job: str, digest: str) -> PinsLine:
    return PinsLine(
        pins=digest, job=job, model="m", format="openai", endpoint="/v1/chat/completions", parameters={}, input="d",
        input_digest="0" * 64, rows=3, templates={}, spec="0" * 64, requests="0" * 64, tool="0", commit="",
    )  # fmt: skip


def output(job: str, digest: str) -> OutputLine:
    return OutputLine(output=f"out/{job}.jsonl", job=job, digest=digest * 64, rows=3, batches=("b1",))


Change = Callable[[Lockfile], Lockfile]
CHANGES: dict[str, Change] = {
    "added": lambda lock: lock.with_batches([batch("b2", pins="2" * 16)]).with_pins(pins("x", "2" * 16)),
    "added another": lambda lock: lock.with_batches([batch("b3", pins="3" * 16)]).with_pins(pins("x", "3" * 16)),
    "moved on": lambda lock: lock.with_batches([batch("b1", state="completed", pins="1" * 16)]).with_output(
        output("x", "d")
    ),
    "renamed": lambda lock: lock.with_moved("new", "x"),
    "forgot another job": lambda lock: lock.without("old"),
    "another output": lambda lock: lock.with_output(output("x", "e")),
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitattributes").write_text("specs/*.lock merge=union\n")
    (tmp_path / "specs").mkdir()
    lock = (
        Lockfile("p").with_pins(pins("x", "1" * 16)).with_batches([batch("b1", pins="1" * 16), batch("b0", job="old")])
    )
    (tmp_path / LOCK).write_bytes(lock.text())
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "start")
    return tmp_path


def commit(root: Path, branch: str, change: Change) -> None:
    git(root, "checkout", "-q", "-b", branch, "main")
    (root / LOCK).write_bytes(change(parse((root / LOCK).read_bytes(), LOCK, "p")).text())
    git(root, "commit", "-qam", branch)


@pytest.mark.parametrize("second", CHANGES)
@pytest.mark.parametrize("first", CHANGES)
def test_git_merges_two_branches_into_a_lockfile_that_plans_right(repository: Path, first: str, second: str) -> None:
    """Whatever two branches did, no batch is lost or doubled, and what has ended has ended."""
    commit(repository, "one", CHANGES[first])
    commit(repository, "two", CHANGES[second])
    git(repository, "merge", "-q", "--no-edit", "one")
    merged = parse((repository / LOCK).read_bytes(), LOCK, "p")
    both = {first, second}
    assert merged.batches["b1"].ended is ("moved on" in both)
    assert ("b2" in merged.batches) is ("added" in both)
    assert ("b3" in merged.batches) is ("added another" in both)
    address = "new" if "renamed" in both else "x"
    mine = {line.batch for line in merged.batches_of(address, "local:echo")}
    assert mine == set(merged.batches) - {"b0"}
    if {"added", "added another"} <= both:
        assert merged.pins_of(address) is None, "branches that differ in pins leave none current"
    # Written again it is in order, and reading that gives the same.
    assert parse(merged.text(), LOCK, "p") == merged


def test_conflict_markers_are_read_over(repository: Path) -> None:
    """Where somebody merges without the attribute."""
    (repository / ".gitattributes").unlink()
    git(repository, "commit", "-qam", "no attribute")
    commit(repository, "one", CHANGES["added"])
    commit(repository, "two", CHANGES["added another"])
    subprocess.run(["git", "merge", "one"], cwd=repository, capture_output=True, check=False)
    data = (repository / LOCK).read_bytes()
    assert b"<<<<<<<" in data
    assert {"b1", "b2", "b3"} <= set(parse(data, LOCK, "p").batches)


def test_a_lockfile_of_format_1_is_read_and_written_as_the_newest() -> None:
    old = (GOLDEN / "format-1.lock").read_bytes()
    lock = parse(old, "x.lock", "reviews")
    assert lock.text() == (GOLDEN / "format-1-as-2.lock").read_bytes()
    assert [line.batch for line in lock.batches_of("review-sentiment", "local:echo")] == ["b-ended", "b-flying"]


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_bytes(b'{"lockfile":3,"keys":"k1","project":"p","current":{},"new":1}\n')
    before = path.read_bytes()
    with pytest.raises(LockfileError, match="update batchspec; nothing was changed|has format 3"):
        parse(before, "x.lock", "p")
    assert path.read_bytes() == before
