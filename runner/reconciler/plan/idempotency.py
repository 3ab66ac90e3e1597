"""Idempotency keys and metadata that every machine derives alike."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from runner.base.digest import digest_parts

METADATA_VALUE = 512
"""Longest metadata value in characters (OpenAI's limit; DigitalOcean documents none)."""


def request_id(project: str, address: str, shard: str, attempt: int) -> str:
    """Return an idempotency key: a UUIDv8 with 48 bits for the address."""
    head = _owner(project, address)
    tail = digest_parts(b"create", shard.encode(), str(attempt).encode()).digest()[:10]
    value = bytearray(head + tail)
    value[6] = (value[6] & 0x0F) | 0x80
    value[8] = (value[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(value)))


def metadata(project: str, address: str, shard: str, attempt: int, number: int) -> dict[str, str]:
    """Return metadata by which a batch can be adopted from the list alone."""
    return {
        "project": project,
        "job": address[:METADATA_VALUE],
        "shard": shard,
        "attempt": str(attempt),
        "round": str(number),
    }


def is_ours(project: str, address: str, listed_id: str, listed: Mapping[str, str]) -> bool:
    """Return whether a listed batch is of this address."""
    if "project" in listed and "job" in listed:
        return listed["project"] == project and listed["job"] == address[:METADATA_VALUE]
    try:
        value = uuid.UUID(listed_id)
    except ValueError:
        return False
    return value.version == 8 and value.bytes[:6] == _owner(project, address)


def matches_create(listed: Mapping[str, str], listed_id: str, request: str, sent: Mapping[str, str]) -> bool | None:
    """Return whether a batch came from the create with key `request` and metadata `sent`.

    None if only its file can show it. A shard alone proves nothing: two jobs may have the same requests.
    """
    if listed_id:
        return listed_id == request
    if "shard" in listed:
        return all(listed.get(name) == sent[name] for name in ("project", "job", "shard", "attempt"))
    return None


def _owner(project: str, address: str) -> bytes:
    return digest_parts(b"owner", project.encode(), address.encode()).digest()[:6]
