"""What the tests of money share: a project with 40 rows, its plan and its batches."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.cli_runner import run_cli

Write = Callable[..., Path]
HOME = ".batchspec/realms/local"
ROWS = "".join(json.dumps({"id": n, "text": f"number {n} " * (1 + n % 5)}) + "\n" for n in range(40))


def batchspec(root: Path, *arguments: str, expect: int = 0, faults: str = "") -> str:
    done = run_cli(
        [*arguments, "--provider", "local"],
        cwd=root,
        env={**os.environ, "BATCHSPEC_SERVICE_FAULTS": faults} if faults else None,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def batches(root: Path) -> list[dict[str, Any]]:
    """The lockfile's batches in the order in which they were submitted; the service tells seconds only."""
    path = root / HOME / "specs/hello.lock"
    if not path.exists():
        return []
    lines = {line["batch"]: line for line in map(json.loads, path.read_text().splitlines()) if "batch" in line}
    with closing(sqlite3.connect(root / HOME / "ledger.db")) as ledger:
        submitted = ledger.execute("select batch_id from creates where batch_id is not null order by at").fetchall()
    assert {batch for (batch,) in submitted} == set(lines)
    return [lines[batch] for (batch,) in submitted]


def plan_json(root: Path) -> dict[str, Any]:
    done = run_cli(["plan", "--json", "--provider", "local"], cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return next(line for line in lines if line["type"] == "job")
