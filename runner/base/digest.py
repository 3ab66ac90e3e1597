"""SHA-256, and canonical JSON."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

CHUNK = 1 << 20


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON in UTF-8 with sorted keys and no spaces.

    Not for request bodies, which keep their order.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_json(value: Any) -> str:
    """Return the SHA-256 of canonical JSON."""
    return sha256_hex(canonical_json(value))


def digest_parts(*parts: bytes) -> hashlib._Hash:
    """Hash parts with their lengths: no two lists collide."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state
