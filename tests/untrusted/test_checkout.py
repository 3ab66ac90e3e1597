"""A plan of a hostile checkout ends, stays small, and touches nothing but `.batchspec/`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.untrusted import checkout

SECONDS = 60
MEMORY = 500_000_000
WHOLE = (["plan", "--offline"], ["plan", "--offline", "--markdown"], ["validate"], ["status", "--offline"])


@dataclass(frozen=True)
class Watched:
    """What planning the checkout did. `printed` holds stdout and stderr."""

    root: Path
    temporary: Path
    report: dict[str, Any]
    printed: bytes
    before: dict[str, str]
    after: dict[str, str]

    def events(self, *names: str) -> list[str]:
        return [what for event, what in self.report["seen"] if not names or event in names]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Plan each spec of the checkout, then all of them, in a child process with keys in its environment."""
    folder = tmp_path_factory.mktemp("hostile")
    root = checkout.build(folder)
    temporary, home = folder / "tmp", folder / "home"
    temporary.mkdir()
    home.mkdir()
    commands: list[tuple[str, list[str]]] = []
    for project in sorted({root / piece.folder for piece in checkout.pieces()}):
        specs = sorted(path.relative_to(project).as_posix() for path in (project / "specs").glob("*.yaml"))
        each = [["plan", "--offline", spec] for spec in specs] if project == root else []
        commands += [(str(project), arguments) for arguments in [*each, *WHOLE]]
    (folder / "commands").write_text(json.dumps(commands))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODEL_ACCESS_KEY": checkout.SECRET,
        "NO_COLOR": "1",
    }
    before = _bytes(root)
    # A program inherits the peak memory of what starts it: a shell in between has a small one.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, str(Path(__file__).with_name("watch.py")), folder / "commands",
         folder / "report"],
        cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=2 * SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return Watched(root, temporary, json.loads((folder / "report").read_text()), done.stdout, before, _bytes(root))


def _bytes(root: Path) -> dict[str, str]:
    """Digest of each file outside `.batchspec/` and git's own folder; links and pipes by what they are."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if {".batchspec", ".git"}.intersection(path.relative_to(root).parts):
            continue
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "other"
    return found


def test_it_ends_in_time_and_stays_small(watched: Watched) -> None:
    assert watched.report["seconds"] < SECONDS
    assert watched.report["memory"] < MEMORY


def test_it_changes_no_file_of_the_checkout(watched: Watched) -> None:
    assert watched.before == watched.after


def test_it_writes_below_its_own_folder_only(watched: Watched) -> None:
    projects = {piece.folder for piece in checkout.pieces()}
    own = (*(str(watched.root / folder / ".batchspec") for folder in projects), f"{watched.temporary}/", "/dev/null")
    changes = watched.events("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
    assert changes
    assert [path for path in changes if not path.startswith(own)] == []


def test_it_starts_git_and_its_own_workers_only(watched: Watched) -> None:
    started = watched.events("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "pty.spawn")
    assert set(started) <= {sys.executable, "git"}
    assert not list(watched.root.parent.rglob("ran-*")), "a program of the checkout ran"


def test_it_opens_no_connection(watched: Watched) -> None:
    assert [what for event, what in watched.report["seen"] if event.startswith("socket.")] == []


def test_it_prints_no_control_character(watched: Watched) -> None:
    text = watched.printed.decode()
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", text) == []


def test_it_discloses_no_secret(watched: Watched) -> None:
    assert checkout.SECRET.encode() not in watched.printed
    kept = (path for path in watched.root.rglob("*") if ".batchspec" in path.parts and path.is_file())
    assert [path for path in kept if checkout.SECRET.encode() in path.read_bytes()] == []


def test_every_command_ended_by_itself(watched: Watched) -> None:
    assert set(watched.report["codes"]) <= {0, 1, 2}
