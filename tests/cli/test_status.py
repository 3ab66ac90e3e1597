"""Status: one line a job whatever the width and the number of jobs, and nothing that matters cut off."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.operations.status import BatchStatus, JobStatus, Tokens, throughput
from runner.providers.protocol import Counts, RemoteBatch
from runner.reconciler.observe.batches import BatchRecord, to_lockfile_line
from runner.views.job_table import time_text
from runner.views.status_table import details, line, status_view
from tests.cli_runner import cli_path, run_cli
from tests.conftest import SPEC
from tests.sampling import sampled

BATCH = BatchStatus("5c0e9a55-2f3b-4a1e-9d0c-1f2e3d4c5b6a", "in_progress", False, 50_000, 12_345, 17, 2, True, 12.5)
JOB = JobStatus(
    "a-job-with-a-name-that-is-as-long-as-names-may-be-and-then-some-[date=2026-11-23]", "local:echo", "in_progress",
    50_000, 12_345, 17, 1_234.5, 1_800, (BATCH,), "out/x.jsonl: not written", True, Tokens(1, 2, 3, None), 12.5, 14.0,
)  # fmt: skip
DONE = replace(JOB, address="done", state="done", batches=(replace(BATCH, ended=True, state="completed"),), left=None)


def shown(renderable: Any, width: int, *, terminal: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=terminal, color_system="standard" if terminal else None).print(
        renderable
    )
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_what_a_job_does_is_whole_at_any_width(width: int) -> None:
    text = shown(status_view([JOB, DONE]), width)
    assert max(map(len, text.splitlines())) <= width
    for fact in ("in_progress", "12,345/50,000", "17", "1,234/min", "30 min", "$12.50"):
        assert fact in text
    told = shown(details(JOB, Path("/p"), "specs/x.lock", links=False), width)
    assert max(map(len, told.splitlines())) <= width
    for fact in (BATCH.batch, "in_progress", "12,345/50,000", "$12.50", "in 1 (3 estimated), out 2"):
        assert fact in told


@pytest.mark.parametrize("width", range(30, 121))
def test_no_number_is_cut_to_look_like_another(width: int) -> None:
    """Where there is no room ids are folded, and columns left out with their heads."""
    batches = [
        replace(BATCH, state="completed", ended=True, adopted=False, cost=0.000016, round=number, completed=completed)
        for number, completed in ((1, 49_983), (2, 17))
    ]
    lines = shown(
        details(replace(JOB, address="a", batches=tuple(batches)), Path("/p"), "specs/x.lock", links=False), width
    )
    table = lines[lines.index("batch") :]
    columns = table.splitlines()[0].split()
    assert set(columns) <= {"batch", "state", "answered", "failed", "cost"}
    assert table.count("$0.000016") == table.count("$") == (2 if "cost" in columns else 0)
    assert (
        table.count("17/50,000") == table.count("/50,000") - table.count("49,983/50,000") == columns.count("answered")
    )
    assert width < 60 or columns == ["batch", "state", "answered", "failed", "cost"]
    text = shown(status_view([replace(JOB, state="2 in_progress, 1 queued", cost=0.000016), DONE]), width).split(
        "\n\n"
    )[0]
    heads = text.splitlines()[0].split()
    assert set(heads) <= {"job", "state", "answered", "failed", "rate", "left", "cost"}
    assert ("$0.000016" in text) == ("cost" in heads)
    assert ("12,345/50,000" in text) == ("answered" in heads)


def test_where_there_is_no_terminal_no_line_is_broken(project: Callable[..., Path]) -> None:
    name = "a-job-with-a-name-that-is-as-long-as-names-may-be-and-then-some"
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", f"name: {name}\nprovider: local")})
    batchspec(root, "apply", "--yes")
    told = batchspec(root, "status", COLUMNS="40")
    assert re.search(rf"^{name} +done +3/3 ", told, re.MULTILINE)
    assert re.search(r"^\S{36} +completed +3/3 +\$0\.0000\d+$", told, re.MULTILINE)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 24), (80, 10), (80, 60)])
def test_many_jobs_fit_on_the_screen_the_running_ones_first(width: int, height: int) -> None:
    jobs = [replace(DONE, address=f"done-{n}") for n in range(30)]
    jobs += [replace(JOB, address=f"{JOB.address}[n={n}]") for n in range(10)]
    text = shown(status_view(jobs, height=height), width)
    lines = text.splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    room = min(height - 6, 40)
    assert text.count("in_progress") == min(room, 10)
    assert re.search(r"…\S*\[n=0\]", lines[2]) or "[n=0]" in lines[2], "the end of a name tells jobs of a matrix apart"
    if room < 40:
        assert f"… and {40 - room} more:" in text
    assert "40 jobs: 30 done, 10 running" in text


def test_a_line_of_a_log_and_the_sum() -> None:
    assert line(replace(JOB, address="a")) == (
        "a: in_progress, 12,345 of 50,000 answered, 17 failed, 30 min left, $12.50"
    )
    assert line(replace(JOB, address="a", requests=0, answered=0, failed=0, left=None, cost=None, state="x")) == "a: x"
    told = "2 jobs: 1 done, 1 running, 24,690 of 100,000 answered, 34 failed, $25.00 in total"
    assert shown(status_view([JOB, DONE]), 200).splitlines()[-1] == told


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5_399, "90 min"), (5_400, "2 h"), (200_000, "2 d")]
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_links_stand_only_where_they_were_asked_for() -> None:
    linked = shown(details(DONE, Path("/p"), "specs/x.lock", links=True), 200, terminal=True)
    assert f";file://{socket.gethostname()}/p/out/x.jsonl\x1b\\" in linked
    assert f";file://{socket.gethostname()}/p/specs/x.lock\x1b\\" in linked
    assert "\x1b]8" not in shown(details(DONE, Path("/p"), "specs/x.lock", links=False), 200, terminal=True)


def running(done: int, total: int, minutes: int) -> BatchRecord:
    created = NOW - timedelta(minutes=minutes)
    remote = RemoteBatch(
        "b", "in_progress", "f", "openai", "", "", {}, Counts(total, done, 0), None, (), created, None, None
    )
    return BatchRecord(
        to_lockfile_line(remote, "job", "realm", None), remote, forgotten=False, adopted=False, index=None, keys=None
    )


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_the_rate_is_that_of_the_running_batches_and_gives_the_time_left() -> None:
    rate, left = throughput([running(300, 1_000, 10), running(0, 500, 1)], 1_200, NOW)
    assert rate == pytest.approx(30)
    assert left == pytest.approx(2_400)
    assert throughput([running(0, 500, 1)], 500, NOW) == (None, None)
    assert throughput([], 0, NOW) == (None, None)


def batchspec(root: Path, *arguments: str, expect: int = 0, **environ: str) -> str:
    done = run_cli(arguments, cwd=root, env={**os.environ, **environ})
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def test_from_not_started_to_done(project: Callable[..., Path]) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    assert "not started" in batchspec(root, "status")
    batchspec(root, "apply", "--yes", "--no-wait")
    assert json.loads(batchspec(root, "status", "--offline", "--json").splitlines()[-1])["state"] == "submitted"
    told = batchspec(root, "status", "--watch")
    assert re.search(r"hello +to fetch +3/3 ", told)
    batchspec(root, "apply", "--yes")
    told = batchspec(root, "status")
    assert re.search(r"hello +done +3/3 ", told)
    assert "lockfile  specs/hello.lock" in told
    assert re.search(r"tokens +in 51 \(51 estimated\), out \d+ \(at most 192\)", told)
    assert re.search(r"cost +\$0.0000\d+, at most \$0.000062 planned", told)
    (root / "out/hello.jsonl").unlink()
    told = batchspec(root, "status")
    assert "unfinished" in told
    assert "out/hello.jsonl: not written" in told


CHECKED = SPEC.replace("name: hello", "name: hello\nprovider: local\nschema: schemas/s.json")
SCHEMA = '{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}'


@pytest.mark.parametrize(
    ("output", "state", "counts"),
    sampled(
        [
            pytest.param("{path: out/hello.jsonl}", "failed", (0, 3), id="usual"),
            pytest.param("{path: out/hello.csv.gz}", "failed", (0, 3), id="csv, packed"),
            pytest.param("{path: out/hello.jsonl, errors: out/bad.jsonl}", "failed", (0, 3), id="failed rows apart"),
            pytest.param("{path: out/hello.jsonl, include: [parsed, error]}", "failed", (0, 3), id="without batches"),
            pytest.param("{path: out/hello.jsonl, include: [text]}", "written", (3, 0), id="it does not tell"),
            pytest.param("{path: out/hello.jsonl}\ntolerate: 100%", "done", (0, 3), id="tolerated"),
            pytest.param("{path: out/hello.jsonl}\ntolerate: 2", "failed", (0, 3), id="more than tolerated"),
        ],
        2,
    ),
)
def test_a_job_whose_answers_do_not_fit_is_not_done(
    project: Callable[..., Path], output: str, state: str, counts: tuple[int, int]
) -> None:
    spec = CHECKED.replace("output: {path: out/hello.jsonl}", f"output: {output}")
    root = project({"specs/hello.yaml": spec, "schemas/s.json": SCHEMA})
    batchspec(root, "apply", "--yes", expect=0 if state == "done" else 3)
    told = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    assert (told["state"], told["answered"], told["failed"]) == (state, *counts)


@pytest.mark.slow
def test_what_failed_in_an_earlier_run_is_counted_among_all_that_were_asked(project: Callable[..., Path]) -> None:
    """A later run asks one more row only; the job is failed for what stands failed of all."""
    root = project({"specs/hello.yaml": CHECKED, "schemas/s.json": SCHEMA})
    batchspec(root, "apply", "--yes", expect=3)
    rows = root / "data/rows.jsonl"
    rows.write_text(rows.read_text() + '{"id": 99, "text": "one more"}\n')
    batchspec(root, "apply", "--yes", expect=3)
    told = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    assert (told["state"], told["requests"], told["answered"], told["failed"]) == ("failed", 4, 0, 4)


@pytest.mark.slow
def test_answers_of_all_runs_are_counted_and_paid(project: Callable[..., Path]) -> None:
    """A later run asks one more row; the output has all, and all have cost something."""
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    batchspec(root, "apply", "--yes")
    rows = root / "data/rows.jsonl"
    rows.write_text(rows.read_text() + '{"id": 99, "text": "one more"}\n')
    batchspec(root, "apply", "--yes")
    told = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    assert (told["state"], told["requests"], told["answered"], told["failed"]) == ("done", 4, 4, 0)
    assert [batch["requests"] for batch in told["batches"]] in ([1, 3], [3, 1])
    assert told["cost"] == pytest.approx(sum(batch["cost"] for batch in told["batches"]), abs=1e-9)
    assert re.search(r"hello +done +4/4 ", batchspec(root, "status"))


@pytest.mark.slow
def test_batches_that_were_adopted_are_counted_and_paid(project: Callable[..., Path]) -> None:
    """Nothing says what they were made from; they were one run all the same."""
    spec = SPEC.replace("name: hello", "name: hello\nprovider: local\nshards: {max_requests: 1}")
    root = project({"specs/hello.yaml": spec})
    batchspec(root, "apply", "--yes", "--no-wait")
    (root / "specs/hello.lock").unlink()
    (root / ".batchspec/ledger.db").unlink()
    batchspec(root, "apply", "--yes")
    told = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    assert (told["state"], told["requests"], told["answered"], len(told["batches"])) == ("done", 3, 3, 3)
    assert told["cost"] == pytest.approx(sum(batch["cost"] for batch in told["batches"]), abs=1e-9)


def test_rounds_of_one_moment_stand_in_their_order(project: Callable[..., Path]) -> None:
    """A service tells seconds, so that a batch and its retry may have one time."""
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    batchspec(root, "apply", "--yes")
    lock = root / "specs/hello.lock"
    [line] = [text for text in lock.read_text().splitlines() if text.startswith('{"batch"')]
    batch = json.loads(line)["batch"]
    again = line.replace(batch, "!").replace('"round":1', '"round":2')
    lock.write_text(lock.read_text().replace(line, f"{line}\n{again}"))
    told = json.loads(batchspec(root, "status", "--offline", "--json").splitlines()[-1])
    assert [(one["batch"], one["round"]) for one in told["batches"]] == [(batch, 1), ("!", 2)]


@pytest.mark.slow
def test_a_job_that_stopped_at_its_canary_is_not_done(project: Callable[..., Path]) -> None:
    """Also where the output of an earlier run is there, whole: it is not this run's. The sum is that of all runs."""
    root = project({"specs/hello.yaml": CHECKED + "tolerate: 3\n", "schemas/s.json": SCHEMA})
    batchspec(root, "apply", "--yes")
    first = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    spec = CHECKED.replace("Say", "Shout") + "tolerate: 3\ncanary: {requests: 1, max_invalid: 0}\n"
    (root / "specs/hello.yaml").write_text(spec)
    batchspec(root, "apply", "--yes", expect=1)
    told = json.loads(batchspec(root, "status", "--json").splitlines()[-1])
    assert (told["state"], told["answered"], told["requests"]) == ("stopped", 1, 3)
    assert told["output"] == "out/hello.jsonl: 3 rows, of an earlier run"
    shown = " ".join(batchspec(root, "status").split())
    assert told["cost"] == pytest.approx(sum(batch["cost"] for batch in told["batches"]), abs=1e-9)
    assert told["cost"] > first["cost"]
    assert f"${told['cost']:f}"[:9] + " in total" in shown


@pytest.mark.slow
def test_a_service_that_does_not_answer_hides_nothing_of_the_lockfile(project: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = "version: 1\nproject: tests\nproviders:\n  far: {kind: digitalocean, base_url: 'http://127.0.0.1:%d'}\n"
    far = SPEC.replace("name: hello", "name: far\nprovider: far").replace("out/hello", "out/far")
    near = SPEC.replace("name: hello", "name: near\nprovider: local").replace("out/hello", "out/near")
    root = project(
        {"batchspec.yaml": settings % port, "specs/hello.yaml": far, "specs/near.yaml": near},
    )
    batchspec(root, "apply", "--yes", "--job", "near")
    told = batchspec(root, "status", expect=1, MODEL_ACCESS_KEY="k")
    assert re.search(r"near +done +3/3 ", told)
    assert re.search(r"far +not started \(!\)", told)
    assert "(!) far: " in told


def test_interrupted_while_it_watches_it_leaves_a_clean_screen(project: Callable[..., Path]) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    batchspec(root, "apply", "--yes", "--no-wait", BATCHSPEC_SERVICE_FAULTS="stuck-validating=1:60")
    seen, code = watched(root, ["status", "--watch"], "validating", {**os.environ, "TERM": "xterm-256color"})
    assert code == 130
    assert "\x1b[?1049h" in seen
    left = seen[seen.rindex("\x1b[?1049l") :]
    assert "\x1b[?25h" in seen[seen.rindex("\x1b[?25l") :], "the cursor is back"
    assert "validating" not in left


def test_apply_interrupted_leaves_a_clean_screen(project: Callable[..., Path]) -> None:
    """Its table is erased before anything is said, and the cursor was there all the time."""
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    said = {"TERM": "xterm-256color", "BATCHSPEC_SERVICE_FAULTS": "stuck-validating=1:60"}
    environ = {name: value for name, value in {**os.environ, **said}.items() if name != "CI"}
    seen, code = watched(root, ["apply", "--yes"], "1 job running", environ, errors=True)
    assert code == 130
    assert "1 job running, 0 of 3 answered" in seen
    assert re.search(r"(\x1b\[J|^)[^\n]*service\.makes_trouble", seen), "what others say stands above the table"
    left = seen[seen.rindex("\x1b[J") :]
    assert "Interrupted. Everything known is on disk." in left
    assert "validating" not in left
    assert "\x1b[?25l" not in seen


def watched(
    root: Path, arguments: Sequence[str], word: str, environ: dict[str, str], *, errors: bool = False
) -> tuple[str, int]:
    """What a terminal gets of a command that is interrupted once `word` is on it; and the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [cli_path(), *arguments],
        cwd=root, env=environ, stdin=theirs,
        stdout=subprocess.DEVNULL if errors else theirs, stderr=theirs if errors else subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    seen, sent, until = "", False, time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 65_536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
        if word in seen and not sent:
            process.send_signal(signal.SIGINT)
            sent = True
    code = process.wait(timeout=60)
    os.close(ours)
    return seen, code
