"""Limits `--out` to new files and files that the same command wrote."""

from __future__ import annotations

from pathlib import Path

from runner.errors import BatchspecError

_START = 1_000
"""Bytes at a file's start that identify it."""
_BEGINNINGS = {
    "a saved plan": (b'{\n "batchspec_plan":',),
    "a report": (b'{\n  "version": 1,\n  "jobs": [', b"job,realm,started,ended,", b"<!doctype html>"),
}
_REPORT_PAGE = b"<title>Batchspec report: "


def check_overwrite(path: Path, kind: str) -> None:
    """Refuse to replace a file that is not of `kind`. Raises BatchspecError, OSError.

    An empty file may be replaced: `mktemp` makes one.
    """
    if not path.exists() or (path.is_file() and _is_ours(path, kind)):
        return
    raise BatchspecError(
        f"{path} exists and is not {kind}",
        hint="nothing was written. Choose another file with `--out`, or remove this one first",
        code="BS811",
    )


def _is_ours(path: Path, kind: str) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    if not start:
        return True
    return start.startswith(_BEGINNINGS[kind]) and (not start.startswith(b"<") or _REPORT_PAGE in start)
