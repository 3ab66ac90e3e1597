"""Limits on network clients."""

from __future__ import annotations

from dataclasses import dataclass, fields

from runner.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of connections and requests. Durations are in seconds, sizes in bytes.

    `header_bytes`, `headers`: request line, headers and trailers of one request.
    `header_time`: for the TLS handshake, and again for the headers of a request.
    `idle_time`: between two requests on one connection.
    `body_time`: longest delay of a request body, or of reading a response, behind `min_rate`.
    `min_rate`: bytes a second that a body, or the reading of a response, must reach on average.
    `connections`, `per_address`: open connections in all, and from one IPv4 address or IPv6 /64 network.

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
