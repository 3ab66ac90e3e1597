"""Content and signature of webhooks (https://www.standardwebhooks.com)."""

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
    """Return a secret's signer: base64 after `whsec_`, as the standard defines, otherwise plain bytes.

    Raises ValueError for invalid base64.
    """
    if not secret.startswith(PREFIX):
        return Webhook(secret.encode())
    text = secret.removeprefix(PREFIX)
    try:
        # The library skips invalid characters and would sign with the rest.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"after {PREFIX} a secret has to be base64")
    return Webhook(secret)


def message(batch: Batch) -> bytes:
    """Return an ended job's message, the same for every attempt."""
    event = {"type": f"batch.{batch.status}", "timestamp": timestamp(batch.ended_at), "data": batch_view(batch)}
    return orjson.dumps(event)


def headers(batch: Batch, secret: str, content: bytes, now: float) -> dict[str, str]:
    """Return an attempt's headers. Attempts share an id, for receivers to detect duplicates."""
    message_id = f"msg_{batch.id}"
    at = datetime.fromtimestamp(int(now), UTC)
    return {
        "content-type": "application/json",
        "user-agent": "batchspec",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signer(secret).sign(message_id, at, content.decode()),
    }


def redacted_url(url: str) -> str:
    """Return a URL without path, query and user, which are often secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{parts.port}' if parts.port else ''}"
