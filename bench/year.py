"""A project that has run for years: one partitioned job and three plain ones, with a commit for each day.

python -m bench.year FOLDER DAYS [ROWS]

The first day is a real apply. Each later day repeats its answers under the partition of that day: its requests are
equal, so their keys are too. The lockfiles are made by `runner.state`, and git gets the history through
`git fast-import`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from bench.instant import Instant
from bench.rows import write_rows
from bench.scene import TEMPLATE
from runner.api import load, open_project
from runner.jobspec.discovery import YamlFiles
from runner.jobspec.loader import JobSpec, load_project
from runner.jobspec.realm import realm_of
from runner.planner.spool.pins import pins_of
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, Header, OutputLine, PinsLine, dump_line
from runner.state.lockfile_parser import parse
from runner.state.results import ResultStore

FIRST = date(2025, 11, 1)
PLAIN = ("labels", "reviews", "topics")
_PROJECT = "bench"
_SPEC = """\
version: 1
name: {name}
provider: local
model: gpt-4o-mini
parameters: {{temperature: 0, max_tokens: 16}}
{partition}input: {{path: "{input}", id: review_id}}
prompt:
  system: You label product reviews. Answer with one word.
  user: {{template: templates/sentiment.j2}}
vars: {{labels: [positive, negative, mixed]}}
output: {{path: "{output}"}}
"""


def day_of(number: int) -> str:
    """Return the partition of a day, counted from 0."""
    return (FIRST + timedelta(days=number)).isoformat()


def make_year(root: Path, days: int, rows: int = 20) -> None:
    """Make a project at `root` with `days` committed days, and its store. Nothing is left for `apply` to do."""
    _write_specs(root, rows)
    project = load(root=root, variables={"date": day_of(0)})
    with open_project(project) as opened:
        for spec in project.jobs:
            opened.context._apis[realm_of(spec)] = Instant(root / "service")  # noqa: SLF001
        outcomes = opened.apply(opened.plan(project.jobs))
        stores = {spec.job.name: opened.context.realm(spec).results for spec in project.jobs}
    if any(one.end != "succeeded" for one in outcomes):
        raise SystemExit("\n".join(one.message for one in outcomes))
    shutil.rmtree(root / "service")
    jobs = [_Job(root, spec, days, stores[spec.job.name]) for spec in project.jobs]
    for left in (root / project.settings.store).glob("ledger.db*"):
        left.unlink()  # it has the first day's real batches; the lockfiles name others
    _commit(root, jobs, days)


def _write_specs(root: Path, rows: int) -> None:
    files = {
        "batchspec.yaml": f"version: 1\nproject: {_PROJECT}\n",
        "templates/sentiment.j2": TEMPLATE,
        ".gitignore": ".batchspec/\nservice/\n",
        "specs/nightly.yaml": _SPEC.format(
            name="nightly",
            partition="partition: [date]\n",
            input="data/{{ vars.date }}.jsonl",
            output="out/nightly/{{ vars.date }}.jsonl",
        ),
    }
    for name in PLAIN:
        text = _SPEC.format(name=name, partition="", input="data/reviews.jsonl", output=f"out/{name}.jsonl")
        files[f"specs/{name}.yaml"] = text
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "data").mkdir()
    write_rows(root / "data" / "reviews.jsonl", rows)
    shutil.copyfile(root / "data" / "reviews.jsonl", root / "data" / f"{day_of(0)}.jsonl")


class _Job:
    """The lockfile of one job as it grows, a day at a time. `lines` has the bytes of each line, in order of writing."""

    def __init__(self, root: Path, spec: JobSpec, days: int, store: ResultStore) -> None:
        self.lock_path = spec.lock_path
        self._root = root
        self._spec = spec
        self._days = days
        self._store = store
        self._read = YamlFiles(root)
        lockfile = parse((root / spec.lock_path).read_bytes(), spec.lock_path, _PROJECT)
        (self._pins,) = lockfile.pins.values()
        (self._batch,) = lockfile.batches.values()
        (self._output,) = lockfile.outputs.values()
        self._answers = (root / spec.job.output.path).read_bytes()
        self._raw = store.raw(self._batch.batch)[0].read_bytes()
        self._index = store.load(self._batch.batch)
        self._lockfile = Lockfile(_PROJECT)
        self._dumped: dict[str, bytes] = {}

    def add(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Add a day; yield the files that its commit changes, with their bytes."""
        spec, pins = self._of_day(number)
        made = datetime.combine(FIRST, time(2), UTC) + timedelta(days=number)
        name = f"batch-{number:05d}-{spec.job.name}"
        batch = self._batch.model_copy(
            update={
                "batch": name,
                "job": spec.address,
                "pins": pins.pins,
                "request_id": hashlib.sha256(name.encode()).hexdigest()[:32],
                "created_at": made.isoformat().replace("+00:00", "Z"),
                "ended_at": (made + timedelta(minutes=20)).isoformat().replace("+00:00", "Z"),
            }
        )
        answers = self._answers.replace(self._batch.batch.encode(), name.encode())
        digest = hashlib.sha256(answers).hexdigest()
        path = spec.job.output.path
        fields = {"output": path, "job": spec.address, "digest": digest, "batches": (name,), "pins": pins.pins}
        line = self._output.model_copy(update=fields)
        self._lockfile = self._lockfile.with_pins(pins).with_batches([batch]).with_output(line)
        yield path, answers
        yield self.lock_path, self._text((pins, batch, line))
        self._keep(name)

    def check(self) -> None:
        """Check that the lines put together here are the lockfile's bytes."""
        assert self._text(()) == self._lockfile.text()

    def _of_day(self, number: int) -> tuple[JobSpec, PinsLine]:
        """Return the job of a day, and its pins. The input that is here is that of a plain job's last day."""
        if not self._spec.partition:
            if number == self._days - 1:
                return self._spec, self._pins
            digest = hashlib.sha256(b"%d" % number).hexdigest()
            return self._spec, self._pins.model_copy(update={"pins": digest[:16], "input_digest": digest})
        paths, given = [self._root / self._spec.file], {"date": day_of(number)}
        loaded = load_project(self._root, paths, variables=given, provider=None, environ={}, read=self._read)
        (spec,) = loaded.jobs
        first = self._pins
        found = pins_of(spec, first.templates, first.input_digest, first.rows, first.requests)
        content = {"job": spec.address, "input": found.input_path, "spec": found.spec, "parts": found.parts}
        digest = hashlib.sha256(spec.address.encode()).hexdigest()[:16] if number else first.pins
        return spec, first.model_copy(update={"pins": digest, **content})

    def _text(self, lines: tuple[PinsLine | BatchLine | OutputLine, ...]) -> bytes:
        """Return the bytes of `Lockfile.text`, without making the bytes of old lines again."""
        for line in lines:
            kind = _kind(line)
            self._dumped[f"{_ORDER[kind]} {getattr(line, kind)}"] = dump_line(line)
        current = dict(sorted(self._lockfile.current.items()))
        header = dump_line(Header(lockfile=2, keys="k1", project=_PROJECT, current=current))
        return header + b"".join(self._dumped[name] for name in sorted(self._dumped))

    def _keep(self, batch: str) -> None:
        """Put the results of a batch into the store."""
        assert self._index is not None
        if batch == self._batch.batch:
            return
        self._store.raw(batch)[0].write_bytes(self._raw)
        self._store.save(batch, self._index.entries.all(), replace(self._index.summary))


_ORDER = {"pins": 1, "batch": 2, "output": 3}


def _kind(line: PinsLine | BatchLine | OutputLine) -> str:
    return {PinsLine: "pins", BatchLine: "batch", OutputLine: "output"}[type(line)]


def _commit(root: Path, jobs: list[_Job], days: int) -> None:
    """Commit the specs, then each day. Leave the last day checked out."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
    command = ["git", "-C", str(root), "-c", "core.compression=1", "fast-import", "--quiet"]
    importing = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert importing.stdin is not None
    out = importing.stdin
    tracked = [
        path for path in sorted(root.rglob("*")) if path.is_file() and path.relative_to(root).parts[0] in _SOURCES
    ]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in tracked if path.suffix != ".lock"}
    changed: dict[str, bytes] = files
    for number in range(-1, days):
        if number >= 0:
            changed = dict(one for job in jobs for one in job.add(number))
        when = int(datetime.combine(FIRST, time(3), UTC).timestamp()) + 86_400 * number
        subject = b"Answers of %b" % day_of(number).encode() if number >= 0 else b"Start"
        out.write(b"commit refs/heads/main\ncommitter Tester <tester@example.com> %d +0000\n" % when)
        out.write(b"data %d\n%b\n" % (len(subject), subject))
        for name, data in changed.items():
            out.write(b"M 100644 inline %b\ndata %d\n%b\n" % (name.encode(), len(data), data))
    out.close()
    if importing.wait():
        raise SystemExit("git fast-import failed")
    for job in jobs:
        job.check()
    subprocess.run(["git", "-C", str(root), "reset", "--quiet", "--hard"], check=True)


_SOURCES = frozenset({"batchspec.yaml", ".gitignore", "specs", "templates", "data"})


if __name__ == "__main__":
    make_year(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 20)
