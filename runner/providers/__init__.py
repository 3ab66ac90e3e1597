"""Batch services: the protocol, and `open_api`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from runner.jobspec.settings import DigitalOceanProfile, LocalProfile
    from runner.providers.protocol import BatchApi


def open_api(
    profile: DigitalOceanProfile | LocalProfile,
    *,
    key: str | None,
    service_folder: Path,
    environ: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
) -> BatchApi:
    """Return a profile's service. The first call starts it.

    `sleep` waits seconds; it may raise to stop. Raises TrustError if the host may not receive the key, Unauthorized if
    a remote host has no key.
    """
    # Each branch imports only what its provider needs.
    match profile.kind:
        case "digitalocean":
            from runner.providers.digitalocean import DigitalOcean  # noqa: PLC0415

            _check_key(profile, key, environ)
            return DigitalOcean(profile.base_url, key or "", sleep=sleep, key_hint=_key_hint(profile, key, environ))
        case "local":
            from runner.providers.local import embedded  # noqa: PLC0415

            if profile.base_url is not None:
                _check_upstream(profile.base_url, profile.key.env if profile.key else None, environ)
            return embedded(service_folder, profile, environ=environ, sleep=sleep)
        case _:
            assert_never(profile.kind)


def _check_upstream(base_url: str, name: str | None, environ: Mapping[str, str]) -> None:
    from runner.jobspec.trust import check_key_host, resolve_env  # noqa: PLC0415

    if name is None:
        check_key_host(base_url, environ, "requests are")
        return
    resolve_env(name, environ)
    check_key_host(base_url, environ)


def _key_hint(profile: DigitalOceanProfile, key: str | None, environ: Mapping[str, str]) -> str:
    from runner.jobspec.trust import KEY_NAMES  # noqa: PLC0415

    named = (profile.key.env,) if profile.key is not None else KEY_NAMES
    alternative = "; or try it on this machine, without a key: `--provider local`"
    if not key:
        return f"set {' or '.join(named)}{alternative}"
    used = next((name for name in named if environ.get(name)), named[0])
    return f"the key in {used} is wrong, or of another account: put the right one there{alternative}"


def _check_key(profile: DigitalOceanProfile, key: str | None, environ: Mapping[str, str]) -> None:
    """Refuse an untrusted host before any object holds its key."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    from runner.errors import Unauthorized  # noqa: PLC0415
    from runner.jobspec.trust import check_key_host, is_loopback  # noqa: PLC0415

    base_url = profile.base_url
    check_key_host(base_url, environ)
    if not key and not is_loopback(urlsplit(base_url).hostname or ""):
        raise Unauthorized(f"there is no key for {base_url}", status=401, hint=_key_hint(profile, key, environ))
