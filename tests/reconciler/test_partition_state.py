"""Partitions are open or closed by the lines of their lockfile alone."""

from __future__ import annotations

import pytest

from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.partition_state import PartitionState, closing, partition_states
from runner.state.lockfile import Lockfile, merge
from runner.state.lockfile_lines import BatchLine, MovedLine, OutputLine, PartitionField
from runner.state.lockfile_parser import parse

JOB = "daily[date=2026-11-23]"
OPEN, CLOSED, FAILED = PartitionState.OPEN, PartitionState.CLOSED, PartitionState.CLOSED_FAILED


def batch(name: str, *, running: bool = False, gone: bool = False, job: str = JOB) -> BatchLine:
    return BatchLine(
        batch=name, job=job, realm="local:echo", shard=None, requests=2, bytes=None, attempt=1, round=1, request_id="",
        file="", created_at="", pins=None, state="submitted" if running else "completed", gone=gone,
    )  # fmt: skip


def output(state: str | None, batches: int = 1, *, path: str = "out/a.jsonl", job: str = JOB) -> OutputLine:
    partition = None if state is None else PartitionField(state=state, batches=batches)  # type: ignore[arg-type]
    return OutputLine(output=path, job=job, digest="0" * 64, rows=2, batches=("b1",), partition=partition)


def lockfile(*lines: BatchLine | OutputLine | MovedLine) -> Lockfile:
    return Lockfile(
        "p",
        {},
        {},
        {line.batch: line for line in lines if isinstance(line, BatchLine)},
        {line.output: line for line in lines if isinstance(line, OutputLine)},
        frozenset(line for line in lines if isinstance(line, MovedLine)),
    )


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        pytest.param((batch("b1"),), OPEN, id="no output yet"),
        pytest.param((batch("b1"), output("closed")), CLOSED, id="closed"),
        pytest.param((output("closed", 0),), CLOSED, id="closed without a request"),
        pytest.param((batch("b1"), output("failed")), FAILED, id="closed with failures"),
        pytest.param((batch("b1"), output("open")), OPEN, id="written with unknown requests"),
        pytest.param((batch("b1"), batch("b2"), output("closed")), OPEN, id="a batch was added since"),
        pytest.param((batch("b1", running=True), output("closed")), OPEN, id="a batch runs"),
        pytest.param((batch("b1", gone=True), output("closed")), CLOSED, id="results that went later change nothing"),
        pytest.param(
            (batch("b1"), batch("b2"), output("closed"), output("closed", 2, path="out/b.jsonl")),
            CLOSED,
            id="the newer of two outputs counts",
        ),
        pytest.param((batch("b1"), output(None)), CLOSED, id="a line of an earlier version"),
        pytest.param((batch("b1", running=True), output(None)), OPEN, id="of an earlier version, a batch runs"),
        pytest.param((batch("b1", gone=True), output(None)), OPEN, id="of an earlier version, results are gone"),
        pytest.param(
            (batch("b1"), output(None), output("open", path="out/b.jsonl")),
            OPEN,
            id="an earlier line counts alone only",
        ),
    ],
)
def test_state(lines: tuple[BatchLine | OutputLine, ...], state: PartitionState) -> None:
    one = lockfile(*lines)
    assert partition_states(one) == {JOB: state}
    assert partition_states(parse(one.text(), "x.lock", "p")) == {JOB: state}


def test_a_renamed_partition_keeps_its_state() -> None:
    moved = MovedLine(moved=JOB, was="old[date=2026-11-23]")
    one = lockfile(batch("b1", job=moved.was), output("closed", job=moved.was), moved)
    assert partition_states(one) == {JOB: CLOSED}


def test_branches_that_both_ran_a_partition_leave_it_open() -> None:
    """Each has paid for something that the other's output may lack."""
    first, second = lockfile(batch("b1"), output("closed")), lockfile(batch("b2"), output("closed"))
    assert partition_states(merge(first, second)) == partition_states(merge(second, first)) == {JOB: OPEN}


def test_results_that_change_open_the_partition() -> None:
    before, after = ({"results": {"output": digit * 64}} for digit in "ab")
    closed = lockfile(batch("b1").model_copy(update=before), output("closed"))
    changed = closed.with_batches([batch("b1").model_copy(update=after)])
    assert partition_states(changed) == {JOB: OPEN}


@pytest.mark.parametrize(
    ("tally", "exceeds", "state"),
    [
        (KeyCounts(rows=2, answered=2), False, "closed"),
        (KeyCounts(rows=2, answered=1, failed=1), False, "closed"),
        (KeyCounts(rows=2, answered=1, failed=1), True, "failed"),
        (KeyCounts(rows=2, answered=1, unknown=1), True, "open"),
        (KeyCounts(rows=2, answered=1, in_flight=1), False, "open"),
        (KeyCounts(rows=2, answered=1, submit=((2, 1),)), False, "open"),
    ],
)
def test_what_an_output_records(tally: KeyCounts, exceeds: bool, state: str) -> None:
    other = batch("b3", job="another")
    recorded = closing(lockfile(batch("b1"), batch("b2"), other), JOB, tally, exceeds_tolerance=exceeds)
    assert recorded == PartitionField(state=state, batches=2)  # type: ignore[arg-type]
