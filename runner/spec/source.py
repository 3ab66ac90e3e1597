"""A file that somebody wrote: its text, and its lines for messages. Reading only; what the text means is not known here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from runner.errors import Problem

MAX_BYTES = 1_000_000
"""The largest spec file. Rows belong into input files."""
EXCERPT = 240
"""Characters of a line that a message shows."""

# The line ends of YAML 1.1, which is what the parser counts by.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# What YAML does not allow unescaped: control characters but tab and line ends, surrogates, U+FFFE and U+FFFF.
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Place(NamedTuple):
    """Line and column, counted from 1 in characters; (0, 0) means the whole file."""

    line: int
    column: int


WHOLE_FILE = Place(0, 0)


@dataclass(slots=True)
class Source:
    """The text of a file. ``file`` is relative to the project's root.

    ``hidden`` holds the lines that no message shows, because a secret may stand there.
    """

    file: str
    text: str
    lines: list[str] = field(repr=False)
    hidden: set[int] = field(default_factory=set)

    def problem(self, place: Place, message: str, hint: str = "") -> Problem:
        """A problem at a place of this file, with its line as excerpt."""
        line = min(place.line, len(self.lines))
        column = place.column if line == place.line else len(self.lines[line - 1]) + 1
        return Problem(self.file, line, column, message, hint, self._excerpt(line, column))

    def _excerpt(self, line: int, column: int) -> str:
        if line < 1 or line in self.hidden or column > EXCERPT:
            return ""
        # Control characters could act on the terminal that shows the message.
        return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in self.lines[line - 1][:EXCERPT])


def read_source(path: Path, file: str) -> Source | Problem:
    """Read a text file of the project, or say in one problem why it is none. Takes a byte order mark away."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Problem(file, 0, 0, "there is no such file")
    except IsADirectoryError:
        return Problem(file, 0, 0, "this is a folder, not a file")
    except (OSError, ValueError) as error:
        return Problem(file, 0, 0, f"cannot be read: {getattr(error, 'strerror', None) or 'not a usable path'}")
    return decode(data, file)


def decode(data: bytes, file: str) -> Source | Problem:
    """The text of a file's bytes, or the problem with them."""
    if len(data) > MAX_BYTES:
        hint = "keep rows in an input file and long texts in templates"
        return Problem(file, 0, 0, "is larger than 1 MB, the limit for a spec", hint)
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return Problem(file, 0, 0, "is UTF-16, not UTF-8", "save it as UTF-8")
    if b"\0" in data:
        return Problem(file, 0, 0, "is a binary file, not YAML")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        good = data[: error.start].removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        source = _source(file, data.decode("utf-8", "replace"))
        return source.problem(_place(good), "is not UTF-8 from here on", "save it as UTF-8")
    source = _source(file, text)
    if bad := _NOT_TEXT.search(text):
        name = f"U+{ord(bad[0]):04X}"
        hint = f'in a "double-quoted" value it is written as \\u{ord(bad[0]):04x}'
        return source.problem(_place(text[: bad.start()]), f"YAML does not allow the character {name}", hint)
    return source


def _source(file: str, text: str) -> Source:
    return Source(file, text, _LINE_END.split(text))


def _place(before: str) -> Place:
    """The place right after the text `before`."""
    lines = _LINE_END.split(before)
    return Place(len(lines), len(lines[-1]) + 1)
