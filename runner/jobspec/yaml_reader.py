"""YAML text as plain values, each with its place.

Keys are strings as written. A plain value that YAML 1.1 and 1.2 read differently is an error that suggests quotes.
Tags, merge keys and duplicate keys are refused; aliases are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from runner.errors import Problem

MAX_BYTES = 1_000_000
"""The largest YAML file, in bytes."""
MAX_NODES = 100_000
"""Values in one document; an alias counts each time it is used."""
MAX_DEPTH = 60
MAX_PROBLEMS = 50
"""Problems reported for one document."""
MAX_DOCUMENTS = 100
"""Documents in one file."""

PRIVATE = frozenset({"secret", "key", "password", "token", "api_key"})
"""Keys whose value may be a secret written by mistake. Such lines are not shown."""

Path = tuple[str | int, ...]
Place = tuple[int, int]
_CORE = "tag:yaml.org,2002:"
_IMPLICIT = {f"{_CORE}{kind}" for kind in ("str", "null", "bool", "int", "float", "timestamp", "merge", "value")}
"""Tags that YAML 1.1 gives to plain values."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_READ_AS = {"timestamp": "a date", "int": "a number", "float": "a number"}
"""What YAML 1.1 takes a plain value for, by its tag."""
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""Line ends of YAML 1.1, and so of the parser's line numbers."""
_MAX_NUMBER = 399
"""Characters of a number."""
_MAX_SHOWN = 100
"""Characters of a value in a message."""
_MAX_EXCERPT = 1_000
"""Characters of a line in a problem."""
_SMALL_FILE = 100_000
"""A file of this many characters can't exceed MAX_NODES."""


@dataclass(slots=True)
class Document:
    """One YAML document: its value, and line and column (from 1) of each value and key by path."""

    value: Any = None
    places: MutableMapping[Path, Place] = field(default_factory=dict)
    keys: MutableMapping[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Return the place of the value (or key) at `path`, or of its nearest parent."""
        wanted = self.keys if key else self.places
        if path in wanted:
            return wanted[path]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))


class Lines:
    """A file's name and lines, to make problems."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.size = len(text)
        self.private: set[int] = set()
        self._lines = _LINE_END.split(text)

    def problem(self, place: Place, message: str, hint: str = "", *, code: str) -> Problem:
        """Return a problem at a place, with the line as an excerpt."""
        line, column = place
        excerpt = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        if len(excerpt) > _MAX_EXCERPT:
            excerpt = excerpt[:_MAX_EXCERPT] + "…"
        return Problem(self.file, line, column, message, hint, excerpt, code)


def read_text(file: str, data: bytes) -> tuple[str, list[Problem]]:
    """Return a YAML file's text, or why it is not text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", [Problem(file, 0, 0, "the file is UTF-16; save it as UTF-8", code="BS101")]
    if b"\0" in data:
        return "", [Problem(file, 0, 0, "the file is binary, not YAML text", code="BS101")]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        return "", [Problem(file, line, column, "the file is not UTF-8 text", code="BS101")]


def documents(lines: Lines, text: str) -> tuple[list[Document], list[Problem]]:
    """Return all documents and all problems. Never raises for invalid text."""
    problems: list[Problem] = []
    found: list[Document] = []
    try:
        if (place := _first_over_limit(text)) is not None:
            message = f"here the file has {MAX_NODES} values, and more are not read"
            return [], [lines.problem(place, message, "rows belong into an input file", code="BS105")]
        for node in yaml.compose_all(text, Loader=_LOADER):
            if len(found) >= MAX_DOCUMENTS:
                problems.append(
                    lines.problem(_place(node), f"the file has more than {MAX_DOCUMENTS} documents", code="BS105")
                )
                break
            if node is not None:
                reader = _Reader(lines)
                document = reader.document(node)
                problems += reader.problems
                if document is not None:
                    found.append(document)
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax(lines, error))
    except yaml.YAMLError as error:
        message = "the file holds a character that YAML does not allow"
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
        problems.append(lines.problem((line, 0), message, code="BS101"))
    except RecursionError:
        problems.append(lines.problem((0, 0), f"the file is nested more than {MAX_DEPTH} deep", code="BS105"))
    return found, problems


def _first_over_limit(text: str) -> Place | None:
    """Return where a long file exceeds MAX_NODES, counted before any value is made. Raises YAMLError."""
    if len(text) <= _SMALL_FILE:
        return None
    remaining = MAX_NODES
    for event in yaml.parse(text, Loader=_LOADER):
        remaining -= isinstance(event, yaml.NodeEvent)
        if remaining < 0:
            return _place(event)
    return None


def _syntax(lines: Lines, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    problem = lines.problem(place, f"not valid YAML: {error.problem or error.context}", code="BS101")
    if "\t" in problem.excerpt[: max(place[1], 1)]:
        return lines.problem(place, "not valid YAML: there is a tab; YAML is indented with spaces", code="BS101")
    return problem


class _LimitExceeded(Exception):
    """The document exceeds a limit."""


class _Reader:
    def __init__(self, lines: Lines) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._document = Document()
        self._remaining = MAX_NODES

    def document(self, node: Node) -> Document | None:
        try:
            self._document.value = self._value(node, ())
        except _LimitExceeded as error:
            self.problems.append(self._lines.problem(_place(node), str(error), code="BS105"))
            return None
        return self._document

    def _value(self, node: Node, path: Path) -> Any:
        self._remaining -= 1
        if self._remaining < 0:
            raise _LimitExceeded(f"the document has more than {MAX_NODES} values, its aliases counted")
        if len(path) > MAX_DEPTH:
            raise _LimitExceeded(f"the document is nested more than {MAX_DEPTH} deep")
        self._document.places[path] = _place(node)
        if isinstance(node, MappingNode):
            if node.tag != f"{_CORE}map":
                self._say(node, f"the tag {_tag(node)} is not supported; remove it", "BS103")
            return dict(self._items(node, path))
        if isinstance(node, SequenceNode):
            if node.tag != f"{_CORE}seq":
                self._say(node, f"the tag {_tag(node)} is not supported; remove it", "BS103")
            return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node, path)

    def _items(self, node: MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Place] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                if isinstance(key_node, MappingNode) and node.flow_style:
                    self._say(node, "text that begins with {{ is read as a mapping: put it in quotes", "BS103")
                else:
                    self._say(key_node, "a key must be plain text", "BS103")
                continue
            key = str(key_node.value)
            if key == "<<" and not key_node.style:
                self._say(key_node, "the merge key << is not supported; write the values out", "BS103")
                continue
            if key in seen:
                line, column = seen[key]
                self._say(key_node, f"`{key}` is repeated; the first one is at line {line}, column {column}", "BS104")
                continue
            seen[key] = _place(key_node)
            self._document.keys[(*path, key)] = seen[key]
            if key in PRIVATE and isinstance(value_node, ScalarNode):
                self._lines.private.update(range(_place(value_node)[0], value_node.end_mark.line + 2))
            yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if node.style:
            if node.tag not in {f"{_CORE}str", "!"}:
                self._say(node, f"the tag {_tag(node)} is not supported; remove it", "BS103")
            return text
        if node.tag not in _IMPLICIT:
            self._say(node, f"the tag {_tag(node)} is not supported; remove it", "BS103")
            return text
        new, old = _by_yaml_1_2(text), _by_yaml_1_1(node)
        if isinstance(new, float) and not math.isfinite(new):
            text = _short(text)
            self._say(node, f'{text} is not a number that JSON can carry; write "{text}" if you mean the text', "BS102")
            return text
        if (type(new) is not type(old) or new != old) and not _is_start(text, path):
            self._say(node, _difference(text, new, node.tag.removeprefix(_CORE)), "BS102")
            return text
        if isinstance(new, int) and not isinstance(new, bool) and not -(1 << 63) <= new < 1 << 63:
            shown = _short(text)
            self._say(node, f'{shown} is beyond 64 bits; write it as text: "{shown}"', "BS102")
        return new

    def _say(self, node: Node, message: str, code: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            raise _LimitExceeded(f"there are more problems in this document than {MAX_PROBLEMS}; these come first")
        self.problems.append(self._lines.problem(_place(node), message, code=code))


def _is_start(text: str, path: Path) -> bool:
    """Return whether a plain date is a partition's start, which is text in each version of YAML."""
    return len(path) == 3 and path[0] == "partition" and path[2] == "start" and bool(_DATE.fullmatch(text))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _by_yaml_1_2(text: str) -> Any:
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text) if len(text) <= _MAX_NUMBER else text
    if _OTHER_INT.fullmatch(text):
        return int(text, 0) if len(text) <= _MAX_NUMBER else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1)) if "n" not in text.lower()[1:3] else math.inf
    return text


class _Changed:
    """A value that YAML 1.1 reads as something else than text, number, boolean or null."""


def _by_yaml_1_1(node: ScalarNode) -> Any:
    kind = node.tag.removeprefix(_CORE)
    constructor = SafeConstructor()
    if kind in {"int", "float"} and len(node.value) > _MAX_NUMBER:
        return _Changed()  # PyYAML's time grows with the square of the length of `1:1:1:…`
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return constructor.construct_yaml_bool(node)
        if kind == "int":
            return constructor.construct_yaml_int(node)
        if kind == "float":
            value = constructor.construct_yaml_float(node)
            return value if math.isfinite(value) else math.inf
    except (ValueError, OverflowError):
        return _Changed()
    return str(node.value) if kind == "str" else _Changed()


def _difference(text: str, new: Any, kind: str) -> str:
    text = _short(text)
    quoted = f'write "{text}" if you mean the text'
    if isinstance(new, bool) or text.lower() in {"on", "off", "yes", "no", "y", "n"}:
        plain = "true" if text.lower() in {"on", "yes", "y"} else "false"
        return f"{text} is read as a boolean by some YAML readers: {quoted}, or {plain}"
    if isinstance(new, (int, float)):
        shown = (
            f", or {Decimal(repr(new)).normalize():f} if you mean the number"
            if not new or 1e-9 < abs(new) < 1e15
            else ""
        )
        return f"{text} is read differently by YAML readers: {quoted}{shown}"
    return f"{text} is read as {_READ_AS.get(kind, 'something else than text')} by some YAML readers: {quoted}"


def _place(node: Node | yaml.Event) -> Place:
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _tag(node: Node) -> str:
    return str(node.tag).replace(_CORE, "!!")
