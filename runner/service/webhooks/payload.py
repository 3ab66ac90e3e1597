"""What a webhook says and how it is signed, after https://www.standardwebhooks.com. Nothing is sent here."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson
from standardwebhooks import Webhook

from runner.service.db.batches import Batch
from runner.service.http.responses import batch_view, timestamp

PREFIX = "whsec_"


def signer(secret: str) -> Webhook:
    """Signs with a job's secret: after `whsec_` it is base64, as the scheme has it; any other is its own bytes.

    Raises ValueError for a secret that says it is base64 and is not.
    """
    if not secret.startswith(PREFIX):
        return Webhook(secret.encode())
    text = secret.removeprefix(PREFIX)
    try:
        # The library skips what is not base64, and would sign with what is left.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"after {PREFIX} a secret has to be base64")
    return Webhook(secret)


def message(batch: Batch) -> bytes:
    """What is told about a job that has ended. The same bytes at every attempt."""
    event = {"type": f"batch.{batch.status}", "timestamp": timestamp(batch.ended_at), "data": batch_view(batch)}
    return orjson.dumps(event)


def headers(batch: Batch, secret: str, content: bytes, now: float) -> dict[str, str]:
    """The headers of one attempt, made at `now`. The id is the job's own: a receiver knows a repetition by it."""
    message_id = f"msg_{batch.id}"
    at = datetime.fromtimestamp(int(now), UTC)
    return {
        "content-type": "application/json",
        "user-agent": "batchspec",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signer(secret).sign(message_id, at, content.decode()),
    }


def shown(url: str) -> str:
    """As much of a webhook's URL as may be shown: path, query and user are often secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{parts.port}' if parts.port else ''}"
