"""What validation finds, line by line: a table of cases through the real service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.service.jobs.validate import Rules, validate
from tests.sampling import sampled
from tests.service.conftest import Caller, Serve, chat, jsonl, message, response

IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]


def without(line: dict[str, Any], *names: str) -> dict[str, Any]:
    copy = dict(line)
    for name in names:
        copy.pop(name)
    return copy


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    sampled(
        [
            pytest.param([chat("a"), b"{not json}\n"], "invalid_json_line", 2, id="not-json"),
            pytest.param([chat("a"), b"\n", chat("b")], "invalid_json_line", 2, id="empty-line"),
            pytest.param([chat("a"), b"[1]\n"], "invalid_json_line", 2, id="not-an-object"),
            pytest.param([b"\xef\xbb\xbf" + jsonl([chat("a")])], "invalid_json_line", 1, id="byte-order-mark"),
            pytest.param([chat("a"), b'{"custom_id": "\xff"}\n'], "invalid_json_line", 2, id="not-utf8"),
            pytest.param([chat("a"), b'{"custom_id": "\\ud800"}\n'], "invalid_json_line", 2, id="lone-surrogate"),
            pytest.param([chat("a"), b"[" * 5000 + b"\n"], "invalid_json_line", 2, id="deep-nesting"),
            pytest.param([b""], "empty_file", None, id="empty-file"),
            pytest.param([chat("a"), chat("b"), chat("a")], "duplicate_custom_id", 3, id="duplicate-id"),
            pytest.param([without(chat("a"), "custom_id")], "missing_required_field", 1, id="no-id"),
            pytest.param([chat(7)], "invalid_custom_id", 1, id="id-number"),  # type: ignore[arg-type]
            pytest.param([chat("")], "invalid_custom_id", 1, id="id-empty"),
            pytest.param([chat("a"), without(chat("b"), "method")], "missing_required_field", 2, id="no-method"),
            pytest.param([{**chat("a"), "method": "GET"}], "invalid_method", 1, id="method"),
            pytest.param([chat("a"), without(chat("b"), "url")], "missing_required_field", 2, id="no-url"),
            pytest.param([chat("a"), response("b")], "invalid_url", 2, id="other-endpoint"),
            pytest.param([{**chat("a"), "url": "/v1/embeddings"}], "invalid_url", 1, id="unknown-endpoint"),
            pytest.param([chat("a"), without(chat("b"), "body")], "missing_required_field", 2, id="no-body"),
            pytest.param([{**chat("a"), "body": "x"}], "missing_required_field", 1, id="body-type"),
            pytest.param([chat("a", model=None)], "missing_required_field", 1, id="no-model"),
            pytest.param([chat("a", model=3)], "invalid_model", 1, id="model-type"),
            pytest.param([chat("a"), chat("b", model="m-2")], "mismatched_model", 2, id="two-models"),
            pytest.param([chat("a", stream=True)], "unsupported_parameter", 1, id="stream"),
            pytest.param([chat("a", messages=None)], "missing_required_field", 1, id="no-messages"),
            pytest.param([chat("a", messages=[])], "invalid_messages", 1, id="empty-messages"),
            pytest.param([chat("a", messages=["hi"])], "invalid_messages", 1, id="message-type"),
            pytest.param([chat("a", messages=[{"content": "x"}])], "invalid_messages", 1, id="no-role"),
            pytest.param(
                [chat("a", messages=[{"role": "user", "content": 5}])], "invalid_content", 1, id="content-type"
            ),
            pytest.param(
                [chat("a", messages=[{"role": "user", "content": IMAGE}])], "unsupported_content", 1, id="image"
            ),
            pytest.param(
                [chat("a", messages=[{"role": "user", "content": [{"type": "text"}]}])],
                "invalid_content",
                1,
                id="no-text",
            ),
            pytest.param([response("a", input=None)], "missing_required_field", 1, id="no-input"),
            pytest.param([response("a", input=5)], "invalid_input", 1, id="input-type"),
            pytest.param([response("a", input=["x"])], "invalid_input", 1, id="input-item"),
            pytest.param(
                [response("a", input=[{"role": "user", "content": [{"type": "input_image"}]}])],
                "unsupported_content",
                1,
                id="input-image",
            ),
            pytest.param([response("a", input=[{"type": "computer_call"}])], "unsupported_content", 1, id="input-kind"),
            pytest.param([message("a b")], "invalid_custom_id", 1, id="anthropic-id"),
            pytest.param([message("a" * 65)], "invalid_custom_id", 1, id="anthropic-long-id"),
            pytest.param(
                [message("a"), message("b", max_tokens=None)], "missing_required_field", 2, id="no-max-tokens"
            ),
            pytest.param([message("a", max_tokens=0)], "invalid_max_tokens", 1, id="max-tokens-zero"),
            pytest.param([message("a", max_tokens=True)], "invalid_max_tokens", 1, id="max-tokens-type"),
            pytest.param([message("a", system=[{"type": "image"}])], "unsupported_content", 1, id="system-image"),
            pytest.param([message("a"), chat("b")], "missing_required_field", 2, id="openai-line-in-anthropic"),
        ],
        4,
    ),
)
def test_a_file_that_breaks_a_rule_fails_the_job_with_code_and_line(
    shared: Caller, lines: list[Any], code: str, number: int | None
) -> None:
    batch = shared.run(lines)
    assert batch["status"] == "failed"
    assert batch["failed_at"] is not None
    assert (code, number) in [(error["code"], error["line"]) for error in batch["errors"]]
    assert all(error["message"] for error in batch["errors"])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([chat("a", messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}])], id="parts"),
        pytest.param([jsonl([chat("a")]).rstrip(b"\n")], id="no-last-newline"),
        pytest.param([jsonl([chat("a")]).replace(b"\n", b"\r\n")], id="crlf"),
        pytest.param([response("a", input=[{"role": "user", "content": "x"}], instructions="y")], id="input-items"),
        pytest.param([message("a-Z_9", system="be brief")], id="system"),
        pytest.param([chat("ä 🎉 \u2028 id")], id="any-id"),
        pytest.param([jsonl([chat("a", seed=1)]).replace(b'"seed":1', b'"seed":%d' % 2**70)], id="large-number"),
    ],
)
def test_what_keeps_the_rules_runs(shared: Caller, lines: list[Any]) -> None:
    batch = shared.run(lines)
    assert (batch["status"], batch["errors"]) == ("completed", None)
    assert batch["request_counts"]["completed"] == 1


def test_all_errors_are_told_up_to_100(api: Caller) -> None:
    """Not only the first error: whoever mends a file wants to mend it once."""
    batch = api.run([b"x\n"] * 30)
    assert [error["line"] for error in batch["errors"]] == list(range(1, 31))
    batch = api.run([b"x\n"] * 300)
    assert len(batch["errors"]) == 100


def test_limits_on_requests_and_lines(serve: Serve) -> None:
    api = serve(max_requests=3, max_line_bytes=500)
    assert api.run([chat(f"r{index}") for index in range(3)])["status"] == "completed"
    batch = api.run([chat(f"r{index}") for index in range(9)])
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [("too_many_requests", 4)]
    batch = api.run([chat("a"), chat("b", "x" * 5000), chat("c")])
    assert [(error["code"], error["line"]) for error in batch["errors"]] == [("line_too_long", 2)]


def test_validation_stops_when_told(tmp_path: Path) -> None:
    """The service stops within moments, however large the file."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl([chat(f"r{index}") for index in range(1000)]))
    rules = Rules("openai", "/v1/chat/completions", {}, 50_000, 1_000_000)
    assert validate(path, rules, lambda: True) is None
    verdict = validate(path, rules)
    assert verdict is not None
    assert (verdict.total, verdict.model, verdict.errors) == (1000, "m-1", ())
