"""Requests that a vendor certainly refuses, known from the spec alone. Warnings only.

`runner.planner.requests.refusal_rules` checks rendered texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.jobspec.answer_schema import is_strict, with_schema
from runner.jobspec.models import Job

Finding = tuple[tuple[str | int, ...], str]
"""The path in the spec, and the problem."""

_LEAST_BUDGET = 1_024
_LEAST_TOP_P = 0.95
_OUTPUT_TOKENS: tuple[tuple[str, int], ...] = (
    # OpenAI's model pages ("max output tokens"); beyond it: "max_tokens is too large … supports at most …".
    (r"gpt-3\.5-turbo(-\d{4})?$", 4_096),
    (r"gpt-4-turbo(-2024-04-09)?$", 4_096),
    (r"gpt-4o-2024-05-13$", 4_096),
    (r"gpt-4o(-2024-(08-06|11-20))?$|gpt-4o-mini(-2024-07-18)?$", 16_384),
    (r"gpt-4\.1(-mini|-nano)?(-2025-04-14)?$", 32_768),
    (r"(o1|o3|o3-mini|o4-mini)(-202\d-\d\d-\d\d)?$", 100_000),
    (r"gpt-5(-mini|-nano)?(-2025-08-07)?$", 128_000),
    # Anthropic's model overview; beyond it: "max_tokens: … > …, which is the maximum allowed number of output tokens".
    (r"claude-3-(opus|sonnet|haiku)-", 4_096),
    (r"claude-3-5-(sonnet|haiku)-", 8_192),
    (r"claude-opus-4-(0|1|2025)", 32_000),
)
_NO_PREFILL = re.compile(r"claude-((opus|sonnet)-4-[6-9]|mythos|fable|(opus|sonnet|haiku)-5)")
"""Models that refuse a last assistant message ("This model does not support assistant message prefill")."""
_ONE_KNOB = re.compile(r"claude-(opus-4-1|(opus|sonnet|haiku)-4-5)")
"""Models that refuse both ("`temperature` and `top_p` cannot both be specified for this model")."""
_ANTHROPIC_UNSUPPORTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
)
"""What structured outputs refuse in a schema (Claude docs, "Structured outputs", JSON Schema limitations)."""


def certain_refusals(job: Job, schema: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Yield what the vendor's API refuses in each request of a job."""
    parameters = with_schema(job, schema)
    yield from _output_limit(job)
    if _format(job, parameters).get("type") == "json_schema":
        yield from _safely(_schemas(job, parameters))
    if job.line_format == "anthropic":
        yield from _messages(job)
        yield from _thinking(job)
        yield from _anthropic_parameters(job)
    else:
        yield from _openai_parameters(job, parameters)


def _safely(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings about a schema; none without a valid one."""
    from runner.jobspec.schema_validator import UnsupportedSchema  # noqa: PLC0415  only jobs with a schema need it

    try:
        yield from findings
    except (UnsupportedSchema, TypeError):
        return


def _output_limit(job: Job) -> Iterator[Finding]:
    name = re.sub(r"^(openai|anthropic)[-/]", "", job.model.lower())
    limit = next((limit for pattern, limit in _OUTPUT_TOKENS if re.match(pattern, name)), None)
    for parameter in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        asked = job.parameters.get(parameter)
        if limit is not None and isinstance(asked, int) and asked > limit:
            yield (("parameters", parameter), f"{job.model} writes at most {limit:,} tokens, and refuses {asked:,}")


def _messages(job: Job) -> Iterator[Finding]:
    """Yield findings about constant texts. Sources: `runner.planner.requests.refusal_rules.rule_of`."""
    turns = job.prompt.turns
    for number, turn in enumerate(turns):
        text, last = turn.text, number == len(turns) - 1
        path = ("prompt", *turn.path)
        if last and turn.role == "assistant" and _NO_PREFILL.search(job.model):
            yield path, f"{job.model} refuses a last message of the assistant; end with one of the user"
        if not isinstance(text, str) or turn.role == "system":
            continue
        if last and turn.role == "assistant":
            if text[-1:].isspace():
                yield path, "Anthropic refuses a last assistant message that ends in white space; remove it"
        elif not text.strip():
            yield path, "Anthropic refuses a message that is empty or blank"


def _thinking(job: Job) -> Iterator[Finding]:
    """Yield findings on extended thinking (Claude docs, "Building with extended thinking", feature compatibility)."""
    given = job.parameters
    thinking = given.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled":
        return
    budget, most = thinking.get("budget_tokens"), given.get("max_tokens")
    path = ("parameters", "thinking")
    if isinstance(budget, int):
        if budget < _LEAST_BUDGET:
            yield path, f"`thinking.budget_tokens` must be at least 1,024; it is {budget:,}"
        # With tools a budget may span several turns (interleaved thinking).
        if isinstance(most, int) and budget >= most and not given.get("tools"):
            yield path, f"`thinking.budget_tokens`, {budget:,}, must be less than `max_tokens`, {most:,}"
    if given.get("temperature", 1) != 1:
        yield ("parameters", "temperature"), "with `thinking`, `temperature` must be 1 or left out"
    if "top_k" in given:
        yield ("parameters", "top_k"), "with `thinking`, `top_k` must be left out"
    top_p = given.get("top_p", 1)
    if isinstance(top_p, (int, float)) and top_p < _LEAST_TOP_P:
        yield ("parameters", "top_p"), "with `thinking`, `top_p` must be from 0.95 to 1"
    choice = given.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") in {"any", "tool"}:
        yield ("parameters", "tool_choice"), "with `thinking`, a tool can't be forced; `tool_choice` is auto or none"
    if job.prompt.turns[-1].role == "assistant":
        yield path, "with `thinking`, the last message can't be the assistant's"


def _anthropic_parameters(job: Job) -> Iterator[Finding]:
    given = job.parameters
    if "tool_choice" in given and not given.get("tools"):
        yield ("parameters", "tool_choice"), "Anthropic takes `tool_choice` only together with `tools`"
    if "temperature" in given and "top_p" in given and _ONE_KNOB.search(job.model):
        yield ("parameters", "top_p"), f"{job.model} takes `temperature` or `top_p`, not both"


def _openai_parameters(job: Job, parameters: Mapping[str, Any]) -> Iterator[Finding]:
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in parameters and not parameters.get("tools") and job.url == "/v1/chat/completions":
            yield ("parameters", name), f"OpenAI takes `{name}` only together with `tools`"
    if job.url == "/v1/chat/completions" and "top_logprobs" in parameters and parameters.get("logprobs") is not True:
        yield ("parameters", "top_logprobs"), "OpenAI takes `top_logprobs` only together with `logprobs: true`"
    texts = [turn.text for turn in job.prompt.turns]
    constant = [text for text in texts if isinstance(text, str) and not any(mark in text for mark in ("{{", "{%"))]
    asked = _format(job, parameters)
    if (
        asked.get("type") == "json_object"
        and len(constant) == len(texts)
        and not re.search("json", "".join(constant), re.IGNORECASE)
    ):
        path = ("parameters", "text" if job.url == "/v1/responses" else "response_format")
        yield path, "OpenAI refuses json_object unless a message has the word JSON in it"


def _format(job: Job, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    outer: Any = parameters.get("response_format")
    if job.url != "/v1/chat/completions":
        outer = parameters.get("text" if job.url else "output_config")
        outer = outer.get("format") if isinstance(outer, Mapping) else None
    return outer if isinstance(outer, Mapping) else {}


def _schemas(job: Job, parameters: Mapping[str, Any]) -> Iterator[Finding]:
    asked = _format(job, parameters)
    if job.answer_schema:
        path: tuple[str | int, ...] = ("schema",)
    else:
        outer = "response_format" if job.url == "/v1/chat/completions" else "text" if job.url else "output_config"
        path = ("parameters", outer)
    held: Any = asked.get("json_schema", asked) if job.url == "/v1/chat/completions" else asked
    schema = held.get("schema") if isinstance(held, Mapping) else None
    if not isinstance(schema, Mapping):
        return
    if not job.url:
        yield from ((path, message) for message in _anthropic_schema(schema))
    elif schema.get("type") != "object":
        yield path, f"the schema's root is no object; OpenAI refuses any other: {_ROOT}"
    elif not is_strict(schema):
        if held.get("strict") is True:
            yield path, f"OpenAI refuses this schema with `strict: true`: {_CLOSED}"
        elif job.answer_schema:
            yield (
                path,
                f"the schema is sent with `strict: false`, so answers may not fit it; for `strict: true`, {_CLOSED}",
            )


_ROOT = 'put it into a property of {"type": "object"}'
_CLOSED = "each object needs `additionalProperties: false`, and all its properties in `required`"


def _anthropic_schema(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield unsupported keywords (Claude docs, "Structured outputs", JSON Schema limitations); each causes a 400."""
    from runner.jobspec.schema_validator import schemas  # noqa: PLC0415  only jobs with a schema need it

    found = list(schemas(schema))
    opened = [
        node
        for node in found
        if (node.get("type") == "object" or "properties" in node) and node.get("additionalProperties") is not False
    ]
    if opened:
        count = f"{len(opened)} objects" if len(opened) > 1 else "an object"
        yield f"Anthropic refuses a schema with {count} without `additionalProperties: false`"
    words = sorted({word for node in found for word in _ANTHROPIC_UNSUPPORTED if word in node})
    if words:
        yield f"Anthropic refuses {', '.join(words)} in a schema; describe it in a `description`"
