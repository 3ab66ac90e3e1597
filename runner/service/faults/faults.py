"""The faults that a service can inject: names, syntax, and when they occur."""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from runner.errors import ServiceError

Scope = Literal["call", "create", "upload", "download", "job", "request", "webhook"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `scope` is the event it counts."""

    name: str
    scope: Scope
    meaning: str
    usual: str = "1"
    detail: str = ""
    detail_means: str = ""


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("lost-create", "create", "a create is accepted, and the connection closed without an answer"),
        Kind("unheard-create", "create", "a create is not accepted, and the connection closed without an answer"),
        Kind("burst-429", "call", "API calls are answered with 429", "1", "3", "calls in a burst"),
        Kind("burst-5xx", "call", "API calls are answered with 500, 502, 503 or 504", "1", "3", "calls in a burst"),
        Kind("slow", "call", "what was asked is done at once, the answer comes late", "100%", "2", "seconds"),
        Kind("expired-upload-url", "upload", "an upload URL has expired when it is handed out"),
        Kind("cut-upload", "upload", "the connection is closed in the middle of an upload"),
        Kind("cut-download", "download", "the connection is closed in the middle of a result file"),
        Kind("cut-results", "download", "a result file ends in the middle of a line, as if that were all of it"),
        Kind("double-lines", "job", "some lines of the results come twice", "1", "10%", "share of the lines"),
        Kind("shuffle-lines", "job", "the lines of the results come in another order"),
        Kind("missing-lines", "job", "some lines of the results never come", "1", "10%", "share of the lines"),
        Kind("unknown-lines", "job", "the results have lines for unknown requests", "1", "10%", "share of the lines"),
        Kind("garbled-lines", "job", "some lines of the results are no JSON", "1", "10%", "share of the lines"),
        Kind("results-gone", "job", "the results were deleted before their time"),
        Kind("fail-requests", "request", "a request gets an error", "10%", "server_error", "code of the error"),
        Kind("expire-half", "job", "the job expires when half of its requests are done"),
        Kind("fail-half", "job", "the job fails when half of its requests are done", "1", "server_error", "code"),
        Kind("fail-job", "job", "the job fails before any request of it is asked", "1", "server_error", "code"),
        Kind("stuck-validating", "job", "the job stays in validating, in the end until it expires", "1", "", "seconds"),
        Kind("unknown-status", "job", "the job shows an unknown status until it ends", "1", "paused", "the status"),
        Kind("webhook-twice", "webhook", "a webhook is delivered twice"),
        Kind("webhook-late", "webhook", "a webhook is delivered late", "1", "5", "seconds"),
    )
}

SYNTAX = """\
A fault is written NAME, NAME=WHEN or NAME=WHEN:DETAIL. WHEN is one of
  3      the first three times, counted since the service started
  @3     the third time only
  20%    by chance, each time
It may be given more than once. The same seed and the same calls give the same faults."""

_WHEN = re.compile(r"(?P<first>\d{1,9})|@(?P<only>\d{1,9})|(?P<chance>\d{1,3}(?:\.\d+)?)%")
_NUMBER = re.compile(r"\d{1,9}(?:\.\d+)?")
_SHARE = re.compile(r"\d{1,3}(?:\.\d+)?%")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Fault:
    """A configured fault: for the first `first` events, number `only`, or with probability `chance`."""

    kind: Kind
    first: int
    only: int
    chance: float
    detail: str


def parse(text: str) -> Fault:
    """Parse `NAME[=WHEN[:DETAIL]]`. Raises ServiceError."""
    name, _, value = text.strip().partition("=")
    kind = KINDS.get(name)
    if kind is None:
        raise ServiceError(f"there is no fault {name!r}", hint=f"use {', '.join(KINDS)}", code="BS704")
    when, _, detail = value.partition(":")
    match = _WHEN.fullmatch(when or kind.usual)
    if match is None or float(match["chance"] or 0) > 100:
        raise ServiceError(
            f"the fault {text!r} does not say when it strikes",
            hint="write a count as 3, a single time as @3 or 20%",
            code="BS704",
        )
    if detail and not kind.detail_means:
        raise ServiceError(f"the fault {name} takes nothing behind a colon, got {detail!r}", code="BS704")
    detail = detail or kind.detail
    if detail and not _form_of(kind).fullmatch(detail):
        raise ServiceError(f"the fault {name} takes {kind.detail_means} behind the colon, got {detail!r}", code="BS704")
    return Fault(kind, int(match["first"] or 0), int(match["only"] or 0), float(match["chance"] or 0) / 100, detail)


def _form_of(kind: Kind) -> re.Pattern[str]:
    match kind.detail_means:
        case "seconds" | "calls in a burst":
            return _NUMBER
        case "share of the lines":
            return _SHARE
    return _WORD


def table() -> str:
    """Return the text of `--list-faults`."""
    wide = max(map(len, KINDS))
    rows = []
    for kind in KINDS.values():
        usual = kind.usual + (f":{kind.detail}" if kind.detail else "")
        detail = f"; DETAIL: {kind.detail_means}" if kind.detail_means else ""
        rows.append(f"  {kind.name:<{wide}}  {kind.meaning} (counts each {kind.scope}; usual: {usual}{detail})")
    return "\n".join((SYNTAX, "", *rows))


class Faults:
    """The faults of one service, for any thread."""

    def __init__(self, texts: Iterable[str] = (), seed: int = 0) -> None:
        self._seed = seed
        self._guard = threading.Lock()
        self._armed: dict[str, list[_Armed]] = {}
        for number, text in enumerate(texts):
            fault = parse(text)
            # Each has its own random numbers, so that another fault does not change them.
            armed = _Armed(fault, random.Random(f"{seed}:{number}:{text}"))  # noqa: S311 - no secret
            self._armed.setdefault(fault.kind.name, []).append(armed)

    def __bool__(self) -> bool:
        return bool(self._armed)

    def draw(self, name: str) -> str | None:
        """Count an event. Return the fault's detail if it occurs."""
        if name not in self._armed:
            return None
        with self._guard:
            struck = [armed.fault.detail for armed in self._armed[name] if armed.strikes()]
        return struck[0] if struck else None

    def for_job(self) -> dict[str, str]:
        """Return a new job's faults with their details."""
        drawn = {name: self.draw(name) for name in self._armed if KINDS[name].scope == "job"}
        return {name: detail for name, detail in drawn.items() if detail is not None}

    def for_request(self, batch_id: str, custom_id: str) -> str | None:
        """Return a request's error code. Repetitions get the same."""
        for armed in self._armed.get("fail-requests", ()):
            if armed.fault.chance:
                key = f"{self._seed}:{armed.fault.detail}:{batch_id}:{custom_id}"
                if fraction(key) < armed.fault.chance:
                    return armed.fault.detail
            else:
                with self._guard:
                    if armed.strikes():
                        return armed.fault.detail
        return None


class _Armed:
    def __init__(self, fault: Fault, numbers: random.Random) -> None:
        self.fault = fault
        self._numbers = numbers
        self._times = 0

    def strikes(self) -> bool:
        self._times += 1
        fault = self.fault
        return (
            self._times <= fault.first
            or self._times == fault.only
            or (fault.chance > 0 and self._numbers.random() < fault.chance)
        )


def fraction(key: str) -> float:
    """Return a number from 0 to 1 that depends only on `key`."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "big") / (1 << 56)


def share(detail: str) -> float:
    """Return a detail such as `10%` as 0.1."""
    return min(float(detail.removesuffix("%")) / 100, 1.0)
