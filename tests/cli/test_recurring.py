"""Jobs that recur: commands that look at a partitioned job know its partitions, and specs that left are still reached."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli_runner import run_cli
from tests.conftest import ROWS, SPEC

Write = Callable[..., Path]
DAILY = (
    SPEC.replace("name: hello", "name: daily\nprovider: local\npartition: date")
    .replace("data/rows.jsonl", '"data/{{ vars.date }}.jsonl"')
    .replace("out/hello.jsonl", '"out/{{ vars.date }}.jsonl"')
)
LOCAL = SPEC.replace("name: hello", "name: hello\nprovider: local")
DAYS = ("2026-11-23", "2026-11-24")


def batchspec(root: Path, *arguments: str, expect: int = 0, **environ: str) -> str:
    done = run_cli(arguments, cwd=root, env={**os.environ, **environ})
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def daily(project: Write) -> Path:
    """A job of two days, both applied, beside one of a matrix that was applied for one of them."""
    many = DAILY.replace("name: daily", "name: both\nmatrix: {model: [gpt-4o, gpt-4o-mini]}")
    many = many.replace('"out/', '"out/{{ model }}/').replace("\nmodel: gpt-4o-mini", "\nmodel: gpt-4o")
    root = project({"specs/hello.yaml": DAILY, "specs/both.yaml": many, **{f"data/{day}.jsonl": ROWS for day in DAYS}})
    for day, *jobs in ((DAYS[0],), (DAYS[1], "--job", "daily")):
        batchspec(root, "apply", "--yes", "--var", f"date={day}", *jobs)
    return root


ALL = {
    *(f"daily[date={day}]" for day in DAYS),
    *(f"both[date={DAYS[0]},model={model}]" for model in ("gpt-4o", "gpt-4o-mini")),
}


def test_what_looks_at_a_job_shows_the_partitions_that_the_lockfile_knows(daily: Path) -> None:
    told = [json.loads(line) for line in batchspec(daily, "status", "--json").splitlines()[1:]]
    assert {(job["job"], job["state"], job["answered"]) for job in told} == {(address, "done", 3) for address in ALL}
    verified = batchspec(daily, "verify")
    assert {f"{address}: verified" for address in ALL} <= set(verified.splitlines())
    batchspec(daily, "report", "--format", "csv", "--out", "runs.csv")
    assert all(address in (daily / "runs.csv").read_text() for address in ALL)
    subprocess.run("git init -q && git add -A && git commit -qm Days", shell=True, cwd=daily, check=True)
    log = batchspec(daily, "log", "daily")
    assert all(f"daily[date={day}]\n\n" in log for day in DAYS)
    assert {entry["job"] for entry in json.loads(batchspec(daily, "log", "daily", "--json"))} == {
        f"daily[date={day}]" for day in DAYS
    }


def test_a_partition_can_be_chosen_and_without_a_word_none_is_started(daily: Path) -> None:
    def seen(*arguments: str) -> set[str]:
        return {json.loads(line)["job"] for line in batchspec(daily, "status", "--json", *arguments).splitlines()[1:]}

    assert seen("--job", "daily") == {f"daily[date={day}]" for day in DAYS}
    assert seen("--job", f"daily[date={DAYS[1]}]") == {f"daily[date={DAYS[1]}]"}
    assert seen("--var", f"date={DAYS[1]}", "--job", "daily") == {f"daily[date={DAYS[1]}]"}
    assert seen("--job", "daily[date=2026-11-25]") == {"daily[date=2026-11-25]"}
    for command in ("plan", "apply"):
        told = batchspec(daily, command)
        assert "daily: no partition is open; `apply --var` starts one\n" in told
        assert "Nothing to do" in told
    assert "say which with --var date=VALUE" in batchspec(daily, "render", expect=1)
    told = batchspec(daily, "cancel", "daily", expect=1)
    assert f"Choose one of: daily[date={DAYS[0]}], daily[date={DAYS[1]}]." in told


@pytest.mark.slow
def test_a_closed_partition_whose_input_is_gone_is_verified_by_its_output(daily: Path) -> None:
    (daily / f"data/{DAYS[0]}.jsonl").unlink()
    told = batchspec(daily, "verify", "--job", "daily")
    assert f"daily[date={DAYS[1]}]: verified\n" in told
    gone = told.partition(f"daily[date={DAYS[0]}]: verified\n")[2]
    assert gone.lstrip().startswith("closed, and only its output was checked: its input is gone")
    assert f"data/{DAYS[0]}.jsonl" in gone
    assert "done" in batchspec(daily, "status", "--job", f"daily[date={DAYS[0]}]")


EMPTY = DAILY.replace("partition: date", 'partition: date\nvars: {date: ""}')


@pytest.mark.slow
def test_an_empty_default_is_no_value_of_a_partition(project: Write) -> None:
    """As the page on schedules writes it."""
    root = project({"specs/daily.yaml": EMPTY, "specs/hello.yaml": LOCAL, f"data/{DAYS[0]}.jsonl": ROWS})
    address = f"daily[date={DAYS[0]}]"
    assert "daily: no lockfile records a partition of it yet" in batchspec(root, "status")
    batchspec(root, "validate")
    assert "Plan: 3 to submit" in batchspec(root, "plan", "--job", "hello")
    for arguments in ((), ("--var", "date=")):
        assert "daily: no partition is open; `apply --var` starts one" in batchspec(root, "plan", *arguments)
        assert "say which with --var date=VALUE [BS131]" in batchspec(root, "render", *arguments, expect=1)
    assert f"{address}: succeeded" in batchspec(root, "apply", "--yes", "--job", address)
    assert re.search(rf"^daily\[date={DAYS[0]}\] +done ", batchspec(root, "status"), re.MULTILINE)
    assert f"{address}: verified" in batchspec(root, "verify", "--job", "daily")
    batchspec(root, "report", "--format", "csv", "--out", "runs.csv")
    assert address in (root / "runs.csv").read_text()
    assert f"{address} has no running batch" in batchspec(root, "cancel", address)
    assert f"forget {address}: 1 batch" in batchspec(root, "forget", address, "--yes")


@pytest.mark.slow
def test_a_partition_with_a_default_shows_what_lockfiles_know_beside_it(project: Write) -> None:
    """Each command that looks tells of all days; what submits takes the default, or the day that is said."""
    spec = EMPTY.replace('date: ""', f'date: "{DAYS[1]}"')
    root = project({"specs/hello.yaml": spec, **{f"data/{day}.jsonl": ROWS for day in DAYS}})
    first, second = (f"daily[date={day}]" for day in DAYS)
    assert f"{first}: succeeded" in batchspec(root, "apply", "--yes", "--job", first)
    assert second not in batchspec(root, "status", "--job", first)
    told = [json.loads(line) for line in batchspec(root, "status", "--json").splitlines()[1:]]
    assert [(job["job"], job["state"]) for job in told] == [(second, "not started"), (first, "done")]
    assert f"{first}: verified" in batchspec(root, "verify", "--job", first)
    subprocess.run("git init -q && git add -A && git commit -qm Days", shell=True, cwd=root, check=True)
    assert f"{first}\n\n" in batchspec(root, "log", "daily")
    assert f"{first} has no running batch" in batchspec(root, "cancel", first)
    planned = batchspec(root, "plan")
    assert second in planned
    assert first not in planned


def test_a_mistyped_var_is_told_before_a_partition_without_a_value(project: Write) -> None:
    root = project({"specs/hello.yaml": DAILY})
    for command in ("plan", "validate"):
        told = batchspec(root, command, "--var", "dat=3", expect=1)
        assert "--var dat: no spec declares such a var (did you mean `date`?) [BS132]" in told


def test_a_job_of_no_partition_yet_is_no_error(project: Write) -> None:
    root = project({"specs/hello.yaml": DAILY})
    assert "daily: no lockfile records a partition of it yet; `apply --var` creates the first" in batchspec(
        root, "status"
    )


@pytest.fixture
def left(project: Write) -> Path:
    """A project whose only spec was removed while its batch ran, as far as the lockfile knows."""
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes", "--no-wait")
    (root / "specs/hello.yaml").unlink()
    return root


def batch(root: Path) -> dict[str, object]:
    lines = map(json.loads, (root / "specs/hello.lock").read_text().splitlines())
    [found] = (dict(line) for line in lines if "batch" in line)
    return found


@pytest.mark.slow
def test_the_last_spec_has_left_and_prune_ends_its_batch(left: Path) -> None:
    # The service may have come to the batch's end or not; both are for --prune.
    shown = rf"no spec defines this job any more\n    batch {batch(left)['batch']} (is running|has ended).*`--prune`"
    assert re.search(shown, batchspec(left, "plan"))
    assert re.search(shown, batchspec(left, "status"))
    told = batchspec(left, "forget", "hello", "--yes", expect=1)
    assert "hello has a batch that runs, or that ended at the service and is not fetched yet" in told
    batchspec(left, "apply", "--prune", "--yes")
    assert batch(left)["state"] in {"cancelled", "completed"}
    assert "forget hello: 1 batch in specs/hello.lock" in batchspec(left, "forget", "hello", "--yes")
    assert "hello" not in (left / "specs/hello.lock").read_text()


def test_the_last_spec_has_left_and_cancel_reaches_its_batch(left: Path) -> None:
    assert "The answers given so far are saved" in batchspec(left, "cancel", "hello", "--yes")
    assert batch(left)["state"] in {"cancelled", "completed"}


def test_the_last_spec_has_left_what_was_kept_apart(project: Write) -> None:
    root = project()
    batchspec(root, "apply", "--provider", "local", "--yes", "--no-wait")
    (root / "specs/hello.yaml").unlink()
    assert "no spec defines this job any more" in batchspec(root, "plan", "--provider", "local")
    batchspec(root, "apply", "--prune", "--yes", "--provider", "local")
    assert "no spec in this folder" in batchspec(root, "plan", expect=1), "beside the specs there is no lockfile"


def test_a_reader_that_goes_away_ends_a_command_quietly(project: Write) -> None:
    """More than a pipe holds, so that writing goes on when `head` has gone."""
    rows = "".join(json.dumps({"id": n, "text": "x" * 500}) + "\n" for n in range(1_000))
    root = project({"data/rows.jsonl": rows})
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m runner render -n 1000 | head -1; echo ${{PIPESTATUS[0]}}"],
        cwd=root, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"\{.*\}\n141\n", done.stdout)
    assert done.stderr == ""
