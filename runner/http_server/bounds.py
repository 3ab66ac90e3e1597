"""Limits on network clients."""

from __future__ import annotations

from dataclasses import dataclass, fields

from runner.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of connections and requests, in seconds and bytes.

    `headers` and `header_bytes` are for one request with its request line and trailers. `header_time` is for the TLS
    handshake, and again for headers. `idle_time` separates two requests. `body_time` is the longest delay of a body or
    response behind `min_rate` (bytes a second). `per_address` counts an IPv6 /64 network once.

    Raises ServiceError for a value that is not above 0.
    """

    header_bytes: int = 32_768
    headers: int = 100
    header_time: float = 10.0
    idle_time: float = 15.0
    body_time: float = 30.0
    min_rate: int = 10_000
    connections: int = 256
    per_address: int = 128

    def __post_init__(self) -> None:
        for one in fields(self):
            if not 0 < getattr(self, one.name) < float("inf"):
                raise ServiceError(f"the bound {one.name.replace('_', ' ')} must be above 0", code="BS704")
