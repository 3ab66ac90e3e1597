"""A project after many days: what `log` reads of its history, counted."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bench.year import PLAIN, day_of, make_year
from runner.api import open_project
from runner.base import git
from runner.base.repository_paths import read_inside
from runner.cli.loading import load_jobs
from runner.operations.status import status_or_reason
from runner.report.history import history
from runner.report.versions import LockfileVersions
from runner.state.lockfile_parser import parse

DAYS = 12


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("year")
    make_year(root, DAYS, rows=3)
    return root


def test_log_starts_as_many_git_processes_for_all_jobs_as_for_one(year: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    popen = subprocess.Popen

    class Counted(popen):  # type: ignore[misc, valid-type]
        def __init__(self, command: list[str], **options: object) -> None:
            started.append(command)
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Counted)
    addresses = [f"nightly[date={day_of(number)}]" for number in range(DAYS)]
    found = history(year, "specs/nightly.lock", "bench", addresses)
    assert len(started) == 2  # one list of commits, one reader of all versions
    for number, address in enumerate(addresses):
        (entry,) = found[address]
        assert entry.commit is not None
        assert (entry.commit.subject, entry.rows, entry.changed) == (f"Answers of {day_of(number)}", 3, "first run")
        assert [batch.job for batch in entry.submitted] == [address]


def test_a_version_that_advanced_equals_a_version_that_was_parsed(year: Path) -> None:
    hashes = subprocess.check_output(["git", "log", "--reverse", "--format=%h"], cwd=year, text=True).split()
    datas = [one or b"" for one in git.read_blobs(year, [f"{one}:./specs/nightly.lock" for one in hashes], 1 << 20)]
    assert datas[0] == b""
    assert len(datas[-1].splitlines()) == 1 + 3 * DAYS
    # Forward, backward, and with the marks and both sides of a conflict.
    conflict = b"<<<<<<< ours\n" + datas[4] + b"=======\n" + datas[2] + b">>>>>>> theirs\n"
    versions = LockfileVersions("bench")
    for data in (*datas, *reversed(datas), conflict, datas[6]):
        versions.advance(data, "specs/nightly.lock")
        assert versions.now == parse(data, "specs/nightly.lock", "bench")


def test_a_broken_version_is_an_entry_of_every_job_and_changes_nothing_else(year: Path, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    subprocess.run(["git", "clone", "--quiet", str(year), str(root)], check=True)
    lock = root / "specs/nightly.lock"
    good = lock.read_bytes()
    for data, subject in ((good + b"{}\n", "Broken"), (good, "Restored")):
        lock.write_bytes(data)
        subprocess.run(["git", "-C", str(root), "commit", "--quiet", "-am", subject], check=True)
    addresses = [f"nightly[date={day_of(0)}]", f"nightly[date={day_of(DAYS - 1)}]"]
    for entries in history(root, "specs/nightly.lock", "bench", addresses).values():
        broken, answered = entries
        assert broken.trouble.startswith("specs/nightly.lock at ")
        assert f":{len(good.splitlines()) + 1}: not a lockfile line" in broken.trouble
        assert len(answered.submitted) == 1


def test_status_of_all_days_reads_each_lockfile_twice_at_most(year: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to find the partitions and once to show them. The store has an index of each batch, so nothing is listed."""
    reads: Counter[str] = Counter()

    def counted(root: Path, relative: str, most: int) -> bytes:
        reads[relative] += 1
        return read_inside(root, relative, most)

    listed: list[str] = []
    names = os.listdir

    def listing(folder: str) -> list[str]:
        listed.append(str(folder))
        return names(folder)

    monkeypatch.setattr("runner.context.read_inside", counted)
    monkeypatch.setattr(os, "listdir", listing)
    monkeypatch.chdir(year)
    project, jobs = load_jobs(None, None, None, None, recorded=True)
    with open_project(project, reads=True) as opened:
        states = {status_or_reason(opened.context, spec, None).state for spec in jobs}
    assert states == {"done"}
    assert len(jobs) == DAYS + len(PLAIN)
    assert len(reads) == 1 + len(PLAIN)
    assert max(reads.values()) <= 2
    assert [folder for folder in listed if "results" in folder] == []
