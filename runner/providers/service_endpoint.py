"""The files by which processes find one embedded service."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import httpx

from runner.errors import ServiceError
from runner.jobspec.trust import is_loopback

ENDPOINT = "endpoint.json"
ACCOUNT = "token"
"""The file of the service's only token. A token is an account, so it stays with the data across restarts."""
LOCK = "lock"


def is_locked(data: Path) -> bool:
    """Return whether a process runs the service."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - seldom needed

    try:
        with FileLock(data / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def read_endpoint(path: Path) -> tuple[str, str, int] | None:
    """Return (url, token, pid); None if missing or invalid."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(fields, Mapping):
        return None
    url, token, pid = fields.get("url"), fields.get("token"), fields.get("pid")
    if not (isinstance(url, str) and isinstance(token, str) and isinstance(pid, int) and token and pid > 0):
        return None
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL:
        return None
    return (url, token, pid) if is_loopback(host) else None


def process_exists(pid: int) -> bool:
    """Return whether a process with this id runs."""
    if os.name == "nt":
        return True  # on Windows, os.kill would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def load_token(path: Path) -> str:
    """Return the token. Create a missing one; of two, one wins."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_private(path, secrets.token_hex(32), replace=False)
    token = path.read_text(encoding="ascii", errors="replace").strip()
    if not (token.isalnum() and token.isascii()):
        raise ServiceError(
            f"{path} does not hold a token", hint="remove it; the service then loses the jobs in that folder"
        )
    return token


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a private file atomically.

    Without `replace`, raises FileExistsError.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if replace:
            part.replace(path)
        else:
            _publish(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _publish(part: Path, path: Path) -> None:
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system: the last writer wins
        part.replace(path)
