"""Files of a project by a glob, in one walk that ends whatever the pattern and the folders are."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

MARKS = "*?["
"""Characters that make a path a pattern."""
PARTS = 100
"""Parts that a pattern may have."""
ENTRIES = 1_000_000
"""Names in folders that one pattern may look at."""
LINKS = 1_000
"""Symbolic links to folders that one pattern may follow; a few that lead back make more paths than there are atoms."""


class TooWide(ValueError):
    """A pattern has too many parts or looks at too many files; the message says which."""


def find(root: Path, pattern: str, *, entries: int = ENTRIES) -> list[Path]:
    """Return the plain files that match, relative to `root` and sorted. Raises ValueError and OSError.

    `**` is any number of folders and follows no links; `*`, `?` and `[...]` stay within one name. Each folder is read
    once for all places of the pattern that may match in it, so the time is that of one walk.
    """
    parts = [part for part in Path(pattern).parts if part != "."]
    if len(parts) > PARTS:
        raise TooWide(f"the pattern has {len(parts)} parts; at most {PARTS} are allowed")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("** must be a whole part of a pattern, as in data/**/*.jsonl")
    walk = _Walk(root, parts, entries)
    walk.enter("", frozenset({0}))
    return sorted(map(Path, walk.found))


class _Walk:
    """The walk of one pattern; a place is the number of the part that is to match next."""

    def __init__(self, root: Path, parts: list[str], entries: int) -> None:
        self.found: set[str] = set()
        self._root = root
        self._parts = parts
        self._matchers = [re.compile(fnmatch.translate(part)).fullmatch for part in parts]
        self._entries = self._left = entries
        self._links = LINKS
        self._seen: dict[str, frozenset[int]] = {}

    def enter(self, folder: str, places: frozenset[int]) -> None:
        """Match what is in a folder."""
        waiting = [(folder, places)]
        while waiting:
            folder, places = waiting.pop()
            places = self._closed(places) - self._seen.get(folder, frozenset())
            if not places:
                continue
            self._seen[folder] = self._seen.get(folder, frozenset()) | places
            named = {at for at in places if not self._is_pattern(at)}
            for at in sorted(named):
                waiting += self._step(f"{folder}{self._parts[at]}", {at}, recursive=False)
            if places - named:
                waiting += self._scan(folder, places - named)

    def _scan(self, folder: str, places: frozenset[int]) -> list[tuple[str, frozenset[int]]]:
        more: list[tuple[str, frozenset[int]]] = []
        try:
            with os.scandir(self._root / folder) as listed:
                for entry in listed:
                    self._left -= 1
                    if self._left < 0:
                        raise TooWide(f"the pattern looks at more than {self._entries} files and folders")
                    matched = {at for at in places if self._parts[at] != "**" and self._matchers[at](entry.name)}
                    deeper = {at for at in places if self._parts[at] == "**"}
                    if matched:
                        more += self._step(folder + entry.name, matched, recursive=False)
                    if deeper and entry.is_dir(follow_symlinks=False):
                        more += self._step(folder + entry.name, deeper, recursive=True)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            return []
        return more

    def _step(self, path: str, places: set[int], *, recursive: bool) -> list[tuple[str, frozenset[int]]]:
        """Take a name that matches these places; return the folder to enter next, if it is one."""
        last = len(self._parts) - 1
        full = self._root / path
        if not recursive and last in places and full.is_file():
            self.found.add(path)
        onward = frozenset(places if recursive else {at + 1 for at in places if at < last})
        if not onward or not full.is_dir():
            return []
        self._links -= full.is_symlink()
        if self._links < 0:
            raise TooWide(f"the pattern follows more than {LINKS} links to folders")
        return [(f"{path}/", onward)]

    def _closed(self, places: frozenset[int]) -> frozenset[int]:
        """The places and those behind a `**`, which may match no folder at all."""
        found = set(places)
        for at in sorted(places):
            while at < len(self._parts) and self._parts[at] == "**":
                at += 1  # noqa: PLW2901  on to what follows
                found.add(at)
        return frozenset(at for at in found if at < len(self._parts))

    def _is_pattern(self, at: int) -> bool:
        return any(mark in self._parts[at] for mark in MARKS)
