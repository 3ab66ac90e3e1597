"""An apply, a plan and an output take as much memory, and as many open files, for many batches as for few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.executor.conftest import Team
from tests.executor.crash import service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# Groups of keys, blocks of rows and pieces of files are made small, so that few rows have many of them.
CHILD = """
import json, resource, sys
from datetime import timedelta
from pathlib import Path
import runner.outputs.writer as write, runner.outputs.index as index
import runner.planner.spool.sort as buckets, runner.planner.input.chunks as records, runner.planner.spool.spool as spool
buckets.RUN_RECORDS = spool.RUN_RECORDS = spool.BLOCK_OCCURRENCES = 2048
records.CHUNK_BYTES = index._BLOCK = 1 << 16
write._PIECE = 512
from runner.api import load, open_project
from runner.executor import job_run
from runner.executor import poll
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
poll.MIN_INTERVAL["digitalocean"] = 0.05
CONSISTENCY_WINDOW["digitalocean"] = 0.0
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
def resident():
    # The highest resident set since the last call, in kilobytes: the kernel forgets it then.
    found = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(found.split()[1])
phases = {}
def writing(*arguments, _write=job_run.write_output, **named):
    phases["apply"] = resident()
    written = _write(*arguments, **named)
    phases["output"] = resident()
    return written
job_run.write_output = writing
project = load(root=Path.cwd())
with open_project(project, jobs=1) as opened:
    planned = opened.plan(project.jobs)
    if sys.argv[2] == "plan":
        phases["plan"] = resident()
        print(json.dumps([phases, planned.plan.jobs[0].tally.answered]))
    else:
        [outcome] = opened.apply(planned, timeout=timedelta(seconds=300))
        print(json.dumps([phases, outcome.end, outcome.message, outcome.submitted]))
"""


@pytest.fixture(scope="module")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of these tests' own: their batches would make every other test's list long."""
    with service(tmp_path_factory.mktemp("service")) as url:
        yield url


def applied(team: Team, rows: int, in_each: int, *, files: int) -> dict[str, int]:
    """The kilobytes that each phase takes, of a process that may have so many `files` open."""
    team.write("data/rows.jsonl", "".join(f'{{"id": {number}, "text": "{number}"}}\n' for number in range(rows)))
    team.spec("job", f"shards: {{max_requests: {in_each}}}")
    kilobytes, *said = ran(team, "apply", files)
    assert said == ["succeeded", "", rows]
    assert len(team.lines("batch")) == -(-rows // in_each)
    assert (team.root / "out/job.jsonl").read_bytes().count(b"\n") == rows
    planned, *said = ran(team, "plan", files)
    assert said == [rows]
    return {**kilobytes, **planned}


def ran(team: Team, verb: str, files: int) -> Any:
    command = [sys.executable, "-c", CHILD, str(files), verb]
    # One heap for all threads: how many there would be depends on what else the machine does.
    environ = {**os.environ, **team.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, cwd=team.root, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(team: Callable[[str], Team]) -> None:
    """Forty thousand rows more, in twenty batches more, may take 2.3 MB: of that the batches' own records take half.
    Their keys and where their answers lie are 63 bytes a row, 2.5 MB, and may not all be in memory at once."""
    few, many = (applied(team(f"flat-{rows}"), rows, 2_000, files=1024) for rows in (8_000, 48_000))
    grown = {phase: many[phase] - few[phase] for phase in many}
    assert all(kilobytes < 2_300 for kilobytes in grown.values()), grown


@pytest.mark.slow
def test_more_batches_than_files_may_be_open(team: Callable[[str], Team]) -> None:
    """An index and the shard's keys for each of sixty batches, in a process that may have 100 files open."""
    applied(team("files"), 120, 2, files=100)
