"""The settings of a service, as values."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from runner.errors import ServiceError
from runner.http_server.bounds import Bounds
from runner.service.faults.faults import parse
from runner.service.http import rate_limit
from runner.service.http.rate_limit import Limit
from runner.service.webhooks.targets import Targets

BackendName = Literal["echo", "smollm", "openai"]
ResultShape = Literal["guide", "openai", "anthropic"]

MINUTE = 60.0
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """All settings of a service, in seconds and bytes. Defaults follow the vendor's guide.

    Each of `tokens` is an account; without them the service listens on loopback only. `key_env` names the variable of
    the upstream's key. `webhook_allow` adds to public addresses. `webhook_backoff` is the delay after the first
    attempt. With `tls_cert`, serve https only. `rate_limits` are for each account, `guess_limits` for each address's
    wrong tokens. `time_scale` shortens all lifetimes.

    Raises ServiceError if values contradict each other.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    tokens: tuple[str, ...] = field(default=(), repr=False)
    backend: BackendName = "echo"
    result_shape: ResultShape = "guide"
    tls_cert: Path | None = None
    tls_key: Path | None = None

    base_url: str = ""
    key_env: str = ""
    concurrency: int = 8
    upstream_timeout: float = 10 * MINUTE
    upstream_retry_time: float = 10 * MINUTE
    upstream_backoff: float = 0.5
    answer_delay: float = 0.0
    webhook_allow: tuple[str, ...] = ()
    webhook_timeout: float = 15.0
    webhook_backoff: float = 5.0

    url_ttl: float = 15 * MINUTE
    file_ttl: float = 30 * DAY
    result_ttl: float = 30 * DAY
    completion_window: float = DAY
    drain: float = 30.0

    max_upload_bytes: int = 200_000_000
    max_requests: int = 50_000
    max_line_bytes: int = 32_000_000
    max_json_bytes: int = 1_000_000
    max_running: int = 4

    bounds: Bounds = field(default_factory=Bounds)
    guess_limits: tuple[Limit, ...] = rate_limit.parse(rate_limit.GUESSES)
    rate_limits: tuple[Limit, ...] = ()
    faults: tuple[str, ...] = ()
    seed: int = 0
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        self._check_backend()
        self._check_network()
        if not 0 < self.time_scale < float("inf"):
            raise ServiceError(
                f"time can't run {self.time_scale} times as fast", hint="give a number above 0", code="BS704"
            )
        for fault in self.faults:
            parse(fault)
        Targets(self.webhook_allow)

    def _check_backend(self) -> None:
        if self.backend not in get_args(BackendName):
            raise ServiceError(
                f"no such backend: {self.backend}", hint=f"use {', '.join(get_args(BackendName))}", code="BS704"
            )
        if self.result_shape not in get_args(ResultShape):
            raise ServiceError(
                f"no such result shape: {self.result_shape}",
                hint=f"use {', '.join(get_args(ResultShape))}",
                code="BS704",
            )
        if self.backend == "openai" and not self.base_url.startswith(("http://", "https://")):
            raise ServiceError(
                "the backend openai needs the base URL of its upstream, http:// or https://", code="BS704"
            )
        if self.upstream_timeout <= 0:
            raise ServiceError("an answer needs some time: the upstream's timeout must be above 0", code="BS704")
        if self.concurrency < 1:
            raise ServiceError("concurrency must be at least 1", code="BS704")

    def _check_network(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ServiceError(
                f"there is no port {self.port}", hint="use 0 to 65535; 0 lets the system pick one", code="BS704"
            )
        if self.tls_key and not self.tls_cert:
            raise ServiceError("a TLS key needs its certificate", hint="give the certificate too", code="BS704")
        if any(not token for token in self.tokens):
            raise ServiceError("a token must not be empty", code="BS704")
        if not self.tokens and not is_loopback(self.host):
            raise ServiceError(
                f"refusing to listen on {self.host} without a token: anyone who reaches it could submit jobs",
                hint="give a token, or listen on 127.0.0.1",
                code="BS704",
            )

    def lasting_limits(self, chosen: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """Return the limits in real seconds."""
        return tuple(Limit(limit.calls, self.lasting(limit.seconds)) for limit in chosen)

    def lasting(self, seconds: float) -> float:
        """Convert the service's seconds to real ones."""
        return seconds / self.time_scale


def is_loopback(host: str) -> bool:
    """Return whether a host is loopback. Of names, only localhost counts."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
