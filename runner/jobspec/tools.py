"""How a job's tools affect its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.jobspec.models import Job
from runner.jobspec.output_options import OUTPUT_FIELDS

TOOL_CALLS = "tool_calls"
_ANY = frozenset({"required", "any"})
_CACHE = "cache_control"


def output_fields(job: Job) -> tuple[str, ...]:
    """Return the fields of an output row after its id.

    The defaults include `tool_calls` only if the job has `tools` (or the older `functions`).
    """
    if job.output.include is not None:
        return job.output.include
    if not _tools(job.parameters):
        return OUTPUT_FIELDS
    at = OUTPUT_FIELDS.index("parsed") + 1
    return (*OUTPUT_FIELDS[:at], TOOL_CALLS, *OUTPUT_FIELDS[at:])


def forced_function(parameters: Mapping[str, Any]) -> str | None:
    """Return the function that the model must call, if any."""
    choice = parameters.get("tool_choice", parameters.get("function_call"))
    if isinstance(choice, Mapping):
        inner = choice.get("function") if isinstance(choice.get("function"), Mapping) else choice
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if isinstance(name, str):
            return name
        choice = choice.get("type")
    tools = _tools(parameters)
    if isinstance(choice, str) and choice in _ANY and len(tools) == 1 and isinstance(tools[0], Mapping):
        inner = tools[0].get("function")
        name = (inner if isinstance(inner, Mapping) else tools[0]).get("name")
        return name if isinstance(name, str) else None
    return None


def writes_caches(job: Job) -> bool:
    """Return whether requests write prompt caches, which is billed (Anthropic's `cache_control`)."""
    return cache_ttl(job) is not None


def cache_ttl(job: Job) -> str | None:
    """Return the longest requested cache lifetime: `5m`, `1h`, or None."""
    found = set(_ttls([job.parameters, job.prompt.model_dump(mode="json")]))
    return None if not found else "1h" if "1h" in found else "5m"


def _ttls(value: Any) -> list[str]:
    found: list[str] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            control = node.get(_CACHE)
            if isinstance(control, Mapping):
                found.append(str(control.get("ttl") or "5m"))
            waiting += node.values()
        elif isinstance(node, (list, tuple)):
            waiting += node
    return found


def _tools(parameters: Mapping[str, Any]) -> list[Any]:
    tools = parameters.get("tools") or parameters.get("functions")
    return tools if isinstance(tools, list) else []
