"""Parses a create's body, in the guide's form and in the API description's.

An invalid file makes a job that fails with reasons.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from runner.service.http.middleware import HttpError
from runner.service.jobs.lines import ENDPOINTS, Format, Provider, read_lines
from runner.service.webhooks.payload import signer
from runner.service.webhooks.targets import Targets

_PROVIDERS = ("openai", "anthropic")
_MAX_NAME = 512
_MAX_URL = 2048


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A valid create. An endpoint implies the provider openai."""

    file_id: str
    provider: Provider | None
    named_provider: bool
    endpoint: str | None
    request_id: str
    model: str | None
    parameters: dict[str, Any]
    metadata: dict[str, str] | None
    webhook: dict[str, str] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class FirstLine:
    """What a file's first line shows about its job."""

    provider: Provider | None = None
    endpoint: str | None = None
    model: str | None = None


def parse_create_request(body: dict[str, Any], targets: Targets) -> CreateRequest:
    """Check a create; its webhook must go to `targets`. Raises HttpError (422)."""
    file_id = body.get("file_id", body.get("input_file_id"))
    if not isinstance(file_id, str) or not file_id:
        raise HttpError(422, "file_id must be the id of an uploaded file.")
    provider = _choice(body, "provider", _PROVIDERS)
    endpoint = _choice(body, "endpoint", ENDPOINTS)
    if provider == "anthropic" and endpoint:
        raise HttpError(422, "endpoint must be omitted when provider is anthropic.")
    if body.get("completion_window", "24h") != "24h":
        raise HttpError(422, "completion_window must be 24h.")
    return CreateRequest(
        file_id=file_id,
        provider=cast("Provider | None", provider or ("openai" if endpoint else None)),
        named_provider=provider is not None,
        endpoint=endpoint,
        request_id=_name(body, "request_id") or str(uuid.uuid4()),
        model=_name(body, "model"),
        parameters=_parameters(body),
        metadata=_metadata(body),
        webhook=_webhook(body, targets),
    )


def first_line(path: Path, limit: int) -> FirstLine:
    """Read a file's first line, at most `limit` bytes. Raises OSError."""
    with path.open("rb") as file:
        _, raw = next(read_lines(file, limit), (0, None))
    try:
        line = orjson.loads(raw or b"")
    except ValueError:
        return FirstLine()
    if not isinstance(line, dict):
        return FirstLine()
    has_params, has_body = "params" in line, "body" in line
    anthropic = has_params and not has_body
    body = line.get("params" if anthropic else "body")
    model = body.get("model") if isinstance(body, dict) else None
    url = line.get("url")
    return FirstLine(
        provider=None if has_params == has_body else "anthropic" if anthropic else "openai",
        endpoint=url if not anthropic and url in ENDPOINTS else None,
        model=model if isinstance(model, str) and model else None,
    )


def address(order: CreateRequest, first: FirstLine) -> tuple[Provider, str | None]:
    """Return provider and endpoint: the create's, else the line's, else chat completions.

    Raises HttpError (422) if they contradict each other.
    """
    if order.provider and first.provider and order.provider != first.provider:
        field = "provider" if order.named_provider else "endpoint"
        raise HttpError(422, f"{field}: the first line of the file is for {first.provider}, not {order.provider}.")
    provider: Provider = order.provider or first.provider or "openai"
    if provider == "anthropic":
        return provider, None
    return provider, order.endpoint or first.endpoint or Format.CHAT.value


def _choice(body: dict[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is None or (isinstance(value, str) and value in choices):
        return value
    raise HttpError(422, f"{name} must be one of {', '.join(choices)}.")


def _name(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        raise HttpError(422, f"{name} must be a text of 1 to {_MAX_NAME} characters.")
    return value


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    value = body.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HttpError(422, "parameters must be an object.")
    return value


def _metadata(body: dict[str, Any]) -> dict[str, str] | None:
    value = body.get("metadata")
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise HttpError(422, "metadata must be an object whose values are texts.")
    return value


def _webhook(body: dict[str, Any], targets: Targets) -> dict[str, str] | None:
    value = body.get("webhook")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise HttpError(422, "webhook must be an object with url and secret.")
    url, secret = value.get("url"), value.get("secret")
    if not isinstance(url, str) or not _is_web_url(url):
        raise HttpError(422, f"webhook.url must be an http or https URL of at most {_MAX_URL} characters.")
    if refusal := targets.refusal(urlsplit(url).hostname or ""):
        raise HttpError(422, f"webhook.url: {refusal}.")
    if not isinstance(secret, str) or not secret:
        raise HttpError(422, "webhook.secret must be a text that is not empty.")
    try:
        signer(secret)
    except ValueError as error:
        raise HttpError(422, f"webhook.secret can't be used: {error}.") from error
    return {"url": url, "secret": secret}


def _is_web_url(text: str) -> bool:
    # urlsplit drops some control characters; others would reach the resolver.
    if len(text) > _MAX_URL or not text.isprintable() or " " in text or "\\" in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
