"""Translates Responses and Anthropic messages to chat completions, and back.

Drops fields without an equivalent. All self-hosted servers support chat completions.
"""

from __future__ import annotations

from typing import Any

import orjson

from runner.service.backends import Json, RequestFailed
from runner.service.jobs.lines import Format

_SAME_IN_CHAT = ("model", "temperature", "top_p", "seed", "user", "parallel_tool_calls")
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def to_chat(body: Json, wire: Format) -> Json:
    """Return a request as a chat completion request. Raises RequestFailed."""
    match wire:
        case Format.CHAT:
            return body
        case Format.MESSAGES:
            return _chat_of_message(body)
        case Format.RESPONSES:
            return _chat_of_response(body)


def from_chat(chat: Json, body: Json, wire: Format) -> Json:
    """Return a chat answer in the format of `body`. Raises RequestFailed."""
    if wire is Format.CHAT:
        return chat
    try:
        choice = chat["choices"][0]
        return _message_of_chat(chat, choice) if wire is Format.MESSAGES else _response_of_chat(chat, choice, body)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise RequestFailed("invalid_upstream_answer", "The upstream's answer is not a chat completion.") from error


def text_of(content: Any) -> str:
    """Return the text of a message's content, a line a part."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)


def _chat_of_message(body: Json) -> Json:
    messages: list[Json] = []
    if system := text_of(body.get("system")):
        messages.append({"role": "system", "content": system})
    for message in body["messages"]:
        messages.extend(_turns(message))
    chat = {"messages": messages, "max_tokens": body["max_tokens"], **_same(body)}
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if tools := body.get("tools"):
        chat["tools"] = [
            _function(tool["name"], tool.get("description"), tool["input_schema"])
            for tool in _objects(tools, "tools")
            if "name" in tool and "input_schema" in tool
        ]
    if isinstance(choice := body.get("tool_choice"), dict):
        named = {"type": "function", "function": {"name": choice.get("name")}}
        chat["tool_choice"] = named if choice.get("type") == "tool" else _TOOL_CHOICES.get(str(choice.get("type")))
    return {name: value for name, value in chat.items() if value is not None}


_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _turns(message: Json) -> list[Json]:
    """Return an Anthropic message as chat messages. Tool results come first."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    turns: list[Json] = [
        {"role": "tool", "tool_call_id": part.get("tool_use_id", ""), "content": text_of(part.get("content"))}
        for part in parts
        if part.get("type") == "tool_result"
    ]
    calls = [
        _call(part.get("id", ""), part.get("name", ""), orjson.dumps(part.get("input", {})).decode())
        for part in parts
        if part.get("type") == "tool_use"
    ]
    text = text_of([part for part in parts if part.get("type") == "text"]) if parts else text_of(content)
    if calls:
        turns.append({"role": message["role"], "content": text or None, "tool_calls": calls})
    elif text or not turns:
        turns.append({"role": message["role"], "content": text})
    return turns


def _message_of_chat(chat: Json, choice: Json) -> Json:
    message = choice["message"]
    content: list[Json] = []
    if text := message.get("content") or message.get("refusal"):
        content.append({"type": "text", "text": text})
    content.extend(
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": orjson.loads(call["function"]["arguments"] or "{}"),
        }
        for call in message.get("tool_calls") or []
    )
    prompt, completion, cached = _tokens(chat)
    return {
        "id": f"msg_{_suffix(chat)}",
        "type": "message",
        "role": "assistant",
        "model": chat.get("model"),
        "content": content,
        "stop_reason": _STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn"),
        "stop_sequence": None,
        "usage": {
            # Anthropic's input tokens exclude cached tokens, OpenAI's include them.
            "input_tokens": max(prompt - cached, 0),
            "output_tokens": completion,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
        },
    }


def _chat_of_response(body: Json) -> Json:
    messages: list[Json] = []
    if instructions := text_of(body.get("instructions")):
        messages.append({"role": "system", "content": instructions})
    given = body["input"]
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    else:
        for item in given:
            messages.extend(_item(item))
    chat = {"messages": messages, **_same(body)}
    chat["max_tokens"] = body.get("max_output_tokens")
    if isinstance(reasoning := body.get("reasoning"), dict):
        chat["reasoning_effort"] = reasoning.get("effort")
    if isinstance(text := body.get("text"), dict) and isinstance(text.get("format"), dict):
        chat["response_format"] = _response_format(text["format"])
    if tools := body.get("tools"):
        chat["tools"] = [
            _function(tool["name"], tool.get("description"), tool.get("parameters"))
            for tool in _objects(tools, "tools")
            if tool.get("type") == "function" and "name" in tool
        ]
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    chat["tool_choice"] = choice
    return {name: value for name, value in chat.items() if value is not None and value != []}


def _item(item: Json) -> list[Json]:
    match item.get("type", "message"):
        case "message":
            role = "system" if item.get("role") == "developer" else item.get("role", "user")
            return [{"role": role, "content": text_of(item.get("content"))}]
        case "function_call":
            call = _call(item.get("call_id", ""), item.get("name", ""), item.get("arguments", "{}"))
            return [{"role": "assistant", "content": None, "tool_calls": [call]}]
        case "function_call_output":
            output = item.get("output")
            return [{"role": "tool", "tool_call_id": item.get("call_id", ""), "content": text_of(output)}]
        case _:
            return []


def _response_format(wanted: Json) -> Json | None:
    if wanted.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {k: v for k, v in wanted.items() if k != "type"}}
    return wanted if wanted.get("type") == "json_object" else None


def _response_of_chat(chat: Json, choice: Json, body: Json) -> Json:
    message = choice["message"]
    suffix = _suffix(chat)
    cut = choice.get("finish_reason") == "length"
    content: list[Json] = []
    if (text := message.get("content")) is not None:
        content.append({"type": "output_text", "text": text, "annotations": []})
    if refusal := message.get("refusal"):
        content.append({"type": "refusal", "refusal": refusal})
    output: list[Json] = []
    if content:
        status = "incomplete" if cut else "completed"
        output.append(
            {"type": "message", "id": f"msg_{suffix}", "status": status, "role": "assistant", "content": content}
        )
    output.extend(
        {
            "type": "function_call",
            "id": f"fc_{suffix}_{index}",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
            "status": "completed",
        }
        for index, call in enumerate(message.get("tool_calls") or [])
    )
    prompt, completion, cached = _tokens(chat)
    return {
        "id": f"resp_{suffix}",
        "object": "response",
        "created_at": chat.get("created", 0),
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": chat.get("model"),
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
    }


def _same(body: Json) -> Json:
    return {name: body[name] for name in _SAME_IN_CHAT if name in body}


def _objects(values: Any, name: str) -> list[Json]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise RequestFailed("invalid_request", f"'{name}' must be a list of objects.")
    return values


def _function(name: Any, description: Any, parameters: Any) -> Json:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _call(call_id: Any, name: Any, arguments: Any) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _suffix(chat: Json) -> str:
    return str(chat.get("id", "")).removeprefix("chatcmpl-") or "0"


def _tokens(chat: Json) -> tuple[int, int, int]:
    usage = chat.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return (
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )
