"""Differences for review: none hides in long lines, spaces or invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher, unified_diff

from runner.base.visible import visible_line

WIDTH = 300
"""Longest line that is shown whole, in characters."""
_COMPARED = 20_000
"""Characters of two texts that are compared, from the first difference."""
_AROUND = 40
"""Characters shown before and after a change in a long line."""
_WORDS = 4_000
"""Words of two lines that are compared. Beyond that, all between their common start and end counts as changed."""
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_SPACES = str.maketrans({" ": "\u00b7", "\u3000": "\\u3000"})
"""How spaces are shown if nothing else differs."""


def differing_lines(before: str, after: str, *, width: int = WIDTH) -> list[str]:
    """Return a unified diff's lines, in windows."""
    start = _common_start(before, after)
    old, new = before[start:], after[start:]
    left = max(len(old), len(new)) - _COMPARED
    lines = list(unified_diff(_lines(old[:_COMPARED]), _lines(new[:_COMPARED]), lineterm="", n=2))[2:]
    skipped = before.count("\n", 0, start)
    found = [f"\u2026 {skipped:,} equal lines before"] if skipped else []
    found += _windows(lines, width)
    return found + ([f"\u2026 {left:,} more characters are not compared"] if left > 0 else [])


def shortened(text: str, width: int = WIDTH) -> str:
    """Return a text's start on one line, and the omitted length."""
    shown = visible_line(text[: width + 1])
    if len(text) <= width and len(shown) <= width:
        return shown
    kept = _fitting(text, width)
    return f"{visible_line(text[:kept])}\u2026 ({len(text) - kept:,} more characters)"


def windows(old: str, new: str, width: int = WIDTH) -> tuple[str, str]:
    """Return two texts, each on one line, cut to the differences."""
    if len(old) <= width and len(new) <= width:
        pair = visible_line(old), visible_line(new)
        if pair[0] == pair[1]:  # a character, and the letters of its escape
            return ascii(old)[1:-1], ascii(new)[1:-1]
    else:
        spans = list(_changes(old, new))
        pair = _window(old, [span[:2] for span in spans], width), _window(new, [span[2:] for span in spans], width)
    return _distinguish(*pair)


def _lines(text: str) -> list[str]:
    """Split at newlines only: `splitlines` would hide other separators."""
    return text.split("\n")


def _common_start(before: str, after: str) -> int:
    """Return the start of the line two lines before the first difference."""
    same = _prefix(before, after)
    place = same
    for _ in range(3):
        place = before.rfind("\n", 0, max(place, 0))
        if place < 0:
            return 0
    # A long first line would use all the room.
    return place + 1 if same - place < _COMPARED // 2 else max(0, before.rfind("\n", 0, same) + 1)


def _prefix(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _windows(lines: Sequence[str], width: int) -> Iterator[str]:
    at = 0
    while at < len(lines):
        removed = _run(lines, at, "-")
        added = _run(lines, at + len(removed), "+")
        if not removed and not added:
            yield lines[at] if lines[at].startswith("@@") else f" {shortened(lines[at][1:], width)}"
            at += 1
            continue
        pairs = [windows(old[1:], new[1:], width) for old, new in zip(removed, added, strict=False)]
        yield from (f"-{old}" for old, _ in pairs)
        yield from (f"-{shortened(line[1:], width)}" for line in removed[len(pairs) :])
        yield from (f"+{new}" for _, new in pairs)
        yield from (f"+{shortened(line[1:], width)}" for line in added[len(pairs) :])
        at += len(removed) + len(added)


def _run(lines: Sequence[str], start: int, mark: str) -> Sequence[str]:
    end = start
    while end < len(lines) and lines[end].startswith(mark):
        end += 1
    return lines[start:end]


def _changes(old: str, new: str) -> Iterator[tuple[int, int, int, int]]:
    head = _prefix(old, new)
    tail = _prefix(old[head:][::-1], new[head:][::-1])
    middles = old[head : len(old) - tail], new[head : len(new) - tail]
    words = [_WORD.findall(middle) for middle in middles]
    if sum(map(len, words)) > _WORDS:
        yield head, len(old) - tail, head, len(new) - tail
        return
    offsets = [_offsets(head, one) for one in words]
    # Without `autojunk`, 840 words took 23 s of CPU.
    for what, i1, i2, j1, j2 in SequenceMatcher(None, words[0], words[1], autojunk=True).get_opcodes():
        if what != "equal":
            yield offsets[0][i1], offsets[0][i2], offsets[1][j1], offsets[1][j2]


def _offsets(start: int, words: Sequence[str]) -> list[int]:
    found = [start]
    for word in words:
        found.append(found[-1] + len(word))
    return found


def _window(text: str, spans: Sequence[tuple[int, ...]], width: int) -> str:
    parts: list[str] = []
    done, room, omitted = 0, width, 0
    for number, (start, end) in enumerate(spans):
        first, last = max(done, start - _AROUND), min(len(text), end + _AROUND)
        if number and room < _AROUND:
            omitted = len(spans) - number
            break
        kept = first + _fitting(text[first:last], max(room, _AROUND * 3))
        parts += [f"\u2026({first - done:,} characters)\u2026"] if first > done else []
        parts.append(visible_line(text[first:kept]))
        room -= len(parts[-1])
        done = kept
    more = f", {omitted:,} more changes" if omitted else ""
    if done < len(text) or omitted:
        parts.append(f"\u2026({len(text) - done:,} characters{more})\u2026")
    return "".join(parts)


def _fitting(text: str, room: int) -> int:
    for at, character in enumerate(text):
        room -= len(visible_line(character))
        if room < 0:
            return at
    return len(text)


def _distinguish(old: str, new: str) -> tuple[str, str]:
    """Mark spaces; show look-alike letters as numbers."""
    if "".join(old.split()) == "".join(new.split()):
        return old.translate(_SPACES), new.translate(_SPACES)
    if unicodedata.normalize("NFKC", old) == unicodedata.normalize("NFKC", new):
        return ascii(old)[1:-1], ascii(new)[1:-1]
    return old, new
