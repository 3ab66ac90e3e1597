"""Rendering at any number of processes: the same bytes, memory and files that do not grow with the rows, clean ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from runner.errors import InputError, WorkerError
from runner.jobspec.loader import Project
from runner.planner.input.parse import Chunk
from runner.planner.input.source import read_chunks
from runner.planner.input.streams import InputFiles
from runner.planner.render import render_job
from runner.planner.requests.layout import build_layout
from runner.planner.requests.worker_pool import WorkerPool
from runner.planner.spool.spool import Part
from runner.planner.templates.environment import LoadedTemplate, Templates
from tests.sampling import sampled

SPEC = """\
version: 1
name: big
model: m
input: {path: data/rows.jsonl, id: id}
prompt: {system: "{{ vars.who }}", user: {template: templates/t.j2}}
vars: {who: You are careful.}
shards: {max_requests: 1000}
output: {path: out/big.jsonl}
"""
TEMPLATE = "{% include 'part-' ~ (n % 2) ~ '.j2' %}\n{{ text }}"
ROWS = 20_000


def files(count: int, text: str = "é" * 230, extra: str = "") -> dict[str, str]:
    rows = "".join(f'{{"id": "r{n}", "n": {n}, "text": "{n % 7} {text}"}}\n' for n in range(count))
    return {
        "specs/hello.yaml": SPEC,
        "templates/t.j2": TEMPLATE,
        "templates/part-0.j2": "even {{ n }}",
        "templates/part-1.j2": "odd {{ n }}",
        "data/rows.jsonl": rows + extra,
    }


RENDER = """
import hashlib, json, sys
from pathlib import Path
from runner.planner.render import render_job
from runner.jobspec.loader import load_project
project = load_project(Path(sys.argv[1]), variables={}, provider="local", environ={})
desired = render_job(project.jobs[0], project.root, Path(sys.argv[2]), jobs=int(sys.argv[3]))
lines, ids = (hashlib.sha256(b"".join(found)).hexdigest() for found in (desired.spool.lines(), desired.spool.ids()))
print(json.dumps([desired.pins.requests, desired.pins.templates, desired.pins.input_digest, lines, ids]))
"""


@pytest.mark.slow
def test_the_bytes_are_the_same_at_any_jobs_and_hash_seed(project: Callable[..., Path], tmp_path: Path) -> None:
    root = project(files(ROWS))

    def rendered(jobs: int, seed: str) -> object:
        scratch = tmp_path / f"scratch-{jobs}-{seed}"
        done = subprocess.run(
            [sys.executable, "-c", RENDER, str(root), str(scratch), str(jobs)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (scratch / "lines-0").exists() == (jobs > 1), "the input is large enough for workers"
        return json.loads(done.stdout)

    first = rendered(1, "0")
    assert [rendered(2, "1"), rendered(4, "2")] == [first, first]
    assert isinstance(first, list)
    assert list(first[1]) == ["templates/part-0.j2", "templates/part-1.j2", "templates/t.j2"]


@pytest.mark.slow
def test_problems_are_the_same_at_any_jobs(load: Callable[..., Project], tmp_path: Path) -> None:
    """Their order, their lines and the bound are the parent's."""
    extra = "".join(f'{{"id": "x{n}", "n": 1}}\n' for n in range(15)) + "[]\n"
    content = files(ROWS, extra=extra)
    lines = content["data/rows.jsonl"].splitlines(keepends=True)
    lines[100] = "no json\n"
    lines[15_000:15_010] = ['{"id": "y"}\n'] * 10
    loaded = load({**content, "data/rows.jsonl": "".join(lines)})
    found = []
    for jobs in (1, 2):
        with pytest.raises(InputError) as caught:
            render_job(loaded.jobs[0], loaded.root, tmp_path / str(jobs), jobs=jobs)
        found.append(caught.value.problems)
    assert found[0] == found[1]
    assert len(found[0]) == 21
    assert found[0][-1].message == "and 7 more rows with problems"


def test_rows_without_ids_are_numbered_over_all_chunks(load: Callable[..., Project], tmp_path: Path) -> None:
    """A worker does not know how many rows came before its chunk; the number in a message is right all the same."""
    content = files(ROWS, extra="\n\n" + '{"n": 1}\n')
    loaded = load({**content, "specs/hello.yaml": SPEC.replace(", id: id", "")})
    for jobs in (1, 2):
        with pytest.raises(InputError, match=rf"rows\.jsonl:{ROWS + 3}: row {ROWS + 1}: templates/t\.j2"):
            render_job(loaded.jobs[0], loaded.root, tmp_path / str(jobs), jobs=jobs)


def _killing(running: WorkerPool, chunks: Iterable[Chunk]) -> Iterator[Part]:
    for part in running.render(chunks):
        running.processes[0].kill()
        yield part


def workers(load: Callable[..., Project], tmp_path: Path) -> tuple[Project, WorkerPool, Templates]:
    loaded = load(files(ROWS))
    shape = build_layout(loaded.jobs[0])
    templates = Templates(loaded.root, shape.variables)
    return loaded, WorkerPool(2, shape, templates, loaded.root, tmp_path), templates


def test_a_worker_that_dies_is_an_error_with_a_sentence(load: Callable[..., Project], tmp_path: Path) -> None:
    loaded, running, _ = workers(load, tmp_path)
    spec = loaded.jobs[0]
    chunks = read_chunks(loaded.root, spec, InputFiles())
    with running, pytest.raises(WorkerError, match="was killed by signal 9 before it finished") as caught:
        list(_killing(running, chunks))
    assert "--jobs 1" in caught.value.hint
    assert caught.value.code == "BS210"
    assert all(process.poll() is not None for process in running.processes)


def test_a_template_that_changes_meanwhile_is_an_error(load: Callable[..., Project], tmp_path: Path) -> None:
    """A name that is computed is loaded by each worker, when its row comes."""
    loaded, running, templates = workers(load, tmp_path)
    spec = loaded.jobs[0]
    chunks = read_chunks(loaded.root, spec, InputFiles())
    templates.add_loaded(
        {"part-0.j2": LoadedTemplate("another text", "templates/part-0.j2", hashlib.sha256().hexdigest())}
    )
    with running, pytest.raises(InputError, match=r"templates/part-0\.j2: the template changed"):
        list(running.render(chunks))


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
@pytest.mark.parametrize("number", sampled([signal.SIGINT, signal.SIGKILL], 1), ids=["Ctrl-C", "killed"])
def test_no_worker_outlives_its_parent(project: Callable[..., Path], number: signal.Signals) -> None:
    root = project(files(12 * ROWS, text="e" * 60))
    command = [sys.executable, "-m", "runner", "plan", "--offline", "--jobs", "2"]
    running = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    children: list[int] = []
    while len(children) < 2:
        assert running.poll() is None, running.communicate()
        children = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        time.sleep(0.01)
    if number is signal.SIGINT:
        os.killpg(running.pid, number)  # as a terminal does: to everyone
    else:
        running.kill()
    _, said = running.communicate(timeout=60)
    if number is signal.SIGINT:
        assert running.returncode == 130
        assert b"Traceback" not in said
    while any(_lives(pid) for pid in children):
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# Blocks are made small, so that inputs that are rendered in a second have many of them.
MEASURE = """
import sys
from pathlib import Path
import runner.planner.spool.sort as buckets, runner.planner.input.chunks as records, runner.planner.spool.spool as spool
buckets.RUN_RECORDS = spool.RUN_RECORDS = spool.BLOCK_OCCURRENCES = 4096
records.CHUNK_BYTES = 1 << 16
from functools import partial
from runner.reconciler.plan.classify_job import classify_job, wanted_round
from runner.planner.render import render_job
from runner.planner.shards import measure
from runner.jobspec.loader import load_project
project = load_project(Path(sys.argv[1]), variables={}, provider="local", environ={})
opened = 0
def count(event, arguments):
    global opened
    opened += event == "open" and sys.argv[2] in str(arguments[0])
sys.addaudithook(count)
spec, scratch = project.jobs[0], Path(sys.argv[2])
desired = render_job(spec, project.root, scratch, jobs=1)
judged = classify_job(desired, (), {})
[(number, requests)] = judged.tally.submit
shards = measure(desired.spool, spec.job.shards, partial(wanted_round, number))
written = int(next(line for line in open("/proc/self/io") if line.startswith("wchar")).split()[1])
resident = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(resident, opened, written, requests, sum(b for _, b in shards))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts are read from /proc")
@pytest.mark.slow
def test_memory_and_files_do_not_grow_with_the_rows(project: Callable[..., Path], tmp_path: Path) -> None:
    """Keys, ids, order, verdicts and shards included. Six times the rows, 200,000 more, may take one megabyte more:
    a byte string for each key would take eleven."""

    def measured(rows: int) -> list[int]:
        root = project(files(rows, text="e"), folder=f"of-{rows}")
        scratch = tmp_path / f"scratch-{rows}"
        command = [sys.executable, "-c", MEASURE, str(root), str(scratch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    few, many = 40_000, 240_000
    small, large = measured(few), measured(many)
    assert [small[3], large[3]] == [few, many]
    assert large[0] - small[0] < 1_024, "kilobytes"
    # Two files are opened for each run, which is at least half full; all others a fixed number of times.
    assert large[1] - small[1] <= 2 * (many - few) // 2048 + 2
    # Lines once; for each row 46 bytes, its id, and 28 + 28 + 24 bytes by key and by id, and 32 of verdict.
    assert large[2] < large[4] + many * (46 + 10 + 28 + 28 + 24 + 32) + 1_000_000
