"""A disk that is full, or refuses: told in a sentence, nothing paid for twice, and the next apply goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli_runner import run_cli
from tests.providers.stub import KEY, Stub
from tests.rights import as_anybody

ROWS = 300
SPEC = """\
version: 1
name: hello
provider: stub
model: gpt-4o-mini
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
shards: {max_requests: 100}
output: {path: out/hello.jsonl}
"""


@pytest.fixture
def root(stub: Stub, project: Callable[..., Path]) -> Path:
    settings = {"version": 1, "project": "tests", "providers": {"stub": {"kind": "digitalocean", "base_url": stub.url}}}
    rows = "".join(json.dumps({"id": n, "text": f"{n} " * 50}) + "\n" for n in range(ROWS))
    return project({"batchspec.yaml": json.dumps(settings), "specs/hello.yaml": SPEC, "data/rows.jsonl": rows})


def apply(root: Path, largest: int | None = None) -> tuple[int, str]:
    """Apply, with no file larger than so many bytes: the system refuses to write on, as it does on a full disk."""
    environ = {**os.environ, "MODEL_ACCESS_KEY": KEY}
    done = run_cli(["apply", "--yes"], cwd=root, env=environ, prepare=partial(as_anybody, largest))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("largest", [0, 1_000, 20_000, 40_000, 66_000, 100_000])
def test_no_room_at_any_step(root: Path, stub: Stub, largest: int) -> None:
    """In the rendering, in the ledger, in a shard, in the results or in the output."""
    code, said = apply(root, largest)
    assert code == 1, said
    assert "Traceback" not in said
    assert "File too large" in said or "disk" in said or "cannot" in said, said
    code, said = apply(root)
    assert code == 0, said
    assert len(stub.jobs) == 3
    assert len((root / "out/hello.jsonl").read_text().splitlines()) == ROWS


@pytest.mark.parametrize("folder", ["specs", "."])
def test_a_folder_that_may_not_be_written(root: Path, stub: Stub, folder: str) -> None:
    """Of the project's own folder only the output's is to be made in it."""
    (root / ".batchspec").mkdir()
    (root / folder).chmod(0o555)
    code, said = apply(root)
    (root / folder).chmod(0o755)
    assert code == 1, said
    assert "Traceback" not in said
    assert "BS411" in said
    assert stub.jobs == []
    code, said = apply(root)
    assert code == 0, said
    assert len(stub.jobs) == 3
