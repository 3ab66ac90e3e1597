"""Realms: each batch, file and answer belongs to one, and answers never cross realms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.base.digest import sha256_hex
from runner.jobspec.settings import DigitalOceanProfile, LocalProfile

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec


def realm_of(spec: JobSpec) -> str:
    """Return a job's realm."""
    return realm_name(spec.profile)


def realm_name(profile: DigitalOceanProfile | LocalProfile) -> str:
    """Return a profile's realm: provider kind, base URL and account, or the local backend."""
    if isinstance(profile, LocalProfile):
        if profile.backend == "openai":
            return f"local:openai:{_place(profile.base_url or '')}"
        return f"local:{profile.backend}"
    account = f"/{profile.account}" if profile.account else ""
    return f"digitalocean:{_place(profile.base_url)}{account}"


def realm_folder(realm: str) -> str:
    """Return a readable folder name, unique for each realm."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", realm).strip("-.")[:60]
    return slug if slug == realm else f"{slug}-{sha256_hex(realm.encode())[:8]}"


def _place(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port and (parts.scheme, parts.port) != ("https", 443) else ""
    scheme = "" if parts.scheme == "https" else f"{parts.scheme}://"
    return f"{scheme}{host}{port}{path}"
