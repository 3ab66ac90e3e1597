"""Answers as services send them: bodies, their wrappers, and the two ways to read a line."""

from __future__ import annotations

import json
from typing import Any

from runner.outputs.line_scanner import Marks, ScannedLine, repaired, scan_line
from runner.outputs.result_lines import Answer, answer_of, read_line

KEY = "k1-" + "a" * 40


def chat(**message: Any) -> dict[str, Any]:
    return chosen({"finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}})


def chosen(*choices: Any, **body: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "m", "choices": list(choices), **body}


def response(*items: Any, **body: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "model": "m", "error": None, "output": list(items), **body}


def said(*parts: Any, **item: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts), **item}


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def message(*blocks: Any, **body: Any) -> dict[str, Any]:
    return {"type": "message", "model": "m", "stop_reason": "end_turn", "content": list(blocks), **body}


THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
REASONING = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "thoughts"}]}


def lines_of(body: Any) -> dict[str, dict[str, Any]]:
    """A body in each wrapper that may hold it."""
    wrappers: dict[str, dict[str, Any]] = {
        "guide": {"custom_id": KEY, "response": body, "error": None},
        "openai": {"custom_id": KEY, "response": {"status_code": 200, "request_id": "r", "body": body}, "error": None},
    }
    if isinstance(body, dict) and "choices" not in body and "output" not in body:
        wrappers["anthropic"] = {"custom_id": KEY, "result": {"type": "succeeded", "message": body}}
    return wrappers


def long_way(data: bytes) -> ScannedLine | None:
    """What the full parse says of a line, as a glance."""
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    counts = answer.input_tokens, answer.output_tokens, answer.cached_tokens
    written = answer.written_tokens, answer.written_hour_tokens
    given, made, cached, new, hour = (count or 0 for count in (*counts, *written))
    marks = repaired(line.repair) + Marks.CUT * answer.is_cut + Marks.ODD_USAGE * answer.odd_usage
    code = answer.error[0] if answer.error else None
    return line.custom_id, code, answer.kind, answer.model, given, made, cached, new, hour, marks


def read(line: Any) -> Answer:
    """The answer in a line, which both ways agree on."""
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    assert scan_line(data) == long_way(data)
    found = read_line(data)
    assert found is not None
    return answer_of(found)


def refused(status: Any, body: Any, error: Any = None) -> dict[str, Any]:
    return {"custom_id": KEY, "response": {"status_code": status, "request_id": "r", "body": body}, "error": error}
