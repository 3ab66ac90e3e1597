"""Canaries through the command and the embedded service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.priced import HOME, ROWS, batches, batchspec


def test_a_canary_goes_first_and_the_rest_follows(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("canary: {requests: 5}\nshards: {max_requests: 20}\n")
    assert "5 requests go first, as a canary" in batchspec(root, "plan")
    batchspec(root, "apply", "--yes")
    lines = batches(root)
    assert [line["requests"] for line in lines if line.get("canary")] == [5]
    assert sorted(line["requests"] for line in lines) == [5, 15, 20]
    texts = [json.loads(line)["text"] for line in (root / HOME / "out/hello.jsonl").read_text().splitlines()]
    assert texts == [f"Say {json.loads(row)['text']}." for row in ROWS.splitlines()]
    canary = next(line["batch"] for line in lines if line.get("canary"))
    rows = [json.loads(line) for line in (root / HOME / "out/hello.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows if row["batch"] == canary] == [7, 15, 23, 31, 39], "from all over the input"


def test_a_canary_that_answers_badly_stops_the_rest(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("canary: {requests: 5, max_invalid: 1}\n")
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text().replace("max_tokens: 64", "max_tokens: 64, response_format: {type: json_object}"))
    told = batchspec(root, "apply", "--yes", expect=1)
    assert "the canary failed: 5 of 5 answers" in told
    assert "not JSON (finish_reason: stop): 'Say number" in told
    assert [line["requests"] for line in batches(root)] == [5]
    told = batchspec(root, "apply", "--yes", expect=1)
    assert "the canary failed" in told
    assert "requests submitted: 0" in told
    assert "cost $" not in told, "it was paid by the apply before"
    assert len(batches(root)) == 1
    # Another prompt is another canary.
    spec.write_text(spec.read_text().replace('"Say {{ text }}."', "'{\"say\": {{ id }}}'"))
    batchspec(root, "apply", "--yes")
    assert [line["requests"] for line in batches(root) if line.get("canary")] == [5, 5]
    assert sum(line["requests"] for line in batches(root)) == 45


@pytest.mark.slow
def test_a_canary_that_fails_stops_the_rest(with_spec: Callable[[str], Path]) -> None:
    """The echo backend has no room for 128,000 tokens, so every answer is an error."""
    root = with_spec("canary: {requests: 3, max_failed: 50%}\nretry: {rounds: 1}\n")
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text().replace("{{ text }}", "{{ id }} {{ 'many words ' * 70000 }}"))
    told = batchspec(root, "apply", "--yes", expect=1)
    assert "the canary failed: 3 of 3 requests" in told
    assert "context_length_exceeded" in told
    assert [line["requests"] for line in batches(root)] == [3]


def test_a_canary_that_expired_is_asked_again_alone_before_the_rest_follows(with_spec: Callable[[str], Path]) -> None:
    """An expired batch says nothing of the prompt, and a person has nothing to mend."""
    root = with_spec("canary: {requests: 5}\nretry: {rounds: 2}\n")
    batchspec(root, "apply", "--yes", faults="expire-half=1")
    assert [(line["requests"], line["round"], line.get("canary")) for line in batches(root)] == [
        (5, 1, True),
        (3, 2, True),
        (35, 1, None),
    ]


@pytest.mark.slow
def test_a_canary_whose_rounds_are_used_up_stops_the_rest_until_a_person_says_so(
    with_spec: Callable[[str], Path],
) -> None:
    root = with_spec("canary: {requests: 5}\nretry: {rounds: 1}\n")
    told = batchspec(root, "apply", "--yes", expect=1, faults="expire-half=1")
    assert "the canary failed: 3 of 5 requests" in told
    assert "ask them again with `--retry-failed hello`" in told
    assert "have no answer, and canary.max_failed allows 0: apply submits nothing more" in batchspec(root, "plan")
    assert "what failed of the canary goes first" in batchspec(root, "plan", "--retry-failed", "hello")
    batchspec(root, "apply", "--yes", "--retry-failed", "hello")
    assert [(line["requests"], line.get("canary")) for line in batches(root)] == [(5, True), (3, True), (35, None)]


@pytest.mark.slow
def test_without_waiting_a_canary_stops_one_apply_and_the_next_goes_on(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("canary: {requests: 5}\n")
    batchspec(root, "apply", "--yes", "--no-wait")
    assert [line["requests"] for line in batches(root)] == [5]
    assert "the rest follows when the canary has passed" in batchspec(root, "plan")
    batchspec(root, "apply", "--yes")
    assert [line["requests"] for line in batches(root)] == [5, 35]


@pytest.mark.slow
def test_a_canary_keeps_to_max_in_flight(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("canary: {requests: 5}\nshards: {max_requests: 10}\nmax_in_flight: {shards: 1}\n")
    batchspec(root, "apply", "--yes")
    assert next((line["requests"], line.get("canary")) for line in batches(root)) == (5, True)
    assert sorted(line["requests"] for line in batches(root)) == [5, 5, 10, 10, 10]
