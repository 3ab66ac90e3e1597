"""A job that is applied against a service in trouble, and what stands at the service afterwards.

The service is the embedded one, over real sockets; what it was paid for is read from its own files, where trouble with
result files does not reach. Waiting costs nothing: the clock that the executor is given runs ahead of the real one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import runner
from runner.api import open_project
from runner.executor.observe import Word
from runner.executor.run import Outcome
from runner.reconciler.plan import JobPlan
from runner.service import BackgroundService, ServiceConfig
from runner.service.faults import KINDS

FAULTS = tuple(name for name, kind in KINDS.items() if kind.scope != "webhook")
"""All that the executor can meet; a webhook's faults are its receiver's."""
MILD = {"slow": "slow=2:0.02", "fail-requests": "fail-requests=2", "stuck-validating": "stuck-validating=1:0.3"}
"""Where the usual would only take time, or strikes by chance."""
ROWS = 6
SHARD = 2
TEXTS = [f"Say number {number}." for number in range(ROWS)]
NAP = 0.01
KEY = "key-of-the-stories"
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

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, NAP))
        self.ahead += max(seconds - NAP, 0.0)


@dataclass
class Watcher:
    """What a person would have been told."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def progress(self, what: str, done: int, total: int, failed: int = 0) -> None:
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


def apply(root: Path, word: Word = Word()) -> tuple[Outcome, Watcher]:  # noqa: B008
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


@dataclass(frozen=True)
class Ledger:
    """What the service's own files say: batches, and how often each request was answered, which is what is billed."""

    batches: int
    answers: Counter[str]

    @classmethod
    def of(cls, data: Path) -> Ledger:
        jobs = [path for path in (data / "jobs").iterdir() if path.is_dir()]
        billed: Counter[str] = Counter()
        for path in (data / "jobs").glob("*/output.jsonl"):
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            billed.update(line["custom_id"] for line in lines if line["response"] is not None)
        return cls(len(jobs), billed)

    @property
    def twice(self) -> list[str]:
        """Requests that were paid for more than once."""
        return [key for key, count in self.answers.items() if count > 1]


@dataclass(frozen=True)
class End:
    """How a story ended: the last apply's outcome, the plan after it, the output's rows and the service's books."""

    outcome: Outcome
    outcomes: tuple[str, ...]
    plan: JobPlan | None
    rows: list[dict[str, Any]]
    books: Ledger
    told: tuple[tuple[str, dict[str, object]], ...]

    @property
    def complete(self) -> bool:
        """Whether every row has its answer."""
        return [row["text"] for row in self.rows] == TEXTS

    @property
    def said(self) -> str:
        """All that the last apply and the plan after it say."""
        words = [self.outcome.message, *(self.plan.notes if self.plan else ()), *map(str, self.told)]
        words += [str(action) for action in self.plan.actions] if self.plan else []
        return "\n".join(words)


def tell(folder: Path, faults: Sequence[str], *, seed: int = 0, most: int = 4, **settings: Any) -> End:
    """Apply until the job has ended, or `most` times, as somebody would who reads the message and tries again."""
    data = folder / "service"
    written = tuple(MILD.get(fault, fault) for fault in faults)
    with BackgroundService.start(
        ServiceConfig(data=data, tokens=(KEY,), faults=written, seed=seed, **settings)
    ) as service:
        root = checkout(folder / "checkout", service.url)
        ends: list[str] = []
        told: list[tuple[str, dict[str, object]]] = []
        for _ in range(most):
            outcome, watcher = apply(root)
            ends.append(outcome.end)
            told += watcher.events
            if outcome.end in {"succeeded", "failed"}:
                break
        # A service in trouble may refuse the reading too.
        try:
            after = plan(root)
        except Exception:  # noqa: BLE001  what the last outcome said stands
            after = None
        output = root / "out/told.jsonl"
        rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
        return End(outcome, tuple(ends), after, rows, Ledger.of(data), tuple(told))
