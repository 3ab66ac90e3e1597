"""Known parameters of the three request formats, and their ranges.

Source: the vendors' API references (OpenAI: create chat completion, create response; Anthropic: create a message;
November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.jobspec.models import Job


@dataclass(frozen=True, slots=True)
class Check:
    """The rule for a value: as the end of "it must be …", as a function, and as JSON Schema."""

    description: str
    fits: Callable[[Any], bool]
    schema: Mapping[str, Any]


Finding = tuple[str, str]
"""The parameter's name, and the problem."""


def _whole(low: int, high: int | None = None) -> Check:
    description = f"a whole number from {low} to {high}" if high is not None else f"a whole number of at least {low}"

    def fits(value: Any) -> bool:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= low
        return good and (high is None or value <= high)

    bounds = {"minimum": low} if high is None else {"minimum": low, "maximum": high}
    return Check(description, fits, {"type": "integer", **bounds})


def _number(low: float, high: float) -> Check:
    def fits(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    schema = {"type": "number", "minimum": low, "maximum": high}
    return Check(f"a number from {low:g} to {high:g}", fits, schema)


def _kind(description: str, *kinds: type) -> Check:
    def fits(value: Any) -> bool:
        return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))

    return Check(description, fits, {"type": [_TYPES[kind] for kind in kinds] if len(kinds) > 1 else _TYPES[kinds[0]]})


def _one_of(*allowed: str) -> Check:
    return Check(f"one of {', '.join(allowed)}", lambda value: value in allowed, {"enum": list(allowed)})


def _stops(most: int | None) -> Check:
    several: dict[str, Any] = {"type": "array", "items": {"type": "string"}}

    def fits(value: Any) -> bool:
        texts = [value] if isinstance(value, str) and most else value
        good = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        return good and (most is None or len(texts) <= most)

    if most is None:
        return Check("a list of texts", fits, several)
    schema = {"anyOf": [{"type": "string"}, {**several, "maxItems": most}]}
    return Check(f"text, or a list of at most {most} texts", fits, schema)


_TYPES = {str: "string", bool: "boolean", dict: "object", list: "array", int: "integer"}
_TEXT, _TRUTH = _kind("text", str), _kind("true or false", bool)
_MAP, _LIST = _kind("a mapping", dict), _kind("a list", list)
_TEXT_OR_MAP = _kind("text or a mapping", str, dict)
_TOKENS, _PENALTY = _whole(1), _number(-2, 2)
_EFFORT = _one_of("none", "minimal", "low", "medium", "high", "xhigh")
_OPENAI: dict[str, Check] = {
    "metadata": _MAP,
    "parallel_tool_calls": _TRUTH,
    "prompt_cache_key": _TEXT,
    "prompt_cache_retention": _TEXT,
    "safety_identifier": _TEXT,
    "service_tier": _TEXT,
    "store": _TRUTH,
    "temperature": _number(0, 2),
    "tool_choice": _TEXT_OR_MAP,
    "tools": _LIST,
    "top_logprobs": _whole(0, 20),
    "top_p": _number(0, 1),
    "user": _TEXT,
}
_CHAT: dict[str, Check] = {
    **_OPENAI,
    "frequency_penalty": _PENALTY,
    "logit_bias": _MAP,
    "logprobs": _TRUTH,
    "max_completion_tokens": _TOKENS,
    "max_tokens": _TOKENS,
    "modalities": _LIST,
    "n": _whole(1, 1),
    "prediction": _MAP,
    "presence_penalty": _PENALTY,
    "reasoning_effort": _EFFORT,
    "response_format": _MAP,
    "seed": _kind("a whole number", int),
    "stop": _stops(4),
    "verbosity": _one_of("low", "medium", "high"),
    "web_search_options": _MAP,
}
_RESPONSES: dict[str, Check] = {
    **_OPENAI,
    "context_management": _LIST,
    "include": _LIST,
    "max_output_tokens": _TOKENS,
    "max_tool_calls": _whole(1),
    "reasoning": _MAP,
    "text": _MAP,
    "truncation": _one_of("auto", "disabled"),
}
_MESSAGES: dict[str, Check] = {
    "cache_control": _MAP,
    "container": _TEXT_OR_MAP,
    "context_management": _MAP,
    "inference_geo": _TEXT,
    "max_tokens": _TOKENS,
    "mcp_servers": _LIST,
    "metadata": _MAP,
    "output_config": _MAP,
    "service_tier": _TEXT,
    "stop_sequences": _stops(None),
    "temperature": _number(0, 1),
    "thinking": _MAP,
    "tool_choice": _MAP,
    "tools": _LIST,
    "top_k": _whole(0),
    "top_p": _number(0, 1),
}
_REASONING = re.compile(r"(openai[-/])?(o[134](-|$)|gpt-5(?!.*chat))")
_PLAIN = re.compile(r"(openai[-/])?gpt-(3\.5|4)")
_SAMPLING = {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "logit_bias"}
_NAMES = {"/v1/chat/completions": _CHAT, "/v1/responses": _RESPONSES, "": _MESSAGES}
_OTHER_NAMES = {
    "": {
        "max_completion_tokens": "max_tokens",
        "max_output_tokens": "max_tokens",
        "stop": "stop_sequences",
        "reasoning_effort": "output_config: {effort: …}",
        "response_format": "output_config: {format: …}",
    },
    "/v1/responses": {
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning: {effort: …}",
        "response_format": "text: {format: …}",
        "verbosity": "text: {verbosity: …}",
    },
    "/v1/chat/completions": {
        "max_output_tokens": "max_tokens",
        "stop_sequences": "stop",
        "reasoning": "reasoning_effort",
        "text": "response_format",
        "output_config": "response_format",
    },
}
_MADE = {
    "model": "`model`",
    "messages": "`prompt`",
    "input": "`prompt`",
    "system": "`prompt.system`",
    "instructions": "`prompt.system`",
    "stream": "",
    "stream_options": "",
    "background": "",
}


def known_parameters(url: str | None = None) -> frozenset[str]:
    """Return the names that an endpoint (empty for anthropic), or any endpoint, accepts."""
    return frozenset().union(*_NAMES.values()) if url is None else frozenset(_NAMES[url])


def parameters_schema() -> dict[str, Any]:
    """Return JSON Schemas of the known parameters, by name."""
    found: dict[str, Any] = {}
    for name in sorted(known_parameters()):
        checks = {url: names[name] for url, names in _NAMES.items() if name in names}
        schemas = [dict(check.schema) for check in checks.values()]
        distinct = [schema for number, schema in enumerate(schemas) if schema not in schemas[:number]]
        description = f"Taken by {' and '.join(map(_taker, checks))}: {checks[next(iter(checks))].description}."
        found[name] = {"description": description, **(distinct[0] if len(distinct) == 1 else {"anyOf": distinct})}
    for name, made in _MADE.items():
        found[name] = {"description": f"Made from {made}." if made else "A batch answers all at once.", "not": {}}
    return found


def wrong_parameters(job: Job, *, own_server: bool) -> Iterator[Finding]:
    """Yield parameters that the service would refuse, or that the job sets itself.

    With `own_server`, the server may accept more than the vendors do.
    """
    given, here, other_names = job.parameters, _NAMES[job.url], _OTHER_NAMES[job.url]
    for name, value in given.items():
        if name in _MADE:
            yield name, f"`{name}` is made from {_MADE[name]}; remove it here" if _MADE[name] else _streams(name)
        elif name == "n" and value != 1:
            yield name, "one request gives one answer; use `replicates` to ask several times"
        elif name in here:
            if not here[name].fits(value):
                yield name, f"`{name}` must be {here[name].description}"
        elif name in other_names:
            yield name, f"{_taker(job.url)} does not take `{name}`; there it is `{other_names[name]}`"
        elif not own_server and (takers := _takers(name)):
            yield name, f"{_taker(job.url)} does not take `{name}`; {' and '.join(takers)} does"
    if not job.url and "max_tokens" not in given:
        yield "", "the anthropic format needs `max_tokens` among the parameters"
    if job.url and "max_tokens" in given and "max_completion_tokens" in given:
        yield "max_tokens", "`max_tokens` and `max_completion_tokens` are two names of one thing; keep one"


def unknown_parameters(job: Job, *, own_server: bool) -> Iterator[Finding]:
    """Yield parameters that are sent unchecked."""
    for name in job.parameters:
        known = name in _MADE or name in _NAMES[job.url] or name in _OTHER_NAMES[job.url]
        if not known and (own_server or not _takers(name)):
            yield name, f"`{name}` is not known to be taken by {_taker(job.url)}; it is sent as it is"


def unsupported_parameters(job: Job, *, own_server: bool) -> Iterator[Finding]:
    """Yield parameters that the endpoint accepts, but not with this model.

    These are warnings: models change faster than tables. OpenAI's reasoning models refuse `max_tokens` and sampling
    parameters; other models refuse reasoning parameters (OpenAI, reasoning guide; November 2026).
    """
    if own_server or job.line_format != "openai":
        return
    reasons = _REASONING.match(job.model) is not None
    for parameter, value in job.parameters.items():
        if reasons and parameter == "max_tokens" and job.url == "/v1/chat/completions":
            yield parameter, f"{job.model} refuses `max_tokens`; with reasoning models it is `max_completion_tokens`"
        elif reasons and parameter in _SAMPLING and not (parameter in {"temperature", "top_p"} and value == 1):
            yield parameter, f"{job.model} reasons, and may refuse `{parameter}`; leave it out if it does"
        elif parameter in {"reasoning_effort", "reasoning"} and _PLAIN.match(job.model):
            yield parameter, f"{job.model} does not reason, and refuses `{parameter}`"


def _takers(name: str) -> list[str]:
    return [_taker(url) for url, names in _NAMES.items() if name in names]


def _taker(url: str) -> str:
    return url or "the anthropic format"


def _streams(name: str) -> str:
    return f"a batch has no use for `{name}`: it answers all at once; remove it"
