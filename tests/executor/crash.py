"""Kills an apply at a chosen step and lets the next one go on. Run as a script it tries many points in one process.

A step is an intent or an answer written to the ledger, a request sent or answered, or a file put in place. The process
that is killed is a fork of this one, so that it needs no time to start; the service is a process of its own and goes on.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runner.api import load, open_project
from runner.executor import wait
from runner.store.ledger import Ledger

TOKEN = "crash-token"
SHARDS = 3
ROWS = 7
LOSSES = ("ledger", "store", "lockfile")
SPEC = f"""\
version: 1
name: crash
provider: test
model: gpt-4o-mini
input: {{path: data/rows.jsonl, id: id}}
prompt: {{user: "Say {{{{ text }}}}."}}
shards: {{max_requests: {SHARDS}}}
output: {{path: out/crash.jsonl}}
"""


@dataclass(frozen=True)
class Point:
    """The `number`-th time (from 1) that a kind of step is taken, and whether it is still done."""

    kind: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.number}"


class Killer:
    """Counts steps of this process, and ends it at a point. Installed in the fork, after which nothing is put back."""

    def __init__(self, point: Point | None) -> None:
        self._point = point
        self._turn = threading.Lock()
        self.counts: dict[str, int] = {}

    def install(self) -> None:
        """Wrap everything that is a step."""
        for name in ("upload_intended", "uploaded", "create_intended", "created"):
            self._wrap(Ledger, name, lambda *_, name=name, **__: f"ledger {name}")
        self._wrap(httpx.Client, "send", lambda _, request, **__: f"{request.method} {_kind(request.url.path)}")
        self._wrap(Path, "replace", lambda path, _: f"file {_file_kind(path)}")
        wait.SHORTEST = {"local": 0.05, "digitalocean": 0.05}

    def _wrap(self, owner: Any, name: str, kind_of: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            kind = kind_of(*args, **kwargs)
            with self._turn:
                self.counts[kind] = self.counts.get(kind, 0) + 1
                here = self._point is not None and (kind, self.counts[kind]) == (self._point.kind, self._point.number)
            if here and self._point is not None and self._point.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, step)


def _kind(path: str) -> str:
    parts = path.strip("/").split("/")
    if parts[:2] == ["v1", "batches"]:
        return "/".join(part if part in {"v1", "batches", "files", "results", "cancel"} else "ID" for part in parts)
    return "presigned"


def _file_kind(path: Path) -> str:
    for kind in (".lock", "cutting", "keys.npy", "index.npy", "summary.json", "output.jsonl", "errors.jsonl", ".jsonl"):
        if kind in path.name:
            return kind
    return "other"


@contextmanager
def service(data: Path) -> Iterator[str]:
    """The embedded service in a process of its own; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "serve", "--port", "0", "--data", str(data), "--token", TOKEN,
         "--rate-limit", "off"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def project(root: Path, url: str, name: str) -> None:
    """A project of three shards against the service at `url`."""
    settings = {
        "version": 1,
        "project": name,
        "providers": {"test": {"kind": "digitalocean", "base_url": url, "key": {"env": "BATCHSPEC_CRASH_KEY"}}},
    }
    rows = "".join(json.dumps({"id": number, "text": f"number {number}"}) + "\n" for number in range(ROWS))
    for path, text in (
        ("batchspec.yaml", json.dumps(settings)), ("specs/crash.yaml", SPEC), ("data/rows.jsonl", rows)
    ):  # fmt: skip
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def apply_in_fork(root: Path, point: Point | None, counts: Path | None = None) -> int:
    """Apply in a forked process; its exit code, negative for the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        killer = Killer(point)
        killer.install()
        environ = {**os.environ, "BATCHSPEC_CRASH_KEY": TOKEN}
        with open_project(load(root=root, environ=environ), environ=environ, jobs=1) as opened:
            planned = opened.plan(opened.context.project.jobs)
            outcomes = opened.apply(planned)
        code = 0 if [outcome.end for outcome in outcomes] == ["succeeded"] else 1
        if code:
            sys.stderr.write(f"{outcomes}\n{planned.plan.errors}\n")
        if counts is not None:
            counts.write_text(json.dumps(killer.counts))
    except BaseException as error:  # noqa: BLE001  a fork must not go on into its parent's code
        sys.stderr.write(f"{error!r}\n")
    finally:
        os._exit(code)


def points(url: str, folder: Path) -> list[Point]:
    """Every point of an undisturbed run. Polls come as often as they come; the first two are enough."""
    root = folder / "counting"
    project(root, url, f"counting-{os.getpid()}-{random.randrange(1 << 30)}")
    assert apply_in_fork(root, None, folder / "counts") == 0
    counts = json.loads((folder / "counts").read_text())
    most = {"GET v1/batches": 2}
    return [
        Point(kind, number, when)
        for kind in sorted(counts)
        for number in range(1, min(counts[kind], most.get(kind, SHARDS * 2)) + 1)
        for when in ("before", "after")
    ]


def lose(root: Path, losses: Sequence[str], lockfile: bytes | None) -> None:
    """Throw away what a machine can lose; the lockfile goes back to what it was before the run."""
    base, lock = root / ".batchspec", root / "specs/crash.lock"
    if "ledger" in losses:
        for path in base.glob("ledger.db*"):
            path.unlink()
    if "store" in losses:
        shutil.rmtree(base / "store", ignore_errors=True)
    if "lockfile" in losses:
        if lockfile is None:
            lock.unlink(missing_ok=True)
        else:
            lock.write_bytes(lockfile)


def try_points(url: str, folder: Path, name: str, kills: Sequence[Point], losses: Sequence[str], want: bytes) -> str:
    """Kill at each point in turn, lose things in between, then go on undisturbed; what is wrong then, or empty."""
    root = folder / name
    project(root, url, name)
    lock = root / "specs/crash.lock"
    for point in kills:
        before = lock.read_bytes() if lock.exists() else None
        code = apply_in_fork(root, point)
        if code not in (-signal.SIGKILL, 0):
            return f"the killed run ended with {code}"
        lose(root, losses, before)
    code = apply_in_fork(root, None)
    if code:
        return f"the next run ended with {code}"
    wrong = check(root, url, name, want)
    if not wrong and apply_in_fork(root, None) == 0:
        wrong = check(root, url, name, want)
    shutil.rmtree(root)
    return wrong


def check(root: Path, url: str, name: str, want: bytes) -> str:
    """One batch a shard at the service, and the output that an undisturbed run gives; what is wrong, or empty."""
    made: list[dict[str, Any]] = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        after: dict[str, str] = {}
        while True:
            page = client.get("/v1/batches", params={"limit": "100", **after}).json()
            made += [batch for batch in page["data"] if batch["metadata"].get("project") == name]
            if not page["has_more"] or len(made) > SHARDS:
                break
            after = {"after": page["last_id"]}
    shards = [batch["metadata"]["shard"] for batch in made]
    if len(shards) != -(-ROWS // SHARDS) or len(set(shards)) != len(shards):
        return f"the service has batches for {sorted(shard[:8] for shard in shards)}"
    if output(root) != want:
        return f"the output differs: {output(root)!r}"
    return ""


def output(root: Path) -> bytes:
    """The output's bytes without the field that may differ."""
    rows = [json.loads(line) for line in (root / "out/crash.jsonl").read_bytes().splitlines()]
    return b"".join(json.dumps({k: v for k, v in row.items() if k != "batch"}).encode() + b"\n" for row in rows)


def undisturbed(url: str, folder: Path) -> bytes:
    """What the output must be."""
    root = folder / "undisturbed"
    project(root, url, f"undisturbed-{os.getpid()}-{random.randrange(1 << 30)}")
    assert apply_in_fork(root, None) == 0
    return output(root)


def main() -> int:
    """Try points; print what was tried and each that went wrong. Exit code 1 where one did."""
    # What an apply imports on its way is imported once, here, and not in every fork.
    for name in ("bpe_openai", "genai_prices", "filelock", "numpy", "runner.providers.digitalocean"):
        importlib.import_module(name)
    parser = argparse.ArgumentParser()
    parser.add_argument("--losses", choices=["none", "all", "sample"], default="none")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th case, from the I-th")
    parser.add_argument("--random", type=int, default=0, help="rounds of two or three kills with random losses")
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    subsets = [s for size in range(1, len(LOSSES) + 1) for s in itertools.combinations(LOSSES, size)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with service(folder / "service") as url:
            want = undisturbed(url, folder)
            every = points(url, folder)
            cases: list[tuple[list[Point], tuple[str, ...]]]
            if options.random:
                cases = [
                    (chance.sample(every, chance.choice([2, 3])), chance.choice([(), *subsets]))
                    for _ in range(options.random)
                ]
            elif options.losses == "none":
                cases = [([point], ()) for point in every]
            else:
                cases = [([point], subset) for point in every for subset in subsets]
                if options.losses == "sample":
                    cases = chance.sample(cases, options.sample)
            index, count = map(int, options.part.split("/"))
            cases = cases[index::count]
            bad = 0
            for number, (kills, losses) in enumerate(cases):
                wrong = try_points(url, folder, f"case-{index}-{number}", kills, losses, want)
                if wrong:
                    bad += 1
                    print(f"{', then '.join(map(str, kills))}; lost: {', '.join(losses) or 'nothing'}: {wrong}")
    print(f"{len(cases)} cases of {len(every)} points, {bad} wrong")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
