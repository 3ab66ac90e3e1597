"""Checks signatures of webhooks (https://www.standardwebhooks.com). Shares no code with the service that signs."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from standardwebhooks import Webhook

PREFIX = "whsec_"
TOLERANCE = 300
"""Seconds that a webhook's time may differ from ours, as the standard recommends."""
_SECONDS = re.compile(r"[0-9]{1,11}")
_ID = re.compile(r"[!-~]{1,256}")
_MOST = 10
"""Signatures of one call that are checked. Senders send several while they change their secret."""

Verdict = Literal["valid", "forged", "old"]


def verifier(secret: str) -> Webhook:
    """Return a secret's verifier: base64 after `whsec_`, otherwise plain text. Raises ValueError."""
    if not secret.startswith(PREFIX):
        return Webhook(secret.encode())
    text = secret.removeprefix(PREFIX)
    try:
        # The library skips invalid characters and would check with the rest.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"after {PREFIX} a secret must be base64")
    return Webhook(key)


def verify(verifiers: Iterable[Webhook], headers: Mapping[str, str], body: bytes, now: datetime) -> Verdict:
    """Return whether a call is signed with one of the secrets, and recently.

    An unsigned call is `forged`. The time is checked after the signature, so that only the owner of a secret learns our
    clock. `headers` have lower-case names.
    """
    webhook_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split(" ")[:_MOST]
    if not _ID.fullmatch(webhook_id) or not _SECONDS.fullmatch(sent):
        return "forged"
    try:
        at, text = datetime.fromtimestamp(int(sent), UTC), body.decode()
    except (ValueError, OverflowError, OSError):
        return "forged"
    expected = [one.sign(webhook_id, at, text).encode() for one in verifiers]
    # Compare all, so that the time does not show which secret fits.
    matches = [hmac.compare_digest(want, one.encode("utf-8", "replace")) for want in expected for one in given]
    if not any(matches):
        return "forged"
    return "valid" if abs((now - at).total_seconds()) <= TOLERANCE else "old"
