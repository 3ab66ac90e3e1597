"""Find rendered requests that a service certainly refuses; warnings only.

Workers import it, so it imports little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from runner.base.model_facts import context_window
from runner.base.tokenizer import token_counter
from runner.planner.templates.environment import is_constant

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec
    from runner.jobspec.models import Job

MAX_NAMED_ROWS = 3
"""Rows named in a finding; all are counted."""
BYTES_A_TOKEN = 4
"""Bytes of English text per token (OpenAI's rule of thumb for characters)."""
_UNCHECKED_BYTES = 16_000
"""Smaller requests fit into any model's window."""
_MIN_TOKEN_BYTES = 2
"""Requests that fit the window even with tokens this short are not counted."""
MESSAGE, PREFILL = "message", "prefill"
_JSON = re.compile("json", re.IGNORECASE)
_TEXTS = ("system", "instructions", "messages", "input")


@dataclass(frozen=True, slots=True)
class Limits:
    """A model's context window, and the output tokens that count against it.

    `encoding` is its tokenizer's public name, if known.
    """

    model: str
    line_format: str
    reserved: int
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """A request's rules: whether a message must mention JSON, and the model's limits.

    `constant_json` counts the word outside message texts.
    """

    needs_json: bool = False
    constant_json: int = 0
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows that a service refuses for one reason. `rows` are the first: index from 0, and id as JSON or empty.

    `max_input_tokens` is 0 for other reasons.
    """

    kind: str
    count: int
    rows: tuple[tuple[int, str], ...]
    max_input_tokens: int = 0


class Found:
    """The findings of all chunks."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}
        self._seen = 0

    def add(self, findings: tuple[Finding, ...], seen: int) -> None:
        """Add the next chunk's findings on `seen` records."""
        for finding in findings:
            old = self._found.get(finding.kind, Finding(finding.kind, 0, ()))
            rows = (*old.rows, *((self._seen + number, row_id) for number, row_id in finding.rows))
            self._found[finding.kind] = Finding(
                finding.kind,
                old.count + finding.count,
                rows[:MAX_NAMED_ROWS],
                max(old.max_input_tokens, finding.max_input_tokens),
            )
        self._seen += seen

    def all(self) -> tuple[Finding, ...]:
        """Return the findings by kind."""
        return tuple(self._found[kind] for kind in sorted(self._found))


def rule_of(job: Job, number: int) -> str:
    """Return the service's rule for a turn's text; empty if it accepts any.

    Anthropic: "text content blocks must contain non-whitespace text", "all messages must have non-empty content except
    for the optional final assistant message", "final assistant content cannot end with trailing whitespace".
    """
    turn = job.prompt.turns[number]
    if job.line_format != "anthropic" or turn.role == "system":
        return ""
    return PREFILL if turn.role == "assistant" and number == len(job.prompt.turns) - 1 else MESSAGE


def rules_of(spec: JobSpec, constants: Iterable[bytes], limits: Limits | None) -> Rules:
    """Return a job's rules; all requests share the `constants`."""
    parts = [part.lower().count(b"json") for part in constants]
    texts = [turn.text for turn in spec.job.prompt.turns if isinstance(turn.text, str)]
    asks_json = asks_json_object(spec.job.url, spec.parameters)
    needs = asks_json and not any(is_constant(text) and names_json(text) for text in texts)
    return Rules(needs, sum(parts), limits)


def asks_json_object(url: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether a request asks for JSON without a schema.

    OpenAI: "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    """
    if not url:
        return False
    outer = parameters.get("text" if url == "/v1/responses" else "response_format")
    form = outer.get("format") if url == "/v1/responses" and isinstance(outer, Mapping) else outer
    return isinstance(form, Mapping) and form.get("type") == "json_object"


def names_json(text: str) -> bool:
    """Return whether a text contains the word JSON."""
    return "JSON" in text or "json" in text or _JSON.search(text) is not None


@dataclass(slots=True)
class _FindingCount:
    """Mutable, because most rows may have it."""

    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    max_input_tokens: int = 0


class RowChecks:
    """One job's row checks. `found` are the current row's findings."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.found: list[str] = []
        self.check_json = self._json if rules.needs_json else None
        self.unchecked_bytes = 1 << 62 if rules.limits is None else _UNCHECKED_BYTES
        self._max_input_tokens = 0
        self._findings: dict[str, _FindingCount] = {}

    def text_check(self, rule: str) -> Callable[[str], None] | None:
        """Return the check for a turn's rule, or None."""
        found = self.found

        def message(text: str) -> None:
            if not text or text.isspace():
                found.append("blank")

        def prefill(text: str) -> None:
            if text[-1:].isspace():
                found.append("trailing")

        return {MESSAGE: message, PREFILL: prefill}.get(rule)

    def check_line(self, line: bytes) -> None:
        """Check a request line."""
        if self.check_json is not None:
            self.check_json(line)
        limits = self._rules.limits
        if limits is not None and len(line) > _UNCHECKED_BYTES:
            self._window(line, limits)

    def _window(self, line: bytes, limits: Limits) -> None:
        window = context_window(limits.model, limits.line_format)
        if window is None or len(line) <= (window - limits.reserved) * (
            _MIN_TOKEN_BYTES if limits.encoding else BYTES_A_TOKEN
        ):
            return
        tokens = _count_tokens(line, limits.encoding)
        if tokens + limits.reserved > window:
            self.found.append("window")
            self._max_input_tokens = max(self._max_input_tokens, tokens)

    def _json(self, line: bytes) -> None:
        if line.lower().count(b"json") <= self._rules.constant_json:
            self.found.append("no-json")

    def record(self, position: int, row_id: bytes) -> None:
        """Record the current row's findings, by its index in the chunk."""
        found = self.found
        for kind in found if len(found) == 1 else dict.fromkeys(found):
            counted = self._findings.get(kind)
            if counted is None:
                counted = self._findings[kind] = _FindingCount()
            counted.count += 1
            if counted.count <= MAX_NAMED_ROWS:
                counted.rows.append((position, row_id.decode()))
            if kind == "window":
                counted.max_input_tokens = max(counted.max_input_tokens, self._max_input_tokens)
        found.clear()
        self._max_input_tokens = 0

    def drain(self) -> tuple[Finding, ...]:
        """Return the findings since the last call."""
        findings = tuple(
            Finding(kind, finding.count, tuple(finding.rows), finding.max_input_tokens)
            for kind, finding in self._findings.items()
        )
        self._findings = {}
        self.found.clear()
        return findings


def _count_tokens(line: bytes, encoding: str) -> int:
    if not encoding:
        return len(line) // BYTES_A_TOKEN
    count = token_counter(encoding)
    return sum(count(text) for text in _texts(line))


def _texts(line: bytes) -> Iterator[str]:
    request = orjson.loads(line)
    body = request.get("body") or request.get("params")
    for name in _TEXTS:
        value = body.get(name)
        if isinstance(value, str):
            yield value
        for message in value if isinstance(value, list) else ():
            yield message["content"]


def finding_text(finding: Finding, limits: Limits | None, *, hidden: bool = False) -> str:
    """Return a finding as a sentence; `hidden` omits the rows' names."""
    names = [_shown(row_id) if row_id else str(number + 1) for number, row_id in finding.rows]
    more = ", …" if finding.count > len(names) else ""
    named_rows = "" if hidden else f" ({', '.join(names)}{more})"
    rows = f"{finding.count:,} row{'' if finding.count == 1 else 's'}{named_rows}"
    match finding.kind:
        case "blank":
            return f"{rows}: a message is empty or blank, which Anthropic refuses"
        case "trailing":
            return f"{rows}: the last assistant message ends in white space, which Anthropic refuses"
        case "no-json":
            return f"{rows}: no message names JSON, without which OpenAI refuses the format json_object"
    assert limits is not None
    method = f"counted with {limits.encoding}" if limits.encoding else "estimated from bytes"
    reserved = f" and {limits.reserved:,} for the answer" if limits.reserved else ""
    window = context_window(limits.model, limits.line_format) or 0
    room = f"the context window of {limits.model}, {window:,} tokens"
    return f"{rows}: up to {finding.max_input_tokens:,} input tokens ({method}){reserved} are beyond {room}"


def _shown(row_id: str) -> str:
    return row_id if len(row_id) <= 60 else row_id[:60] + "…"
