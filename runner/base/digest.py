"""SHA-256 in the few forms this project uses, and the one canonical JSON text. No files are written here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

CHUNK = 1 << 20


def sha256_hex(data: bytes) -> str:
    """64 hex digits of SHA-256 over `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """64 hex digits of SHA-256 over the bytes of a file, read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: UTF-8, keys sorted, no spaces. For digests of our own records only.

    Request bodies are not sorted: their order is part of what is sent.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_json(value: Any) -> str:
    """64 hex digits over the canonical JSON text of `value`."""
    return sha256_hex(canonical_json(value))


def digest_parts(*parts: bytes) -> hashlib._Hash:
    """Return a SHA-256 object over `parts`, each after its length, so that no two lists give the same bytes."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state
