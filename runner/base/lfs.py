"""Git LFS pointers."""

from __future__ import annotations

MARK = b"version https://git-lfs.github.com/spec/v1\n"
"""The first line of each pointer (Git LFS, docs/spec.md)."""
HINT = "run `git lfs pull` to download the file's content"


def is_pointer(head: bytes) -> bool:
    """Return whether this start is a pointer's."""
    return head.replace(b"\r\n", b"\n", 1).startswith(MARK)


def message(path: str) -> str:
    """Return the error for a pointer."""
    return f"{path} is a Git LFS pointer, not the file itself; {HINT}"
