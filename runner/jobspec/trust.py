"""What a repository may do.

Only the environment can allow more: a plan may run an untrusted pull request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from runner.errors import TrustError
from runner.jobspec.settings import DigitalOceanProfile, LocalProfile

KEY_NAMES = ("MODEL_ACCESS_KEY", "DIGITALOCEAN_TOKEN", "GRADIENT_API_KEY")
"""Variables searched for a key, in this order, if a provider names none."""
OWN_HOSTS = frozenset({"inference.do-ai.run", "api.digitalocean.com"})
"""DigitalOcean's own hosts: besides loopback, the only ones that get its key by default."""
_ALLOW_ENV = "BATCHSPEC_ALLOW_ENV"
_TRUST_HOSTS = "BATCHSPEC_TRUST_HOSTS"
_WEBHOOK = "BATCHSPEC_WEBHOOK_"
_NOTIFY = "BATCHSPEC_NOTIFY_"
_NEVER = frozenset({_ALLOW_ENV, _TRUST_HOSTS, "BATCHSPEC_PLAN_KEY"})
"""Variables that a spec may never use, because they decide about trust."""


def resolve_env(name: str, environ: Mapping[str, str]) -> str:
    """Return a profile's key. Raises TrustError if its variable is forbidden or not set."""
    own = name.startswith("BATCHSPEC_") and not name.startswith((_WEBHOOK, _NOTIFY))
    return _resolved(name, environ, usual=name in KEY_NAMES or own, prefix="BATCHSPEC_")


def resolve_webhook_secret(name: str, environ: Mapping[str, str]) -> str:
    """Return a webhook's secret. Raises TrustError like `resolve_env`."""
    return _resolved(name, environ, usual=name.startswith(_WEBHOOK), prefix=_WEBHOOK)


def resolve_notify_url(name: str, environ: Mapping[str, str]) -> str:
    """Return the URL for notifications. Raises TrustError, which never contains the URL.

    `BATCHSPEC_ALLOW_ENV` allows no other variable: its value would be sent a request.
    """
    if not name.startswith(_NOTIFY):
        raise TrustError(f"the environment variable {name} may not be used by `notify`", code="BS302")
    url = environ.get(name, "")
    if not url:
        raise TrustError(f"the environment variable {name} is not set", code="BS303")
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, (parts.hostname or "").lower()
    except ValueError:
        scheme, host = "", ""
    if not host or not (scheme == "https" or (scheme == "http" and is_loopback(host))):
        raise TrustError(f"the value of {name} is not an https URL", code="BS304")
    return url


def _resolved(name: str, environ: Mapping[str, str], *, usual: bool, prefix: str) -> str:
    allowed = {part.strip() for part in environ.get(_ALLOW_ENV, "").split(",")}
    if not (usual or name in allowed) or name in _NEVER:
        raise TrustError(
            f"the environment variable {name} may not be used by a spec",
            hint=f"use a name that begins with {prefix}, or allow it with {_ALLOW_ENV}={name}",
            code="BS302",
        )
    value = environ.get(name, "")
    if not value:
        raise TrustError(
            f"the environment variable {name} is not set", hint=f"set {name} and run this again", code="BS303"
        )
    return value


def find_key(profile: DigitalOceanProfile | LocalProfile, environ: Mapping[str, str]) -> str | None:
    """Return a provider's access key, if any. Raises TrustError for a forbidden variable."""
    if isinstance(profile, LocalProfile):
        return None
    if profile.key is not None:
        # A forbidden name is an error; a variable that is not set means no key.
        return resolve_env(profile.key.env, {profile.key.env: "x", **environ}) if environ.get(profile.key.env) else None
    return next((environ[name] for name in KEY_NAMES if environ.get(name)), None)


def check_key_host(base_url: str, environ: Mapping[str, str], what: str = "the key is") -> None:
    """Raise TrustError unless a key, or what `what` names, may be sent to this URL's host."""
    parts = _parts(base_url)
    host = _host(parts)
    if is_loopback(host):
        return
    if parts.scheme != "https":
        raise TrustError(
            f"{_origin(parts)} is not https, and not on this machine", hint="use an https address", code="BS304"
        )
    trusted = {part.strip().lower().rstrip(".") for part in environ.get(_TRUST_HOSTS, "").split(",") if part.strip()}
    with_port = f"{host}:{parts.port or 443}"
    if (host in OWN_HOSTS and parts.port in (None, 443)) or host in trusted or with_port in trusted:
        return
    raise TrustError(
        f"{what} not sent to {_origin(parts)}: it is not one of the provider's own hosts",
        hint=f"if you trust it, set {_TRUST_HOSTS}={host if parts.port in (None, 443) else with_port}",
        code="BS304",
    )


def check_webhook(url: str) -> None:
    """Raise TrustError unless a webhook is https or on this machine, without a password."""
    parts = _parts(url)
    if parts.scheme != "https" and not is_loopback(_host(parts)):
        raise TrustError(f"the webhook {_origin(parts)} is not https", hint="use an https address", code="BS304")


def is_loopback(host: str) -> bool:
    """Return whether a URL's host can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TrustError(f"{url!r} is not a URL", code="BS305") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or "\\" in url or "@" in parts.netloc:
        raise TrustError(
            "a base_url or webhook is http(s)://HOST[:PORT][/PATH], without a user or password in it", code="BS305"
        )
    return parts


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").lower().rstrip(".")


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{_host(parts)}" + (f":{parts.port}" if parts.port else "")
