"""Response bodies for files, jobs and results.

Each has the fields of the guide (`file_id`, `output_url`), of the API description (`input_file_id`, `output_file_url`)
and of older clients (`download`, `edges`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from runner.service.db.batches import Batch

Json = dict[str, Any]


@lru_cache(4096)
def _written(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def timestamp(seconds: float | None) -> str | None:
    """Return Unix seconds as UTC text with a Z."""
    if seconds is None:
        return None
    return _written(int(seconds))


def file_view(file_id: str, upload_url: str, expires_at: float) -> Json:
    """Return a new file intent."""
    return {"file_id": file_id, "upload_url": upload_url, "expires_at": timestamp(expires_at)}


def batch_view(batch: Batch) -> Json:
    """Return a job, without a null endpoint, which the API description forbids."""
    return {
        "id": batch.id,
        "batch_id": batch.id,
        "object": "batch",
        "status": _shown_status(batch),
        "provider": batch.provider,
        **({"endpoint": batch.endpoint} if batch.endpoint else {}),
        "model": batch.model,
        "completion_window": "24h",
        "file_id": batch.file_id,
        "input_file_id": batch.file_id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.input_tokens,
            "output_tokens": batch.output_tokens,
            "cached_tokens": batch.cached_tokens,
        },
        "result_available": has_results(batch),
        "request_id": batch.request_id,
        "metadata": orjson.loads(batch.metadata) if batch.metadata else None,
        "errors": orjson.loads(batch.errors) if batch.errors else None,
        "created_at": timestamp(batch.created_at),
        "expires_at": timestamp(batch.expires_at),
        "queued_at": timestamp(batch.queued_at),
        "in_progress_at": timestamp(batch.in_progress_at),
        "finalizing_at": timestamp(batch.finalizing_at),
        "cancelling_at": timestamp(batch.cancelling_at),
        "completed_at": timestamp(batch.completed_at),
        "failed_at": timestamp(batch.failed_at),
        "cancelled_at": timestamp(batch.cancelled_at),
        "expired_at": timestamp(batch.expired_at),
    }


def _shown_status(batch: Batch) -> str:
    return batch.status if batch.ended else batch.active_faults.get("unknown-status", batch.status)


def has_results(batch: Batch) -> bool:
    """Return whether results can be fetched. Only failed jobs have none."""
    if not batch.ended or batch.results_deleted:
        return False
    return batch.status != "failed" or bool(batch.output_file_id or batch.error_file_id)


def list_view(batches: list[Batch], *, has_more: bool) -> Json:
    """Return a page of jobs."""
    data = [batch_view(batch) for batch in batches]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {
        "object": "list",
        "data": data,
        "first_id": first,
        "last_id": last,
        "has_more": has_more,
        "edges": [{"cursor": node["id"], "node": node} for node in data],
        "page_info": {"startCursor": first, "endCursor": last, "hasNextPage": has_more},
    }


def results_view(batch: Batch, output_url: str | None, error_url: str | None, expires_at: float) -> Json:
    """Return an ended job's download URLs."""
    until = timestamp(expires_at)
    return {
        "id": batch.id,
        "batch_id": batch.id,
        "status": batch.status,
        "result_available": has_results(batch),
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "output_url": output_url,
        "error_url": error_url,
        "output_file_url": output_url,
        "error_file_url": error_url,
        "download": {"presigned_url": output_url, "expires_at": until} if output_url else None,
        "error_download": {"presigned_url": error_url, "expires_at": until} if error_url else None,
        "expires_at": until,
    }
