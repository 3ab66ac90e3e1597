"""One embedded service for the tests of a worker, and projects against it that are applied in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.api import load, open_project
from runner.executor import poll
from runner.executor.outcome import Outcome
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Plan
from tests.executor.crash import service
from tests.executor.forked_service import TOKEN
from tests.providers.stub import Stub


@pytest.fixture(scope="session")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(tmp_path_factory.mktemp("service")) as url:
        yield url


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A service of one test that answers as it is told to."""
    with Stub() as running:
        yield running


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "MIN_INTERVAL", {"local": 0.05, "digitalocean": 0.05})


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded service is one machine: what it says at once holds."""
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 0.0)


@dataclass
class Team:
    """A project of a name of its own at the service."""

    root: Path
    url: str
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def rows(self, *texts: str) -> None:
        lines = (json.dumps({"id": number, "text": text}) for number, text in enumerate(texts, 1))
        self.write("data/rows.jsonl", "".join(f"{line}\n" for line in lines))

    def spec(self, name: str = "job", *more: str, file: str = "", output: str = "") -> None:
        extra = "".join(f"{line}\n" for line in more)
        self.write(
            f"specs/{file or name}.yaml",
            f"version: 1\nname: {name}\nprovider: test\nmodel: gpt-4o-mini\n"
            "input: {path: data/rows.jsonl, id: id}\nprompt: {user: 'Say {{ text }}.'}\n"
            f"output: {{path: out/{output or name}.jsonl}}\n{extra}",
        )

    @property
    def environ(self) -> dict[str, str]:
        return {"BATCHSPEC_TEST_KEY": TOKEN}

    def plan(self, word: ApplyOptions = ApplyOptions(), *, offline: bool = False) -> Plan:  # noqa: B008
        with open_project(load(root=self.root, environ=self.environ), environ=self.environ, jobs=1) as opened:
            return opened.plan(opened.context.project.jobs, word, offline=offline).plan

    def apply(self, word: ApplyOptions = ApplyOptions(), *, waiting: bool = True) -> tuple[Outcome, ...]:  # noqa: B008
        project = load(root=self.root, environ=self.environ)
        with open_project(project, environ=self.environ, watcher=self, jobs=1) as opened:
            return opened.apply(opened.plan(project.jobs, word), word, wait=waiting)

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        pass

    def told(self, name: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == name]

    def remote(self) -> list[dict[str, Any]]:
        """The batches of this project at the service, newest first."""
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            data = client.get("/v1/batches", params={"limit": "100"}).json()["data"]
        return [batch for batch in data if (batch["metadata"] or {}).get("project") == self.root.name]

    def output(self, name: str = "job") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / f"out/{name}.jsonl").read_text().splitlines()]

    def lines(self, kind: str, lock: str = "specs/job.lock") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in (self.root / lock).read_text().splitlines()]
        return [line for line in found if next(iter(line)) == kind]


def ends(outcomes: Iterable[Outcome]) -> list[str]:
    """How jobs ended."""
    return [outcome.end for outcome in outcomes]


@pytest.fixture
def team(tmp_path: Path, service_url: str) -> Callable[..., Team]:
    """Makes a project with three rows and one job."""

    def make(name: str = "") -> Team:
        # The service is shared, so the project's name is this test's own.
        root = tmp_path / (name or f"team-{abs(hash(str(tmp_path))) % 10**8}")
        made = Team(root, service_url)
        profile = {"kind": "digitalocean", "base_url": service_url, "key": {"env": "BATCHSPEC_TEST_KEY"}}
        made.write("batchspec.yaml", json.dumps({"version": 1, "project": root.name, "providers": {"test": profile}}))
        made.rows("one", "two", "three")
        made.spec()
        return made

    return make
