"""Find project files by a glob, in one bounded walk."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

WILDCARDS = "*?["
"""Characters that make a path a pattern."""
MAX_PARTS = 100
"""Path parts in one pattern."""
MAX_ENTRIES = 1_000_000
"""Directory entries one pattern may visit."""
MAX_LINKS = 1_000
"""Symbolic links to folders one pattern may follow; links that lead back multiply the paths exponentially."""


class PatternTooBroad(ValueError):
    """The pattern has too many parts or visits too many files."""


def find(root: Path, pattern: str, *, entries: int = MAX_ENTRIES) -> list[Path]:
    """Return the plain files that match, relative to `root` and sorted. Raises ValueError and OSError.

    `**` matches any number of folders and follows no links; `*`, `?` and `[...]` match within one name.
    """
    parts = [part for part in Path(pattern).parts if part != "."]
    if len(parts) > MAX_PARTS:
        raise PatternTooBroad(f"the pattern has {len(parts)} parts; at most {MAX_PARTS} are allowed")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("** must be a whole part of a pattern, as in data/**/*.jsonl")
    walk = _Walk(root, parts, entries)
    walk.enter("", frozenset({0}))
    return sorted(map(Path, walk.found))


class _Walk:
    """A walk; a position is the index of the next part to match."""

    def __init__(self, root: Path, parts: list[str], entries: int) -> None:
        self.found: set[str] = set()
        self._root = root
        self._parts = parts
        self._matchers = [re.compile(fnmatch.translate(part)).fullmatch for part in parts]
        self._entries = self._entries_left = entries
        self._links_left = MAX_LINKS
        self._visited: dict[str, frozenset[int]] = {}

    def enter(self, folder: str, positions: frozenset[int]) -> None:
        pending = [(folder, positions)]
        while pending:
            folder, positions = pending.pop()
            positions = self._closure(positions) - self._visited.get(folder, frozenset())
            if not positions:
                continue
            self._visited[folder] = self._visited.get(folder, frozenset()) | positions
            literal = {at for at in positions if not self._is_pattern(at)}
            for at in sorted(literal):
                pending += self._step(f"{folder}{self._parts[at]}", {at}, recursive=False)
            if positions - literal:
                pending += self._scan(folder, positions - literal)

    def _scan(self, folder: str, positions: frozenset[int]) -> list[tuple[str, frozenset[int]]]:
        folders: list[tuple[str, frozenset[int]]] = []
        try:
            with os.scandir(self._root / folder) as listed:
                for entry in listed:
                    self._entries_left -= 1
                    if self._entries_left < 0:
                        raise PatternTooBroad(f"the pattern looks at more than {self._entries} files and folders")
                    matched = {at for at in positions if self._parts[at] != "**" and self._matchers[at](entry.name)}
                    deeper = {at for at in positions if self._parts[at] == "**"}
                    if matched:
                        folders += self._step(folder + entry.name, matched, recursive=False)
                    if deeper and entry.is_dir(follow_symlinks=False):
                        folders += self._step(folder + entry.name, deeper, recursive=True)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            return []
        return folders

    def _step(self, path: str, positions: set[int], *, recursive: bool) -> list[tuple[str, frozenset[int]]]:
        last = len(self._parts) - 1
        full = self._root / path
        if not recursive and last in positions and full.is_file():
            self.found.add(path)
        next_positions = frozenset(positions if recursive else {at + 1 for at in positions if at < last})
        if not next_positions or not full.is_dir():
            return []
        self._links_left -= full.is_symlink()
        if self._links_left < 0:
            raise PatternTooBroad(f"the pattern follows more than {MAX_LINKS} links to folders")
        return [(f"{path}/", next_positions)]

    def _closure(self, positions: frozenset[int]) -> frozenset[int]:
        """Add positions after a `**`, which may match no folder."""
        found = set(positions)
        for at in sorted(positions):
            while at < len(self._parts) and self._parts[at] == "**":
                at += 1  # noqa: PLW2901  skip the ** parts
                found.add(at)
        return frozenset(at for at in found if at < len(self._parts))

    def _is_pattern(self, at: int) -> bool:
        return any(mark in self._parts[at] for mark in WILDCARDS)
