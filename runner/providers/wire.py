"""Converts the service's JSON to the values of `protocol`, and back.

Accepts any mixture of three dialects: the guide of 27 Apr 2026, its OpenAPI description of Aug 2026 (`pydo`), and
`godo`'s recordings. Unknown statuses count as running. A missing id or status, or an invalid count, is Malformed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.errors import Malformed, NotReady
from runner.providers.protocol import (
    TERMINAL,
    BatchError,
    Counts,
    CreateRequest,
    FileIntent,
    RemoteBatch,
    ResultUrls,
    Usage,
)
from runner.providers.redact import shown

WINDOW = "24h"
"""The only completion window (OpenAPI description, `completion_window`)."""

MAX_ERRORS = 1_000
"""Most errors kept for one failed batch; a file may have 50,000 bad lines."""

_SPELLINGS = {"canceled": "cancelled", "canceling": "cancelling"}
"""American spellings of Anthropic's API. As unknown names they would count as running forever."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_MILLISECONDS = 1e11


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch of the list: parsed, and as sent."""

    batch: RemoteBatch
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list. Unless `certain`, it may not be the last."""

    entries: tuple[Entry, ...]
    cursor: str | None
    certain: bool


def is_id(value: object) -> bool:
    """Return whether a value may enter URLs and file names."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def create_body(request: CreateRequest) -> dict[str, Any]:
    """Return a create's body. Only openai has an `endpoint` (OpenAPI description)."""
    body: dict[str, Any] = {"provider": request.line_format, "file_id": request.file_id, "completion_window": WINDOW}
    if request.line_format == "openai":
        body["endpoint"] = request.endpoint
    if request.request_id:
        body["request_id"] = request.request_id
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    if request.webhook is not None:
        url, secret = request.webhook
        body["webhook"] = {"url": url, "secret": secret}
    return body


def read_intent(answer: object) -> FileIntent:
    """Parse a file create's response. Raises Malformed."""
    fields = _object(answer, "file")
    upload_url = fields.get("upload_url")
    if not isinstance(upload_url, str) or not upload_url:
        raise Malformed("the service's response for a new file has no upload_url")
    return FileIntent(_file_id(fields, required=True), upload_url, read_time(fields.get("expires_at")))


def read_batch(answer: object) -> RemoteBatch:
    """Parse a batch. Raises Malformed."""
    fields = _object(answer, "batch")
    batch_id = _first(fields, "id", "batch_id")
    if not is_id(batch_id):
        raise Malformed(
            "the service's response has a batch without an id"
            if batch_id is None
            else f"the service's response has a batch with an invalid id: {shown(str(batch_id), 60)}"
        )
    status = fields.get("status")
    if not isinstance(status, str) or not status.strip():
        raise Malformed(f"the service's response has no status for batch {batch_id}")
    status = shown(status.strip().lower(), 60)
    status = _SPELLINGS.get(status, status)
    return RemoteBatch(
        batch_id=str(batch_id),
        status=status,
        file_id=_file_id(fields),
        line_format=_text(fields.get("provider")).lower(),
        endpoint=_text(fields.get("endpoint")),
        request_id=_text(fields.get("request_id")),
        metadata=_metadata(fields.get("metadata")),
        counts=_counts(fields.get("request_counts")),
        usage=_usage(fields.get("usage")),
        errors=_errors(fields, status),
        created_at=read_time(fields.get("created_at")),
        ended_at=_ended_at(fields, status),
        expires_at=read_time(fields.get("expires_at")),
    )


def read_page(answer: object) -> Page:
    """Parse a page: `data` with `has_more`, or `edges` with `page_info`. Raises Malformed."""
    if isinstance(answer, list):  # the guide leaves the shape open
        return Page(_entries(answer), None, certain=True)
    fields = _object(answer, "list")
    if isinstance(fields.get("edges"), list):
        edges = [_object(edge, "list") for edge in fields["edges"]]
        entries = _entries(edge.get("node") for edge in edges)
        info = _object(fields.get("page_info") or {}, "list")
        last = _cursor(_first(info, "endCursor", "end_cursor"), edges[-1].get("cursor") if edges else None, entries)
        return _page(entries, _first(info, "hasNextPage", "has_next_page"), last)
    data = fields.get("data")
    if not isinstance(data, list):
        raise Malformed("the service's list of batches has neither data nor edges")
    entries = _entries(data)
    return _page(entries, fields.get("has_more"), _cursor(fields.get("last_id"), None, entries))


def read_results(answer: object) -> ResultUrls:
    """Parse result URLs. Raises NotReady, Malformed."""
    fields = _object(answer, "results")
    if fields.get("result_available") is False:
        raise NotReady("the results are not available yet", status=200, error_id="precondition_failed")
    download = fields.get("download")
    nested = download if isinstance(download, dict) else {}
    known = {"output_url", "output_file_url", "download", "error_url", "error_file_url", "result_available"}
    if not known & fields.keys():
        raise Malformed("the service's response for results names no files")
    return ResultUrls(
        output_url=_url(_first(fields, "output_url", "output_file_url") or nested.get("presigned_url")),
        error_url=_url(_first(fields, "error_url", "error_file_url")),
        expires_at=read_time(_first(fields, "expires_at") or nested.get("expires_at")),
    )


def read_time(value: object) -> datetime | None:
    """Parse RFC 3339, or seconds or milliseconds since 1970, as UTC.

    Invalid times are None: they only serve display and order.
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            if text.isascii() and text.isdigit():
                return read_time(int(text))
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"the service's response has no JSON object for the {what}")
    return value


def _first(fields: Mapping[str, Any], *names: str) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _text(value: object) -> str:
    return shown(value, 500) if isinstance(value, str) else ""


def _file_id(fields: Mapping[str, Any], *, required: bool = False) -> str:
    value = _text(_first(fields, "file_id", "input_file_id", *(("id",) if required else ())))
    if required and not value:
        raise Malformed("the service's response for a new file has no file_id")
    return value


def _url(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    # Metadata identifies a batch's job, so keep a value exactly or drop it.
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}


def _number(value: object, what: str) -> int:
    """Return a count; 0 if unknown. Raises Malformed."""
    if value is None:
        return 0
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise Malformed(f"the service's response has an invalid count in {what}: {shown(str(value), 60)}")
    return value


def _counts(value: object) -> Counts:
    if value is None:
        return Counts()
    fields = _object(value, "request_counts")
    return Counts(*(_number(fields.get(name), f"request_counts.{name}") for name in ("total", "completed", "failed")))


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict) or not value:
        return None
    details = value.get("input_tokens_details")
    cached = value.get("cached_tokens")
    if cached is None and isinstance(details, dict):
        cached = details.get("cached_tokens")
    return Usage(
        _number(value.get("input_tokens"), "usage.input_tokens"),
        _number(value.get("output_tokens"), "usage.output_tokens"),
        _number(cached, "usage.cached_tokens"),
    )


def _errors(fields: Mapping[str, Any], status: str) -> tuple[BatchError, ...]:
    found = [one for name in ("errors", "error", "last_error") for one in _listed(fields.get(name))]
    if not found and status == "failed":
        names = ("failure_reason", "error_message", "status_message", "status_details", "message", "reason", "detail")
        code = _text(_first(fields, "error_code", "failure_code"))
        texts = (one for name in names for one in _listed(fields.get(name)))
        found = [{"code": code, "message": one} if isinstance(one, str) else one for one in texts][:1]
        found = found or ([{"code": code}] if code else [])
    return tuple(_error(entry) for entry in found[:MAX_ERRORS])


def _listed(value: object) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, (dict, str)) and value else []


def _error(entry: object) -> BatchError:
    if not isinstance(entry, dict):
        return BatchError("unknown_error", shown(str(entry), 500), None)
    nested = entry.get("error")
    if isinstance(nested, dict):
        entry = {**entry, **nested}
    line = entry.get("line")
    counted = isinstance(line, int) and not isinstance(line, bool) and line > 0
    code = next((text for name in ("code", "type", "id") if (text := _text(entry.get(name)))), "")
    names = ("message", "msg", "detail", "details", "error", "reason", "description")
    message = next((text for name in names if (text := _text(entry.get(name)))), "")
    return BatchError(code or "unknown_error", message or code, line if counted else None)


def _ended_at(fields: Mapping[str, Any], status: str) -> datetime | None:
    if status not in TERMINAL:
        return None
    names = (f"{status}_at", "ended_at", "completed_at", "failed_at", "cancelled_at", "expired_at")
    return next((time for name in names if (time := read_time(fields.get(name))) is not None), None)


def _entries(values: Iterable[object]) -> tuple[Entry, ...]:
    # An invalid entry fails the page: a skipped batch might be paid for again.
    return tuple(Entry(read_batch(value), _object(value, "batch")) for value in values)


def _cursor(cursor: object, last_edge: object, entries: tuple[Entry, ...]) -> str | None:
    for value in (cursor, last_edge):
        if isinstance(value, str) and value:
            return value
    return entries[-1].batch.batch_id if entries else None


def _page(entries: tuple[Entry, ...], more: object, cursor: str | None) -> Page:
    if more is None:
        return Page(entries, cursor, certain=False)
    if not isinstance(more, bool):
        raise Malformed("the service's list of batches has an invalid has_more")
    if more and cursor is None:
        raise Malformed("the service's list of batches has more pages, but no cursor")
    return Page(entries, cursor if more else None, certain=True)
