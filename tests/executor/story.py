"""A job that is applied against a service in trouble, and what stands at the service afterwards.

The service is the embedded one, over real sockets; what it was paid for is read from its own files, where trouble with
result files does not reach. Waiting costs nothing: the clock that the executor is given runs ahead of the real one.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import structlog

import runner
from runner.api import open_project
from runner.executor.outcome import Outcome
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import JobPlan
from runner.service import BackgroundService, ServiceConfig
from runner.service.faults.faults import KINDS
from tests.executor.beside import Trial, try_all
from tests.providers.stub import KEY
from tests.warm import warm

FAULTS = tuple(name for name, kind in KINDS.items() if kind.scope != "webhook")
"""All that the executor can meet; a webhook's faults are its receiver's."""
MILD = {"slow": "slow=2:0.02", "fail-requests": "fail-requests=2", "stuck-validating": "stuck-validating=1:0.3"}
"""Where the usual would only take time, or strikes by chance."""
ROWS = 6
SHARD = 2
TEXTS = [f"Say number {number}." for number in range(ROWS)]
NAP = 0.01
ENVIRON = {"MODEL_ACCESS_KEY": KEY}

SPEC = """\
version: 1
name: told
provider: service
model: gpt-4o-mini
parameters: {max_tokens: 64}
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
shards: {max_requests: %d}
output: {path: out/told.jsonl}
"""


@dataclass
class Clock:
    """The real time and what was slept beyond it."""

    ahead: float = 0.0
    nap: float = NAP

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self.nap))
        self.ahead += max(seconds - self.nap, 0.0)


@dataclass
class Watcher:
    """What a person would have been told."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        pass


def checkout(folder: Path, url: str) -> Path:
    """A project of one job, as git would have it: no lockfile, no store."""
    files = {
        "batchspec.yaml": f"version: 1\nproject: faults\nproviders:\n  service: {{kind: digitalocean, base_url: '{url}'}}\n",
        "specs/told.yaml": SPEC % SHARD,
        "data/rows.jsonl": "".join(json.dumps({"id": n, "text": f"number {n}"}) + "\n" for n in range(ROWS)),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def apply(root: Path, word: ApplyOptions = ApplyOptions()) -> tuple[Outcome, Watcher]:  # noqa: B008
    """One apply of a checkout's job, as far as it gets."""
    clock, watcher = Clock(), Watcher()
    with open_project(runner.load(root=root), watcher=watcher, environ=ENVIRON, jobs=1, now=clock.now) as opened:
        opened.context.sleep = clock.sleep
        planned = opened.plan(opened.context.project.jobs, word)
        if planned.plan.errors:
            return Outcome("told", "error", None, planned.plan.errors["told"]), watcher
        [outcome] = opened.apply(planned, word)
    return outcome, watcher


def plan(root: Path) -> JobPlan:
    """The plan of a checkout's job as it is now."""
    with open_project(runner.load(root=root), environ=ENVIRON, jobs=1) as opened:
        [job] = opened.plan(opened.context.project.jobs).plan.jobs
    return job


def texts(root: Path) -> list[Any]:
    return [json.loads(line)["text"] for line in (root / "out/told.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Books:
    """What the service's own files say: batches, and how often each request was answered, which is what is billed."""

    batches: int
    answers: Counter[str]

    @classmethod
    def of(cls, data: Path) -> Books:
        jobs = [path for path in (data / "jobs").glob("*") if path.is_dir()]
        billed: Counter[str] = Counter()
        for path in (data / "jobs").glob("*/output.jsonl"):
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            billed.update(line["custom_id"] for line in lines if line["response"] is not None)
        return cls(len(jobs), billed)

    @property
    def twice(self) -> set[str]:
        """Requests that were paid for more than once."""
        return {key for key, count in self.answers.items() if count > 1}


class Story:
    """One checkout and its service. `outcome` is the last apply's, `events` what was told in all of them."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root = root
        self._data = data
        self.outcome: Outcome = Outcome("told", "skipped")
        self.applies = 0
        self.events: list[tuple[str, dict[str, object]]] = []

    def go_on(self, most: int = 4) -> str:
        """Apply until the job has ended, as somebody would who reads the message and tries again; how it ended."""
        for _ in range(most):
            if self.apply() in {"succeeded", "failed"}:
                break
        return self.outcome.end

    def apply(self, word: ApplyOptions = ApplyOptions()) -> str:  # noqa: B008
        """Apply once more; how it ended."""
        self.outcome, watcher = apply(self.root, word)
        self.applies += 1
        self.events += watcher.events
        return self.outcome.end

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The output's rows."""
        output = self.root / "out/told.jsonl"
        return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []

    @property
    def complete(self) -> bool:
        """Whether every row has its answer."""
        return [row["text"] for row in self.rows] == TEXTS

    @property
    def books(self) -> Books:
        """The service's own count."""
        return Books.of(self._data)

    def wrong(self) -> list[str]:
        """What breaks a promise: a second payment, an answer that is not the row's, an end that says nothing."""
        return (
            [f"{key} was paid for twice" for key in sorted(self.books.twice)] + self._wrong_rows() + self._wrong_end()
        )

    def _wrong_rows(self) -> list[str]:
        found = []
        for row, text in zip(self.rows, TEXTS, strict=False):
            if row["text"] not in {text, None}:
                found.append(f"row {row['id']} has another row's answer: {row['text']}")
            if row["text"] is None and not (row["error"] and row["error"]["message"]):
                found.append(f"row {row['id']} has neither answer nor error")
            if row["text"] is not None and row["request"] not in self.books.answers:
                found.append(f"row {row['id']} has an answer that the service never gave")
        return found

    def _wrong_end(self) -> list[str]:
        message = self.outcome.message
        match self.outcome.end:
            case "succeeded":
                return [] if self.complete else ["it succeeded, and the output is not complete"]
            case "failed":
                shown = not self.complete and len(self.rows) == ROWS
                return [] if shown else ["requests failed, and the output does not show it"]
            case "error":
                good = len(message) >= 20 and "Traceback" not in message
                return [] if good else [f"the message does not explain the error: {message!r}"]
            case end:
                return [f"it never ended: {end}"]


@contextmanager
def story(folder: Path, faults: Sequence[str], *, seed: int = 0, **settings: Any) -> Iterator[Story]:
    """A service with faults, and a fresh checkout of a job for it."""
    written = tuple(MILD.get(fault, fault) for fault in faults)
    data = folder / "service"
    config = ServiceConfig(data=data, tokens=(KEY,), faults=written, seed=seed, **settings)
    with BackgroundService.start(config) as service:
        yield Story(checkout(folder / "checkout", service.url), data)


def pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Every two faults, each at a moment that the seed picks: the first, the second or the fourth time."""
    numbers = random.Random(seed)
    for names in combinations(FAULTS, 2):
        first, second = (_at(name, numbers.choice(("1", "2", "@2", "@4"))) for name in names)
        yield first, second


def _at(name: str, when: str) -> str:
    _, _, detail = MILD.get(name, name).partition(":")
    return f"{name}={when}" + (f":{detail}" if detail else "")


def trial(faults: tuple[str, str]) -> Trial:
    """One pair as something to try."""

    def wrong(folder: Path) -> str:
        with story(folder, faults) as one:
            one.go_on()
            return "; ".join(one.wrong())

    return Trial(" + ".join(faults), wrong)


def main() -> int:
    """Try all pairs; print each that went wrong. Exit code 1 where one did."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="I/N: every N-th pair, from the I-th")
    parser.add_argument("--workers", type=int, default=0, help="pairs beside each other; one for each core")
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    warm()
    index, count = map(int, told.part.split("/"))
    tried = [trial(faults) for faults in pairs(told.seed)][index::count]
    started = time.monotonic()
    bad = try_all(tried, told.workers)
    print(f"{len(tried)} pairs of faults, {bad} went wrong (seed {told.seed}), {time.monotonic() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
