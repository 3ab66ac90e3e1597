"""Request keys, as text and as bytes.

The `custom_id` is `k1-` and 40 hex digits; an ordinal (`k1-…-1`) marks later requests of one body. As bytes: 20 of
digest, 4 of big-endian ordinal.
"""

from __future__ import annotations

import hashlib
import re

from runner.base.digest import digest_parts

VERSION = "k1"
"""Names the whole rendering contract: serialiser, defaults, number formats. Golden vectors guard it."""

DIGEST_BYTES = 20
KEY_BYTES = 24

_PREFIX = f"{VERSION}-"
_PLAIN = len(_PREFIX) + 2 * DIGEST_BYTES
_TEXT = re.compile(r"k1-([0-9a-f]{40})(?:-([1-9][0-9]{0,9}))?")


def key_state(line_format: str, endpoint: str, salt: str) -> hashlib._Hash:
    """Return a job's hash state."""
    return digest_parts(VERSION.encode(), line_format.encode(), endpoint.encode(), salt.encode())


def body_digest(state: hashlib._Hash, body: bytes) -> bytes:
    """Return a body's 20 digest bytes."""
    copy = state.copy()
    copy.update(body)
    return copy.digest()[:DIGEST_BYTES]


def key_text(digest: bytes, ordinal: int = 0) -> str:
    """Return a key as text, without ordinal 0."""
    return f"{VERSION}-{digest.hex()}-{ordinal}" if ordinal else f"{VERSION}-{digest.hex()}"


def parse_key(text: object) -> bytes | None:
    """Return a key's 24 bytes; None for other text."""
    if type(text) is str and len(text) == _PLAIN and text.startswith(_PREFIX):
        # Most keys have no ordinal; results come by the million.
        digits = text[len(_PREFIX) :]
        try:
            digest = bytes.fromhex(digits)
        except ValueError:
            return None
        return digest + b"\0\0\0\0" if digest.hex() == digits else None
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    ordinal = int(match[2] or 0)
    return bytes.fromhex(match[1]) + ordinal.to_bytes(4, "big") if ordinal < 1 << 32 else None
