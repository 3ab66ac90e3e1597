"""Names that any machine derives alike: a batch's idempotency key and metadata, and whose a listed batch is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from runner.base.digest import digest_parts

METADATA_VALUE = 512
"""The longest metadata value, in characters (OpenAI's limit; DigitalOcean documents none)."""


def request_id(project: str, address: str, shard: str, attempt: int) -> str:
    """The idempotency key of a create: a UUIDv8 whose first 48 bits say whose it is, the rest shard and attempt."""
    head = _owner(project, address)
    tail = digest_parts(b"create", shard.encode(), str(attempt).encode()).digest()[:10]
    value = bytearray(head + tail)
    value[6] = (value[6] & 0x0F) | 0x80
    value[8] = (value[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(value)))


def metadata(project: str, address: str, shard: str, attempt: int, number: int) -> dict[str, str]:
    """Return what goes along with a create, so that its batch can be taken up again from the service's list alone."""
    return {
        "project": project,
        "job": address[:METADATA_VALUE],
        "shard": shard,
        "attempt": str(attempt),
        "round": str(number),
    }


def is_ours(project: str, address: str, listed_id: str, listed: Mapping[str, str]) -> bool:
    """Whether a listed batch is one of this address: by its metadata where it has ours, else by its request_id."""
    if "project" in listed and "job" in listed:
        return listed["project"] == project and listed["job"] == address[:METADATA_VALUE]
    try:
        value = uuid.UUID(listed_id)
    except ValueError:
        return False
    return value.version == 8 and value.bytes[:6] == _owner(project, address)


def matches_create(listed: Mapping[str, str], listed_id: str, request: str, said: Mapping[str, str]) -> bool | None:
    """Whether a listed batch came from the create with the key `request`, that was sent with the metadata `said`.

    None where the service tells neither its key nor our metadata, so that only its file can say. A shard alone says
    nothing: two jobs, and two projects, may ask for the same requests.
    """
    if listed_id:
        return listed_id == request
    if "shard" in listed:
        return all(listed.get(name) == said[name] for name in ("project", "job", "shard", "attempt"))
    return None


def _owner(project: str, address: str) -> bytes:
    return digest_parts(b"owner", project.encode(), address.encode()).digest()[:6]
