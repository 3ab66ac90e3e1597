"""What a vendor certainly refuses is warned of by `validate`, at its place; with `--strict` it is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from runner.jobspec.loader import Project

Load = Callable[..., Project]
CLAUDE, GPT = "claude-sonnet-4-5", "gpt-4o-mini"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
OPEN = {**OBJECT, "additionalProperties": True}
OPTIONAL = {**OBJECT, "required": []}
ROOT = {"type": "array", "items": OBJECT}
DEEP = {**OBJECT, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}


def warnings(
    load: Load, model: str, parameters: Mapping[str, Any], prompt: Any, endpoint: str = "", schema: Any = None
) -> list[str]:
    spec = {
        "version": 1,
        "name": "job",
        "model": model,
        "input": {"path": "data/rows.jsonl", "id": "id"},
        "parameters": parameters,
        "prompt": prompt,
        "output": {"path": "out/job.jsonl"},
        **({"endpoint": endpoint} if endpoint else {}),
        **({} if schema is None else {"schema": "schemas/a.json"}),
    }
    files = {"specs/hello.yaml": orjson.dumps(spec), "schemas/a.json": orjson.dumps(schema)}
    return [one.message for one in load(files).warnings if one.code == "BS195"]


def messages(*turns: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]}


def thinking(budget: int, **more: Any) -> dict[str, Any]:
    return {"max_tokens": 4_000, "thinking": {"type": "enabled", "budget_tokens": budget}, **more}


def json_schema(schema: Any, *, strict: bool) -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": strict}}
    }


TEXT: dict[str, Any] = {"user": "{{ text }}"}
MOST = {"max_tokens": 100}
OBJECT_MODE = {"response_format": {"type": "json_object"}}
TOOLS = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}


@pytest.mark.parametrize(
    ("model", "parameters", "prompt", "says"),
    [
        pytest.param(CLAUDE, MOST, {"user": " \n"}, "empty or blank", id="blank"),
        pytest.param(CLAUDE, MOST, messages("", "a", "b"), "empty or blank", id="empty, in the middle"),
        pytest.param(CLAUDE, MOST, messages("a", "{ "), "ends in white space", id="prefill"),
        pytest.param("claude-opus-4-6", MOST, messages("a", "{"), "refuses a last message of the assistant", id="no prefill"),
        pytest.param(CLAUDE, thinking(1_023), TEXT, "at least 1,024; it is 1,023", id="small budget"),
        pytest.param(CLAUDE, thinking(4_000), TEXT, "4,000, must be less than `max_tokens`, 4,000", id="large budget"),
        pytest.param(CLAUDE, thinking(2_000, temperature=0.5), TEXT, "`temperature` must be 1", id="thinking, temperature"),
        pytest.param(CLAUDE, thinking(2_000, top_k=5), TEXT, "`top_k` must be left out", id="thinking, top_k"),
        pytest.param(CLAUDE, thinking(2_000, top_p=0.9), TEXT, "`top_p` must be from 0.95", id="thinking, top_p"),
        pytest.param(CLAUDE, thinking(2_000, tool_choice={"type": "any"}, **TOOLS), TEXT, "can't be forced", id="thinking, any tool"),
        pytest.param(CLAUDE, thinking(2_000), messages("a", "b"), "can't be the assistant's", id="thinking, prefill"),
        pytest.param(CLAUDE, {**MOST, "tool_choice": {"type": "auto"}}, TEXT, "together with `tools`", id="choice, no tools"),
        pytest.param(CLAUDE, {**MOST, "temperature": 0, "top_p": 0.5}, TEXT, "not both", id="two knobs"),
        pytest.param("claude-3-haiku-20240307", {"max_tokens": 5_000}, TEXT, "at most 4,096 tokens", id="long answers, Anthropic"),
        pytest.param(GPT, {"max_tokens": 16_385}, TEXT, "at most 16,384 tokens", id="long answers"),
        pytest.param("openai-gpt-4.1", {"max_completion_tokens": 40_000}, TEXT, "at most 32,768 tokens", id="long answers, catalogue"),
        pytest.param(GPT, OBJECT_MODE, {"user": "List three."}, "the word JSON", id="json_object"),
        pytest.param(GPT, {"top_logprobs": 3}, TEXT, "`logprobs: true`", id="top_logprobs"),
        pytest.param(GPT, {"tool_choice": "auto"}, TEXT, "together with `tools`", id="choice, no tools, OpenAI"),
        pytest.param(GPT, {"parallel_tool_calls": False}, TEXT, "together with `tools`", id="parallel, no tools"),
        pytest.param(GPT, json_schema(OPEN, strict=True), TEXT, "refuses this schema with `strict: true`", id="open, strict"),
        pytest.param(GPT, json_schema(ROOT, strict=False), TEXT, "root is no object", id="root"),
    ],
)  # fmt: skip
def test_what_is_refused(load: Load, model: str, parameters: Mapping[str, Any], prompt: Any, says: str) -> None:
    [message] = warnings(load, model, parameters, prompt)
    assert says in message


@pytest.mark.parametrize(
    ("model", "endpoint", "schema", "says"),
    [
        *(pytest.param(GPT, url, ROOT, "root is no object", id=f"root, {url}") for url in (CHAT, RESPONSES)),
        *(pytest.param(GPT, url, OPEN, "`strict: false`", id=f"open, {url}") for url in (CHAT, RESPONSES)),
        pytest.param(GPT, CHAT, OPTIONAL, "`strict: false`", id="optional"),
        pytest.param(GPT, CHAT, DEEP, "`strict: false`", id="open, deep"),
        pytest.param(CLAUDE, "", OPEN, "an object without `additionalProperties: false`", id="open, Anthropic"),
        pytest.param(CLAUDE, "", DEEP, "an object without `additionalProperties: false`", id="open, deep, Anthropic"),
        pytest.param(
            CLAUDE,
            "",
            {**OBJECT, "properties": {"a": {"type": "integer", "minimum": 1}}},
            "refuses minimum",
            id="minimum",
        ),
    ],
)
def test_what_is_refused_of_a_schema(load: Load, model: str, endpoint: str, schema: Any, says: str) -> None:
    [message] = warnings(load, model, MOST if model == CLAUDE else {}, TEXT, endpoint, schema)
    assert says in message


@pytest.mark.parametrize(
    ("model", "parameters", "prompt", "schema"),
    [
        pytest.param(CLAUDE, MOST, messages("a", "{"), None, id="prefill"),
        pytest.param(CLAUDE, MOST, {"system": " ", "user": "a"}, None, id="blank system prompt"),
        pytest.param(CLAUDE, thinking(3_999, top_p=0.95), TEXT, None, id="thinking"),
        pytest.param(CLAUDE, thinking(8_000, **TOOLS), TEXT, None, id="thinking between tools"),
        pytest.param(CLAUDE, {**MOST, "thinking": {"type": "disabled"}, "top_k": 3}, TEXT, None, id="not thinking"),
        pytest.param(CLAUDE, MOST, TEXT, OPTIONAL, id="optional properties, Anthropic"),
        pytest.param(GPT, {"max_tokens": 16_384}, {"user": " "}, None, id="blank, OpenAI"),
        pytest.param(GPT, OBJECT_MODE, {"user": "As json: {{ text }}"}, None, id="json_object"),
        pytest.param(GPT, OBJECT_MODE, TEXT, None, id="json_object, rendered"),
        pytest.param(GPT, json_schema(OPEN, strict=False), TEXT, None, id="open, not strict"),
        pytest.param(GPT, {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object", "required": [[]]}}}}, TEXT, None, id="no JSON Schema"),
        pytest.param(GPT, {}, TEXT, OBJECT, id="closed"),
        pytest.param("gpt-4o-mini-tuned", {"max_tokens": 20_000}, TEXT, None, id="a model that is not known"),
    ],
)  # fmt: skip
def test_what_is_not_refused(load: Load, model: str, parameters: Mapping[str, Any], prompt: Any, schema: Any) -> None:
    assert warnings(load, model, parameters, prompt, schema=schema) == []
