"""What starting costs: a verb's module is imported when that verb runs, and heavy libraries where they are used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli.lazy_group import VERBS
from tests.cli_runner import run_cli
from tests.sampling import sampled

Write = Callable[..., Path]

_IMPORTED = """\
import sys
from runner.cli.main import run
assert run(sys.argv[1:]) == 0
print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(root: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported when it is done."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


HEAVY = {"httpx", "jinja2", "numpy", "structlog", "jsonschema", "rich", "asyncio", "sqlite3", "starlette"}


def test_help_imports_no_verb_and_nothing_heavy(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")
    assert not modules & {*HEAVY, "pydantic", "yaml", "orjson"}
    assert {name for name in modules if name.startswith("runner.")} == {
        "runner.base", "runner.cli", "runner.cli.terminal", "runner.cli.signals", "runner.cli.main", "runner.cli.terminal.printing", "runner.cli.lazy_group", "runner.errors",
        "runner.base.visible",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "needed"),
    sampled([pytest.param("validate", {"jinja2"}, id="validate"), pytest.param("schema", set(), id="schema")], 1),
)
def test_looking_at_specs_imports_nothing_that_renders_or_asks(project: Write, command: str, needed: set[str]) -> None:
    """`validate` compiles templates, and that is all it needs of rendering."""
    modules = imported(project(), command)
    assert modules & HEAVY == needed
    assert not modules & {"urllib.request", "ssl", "runner.planner.requests.renderer"}


@pytest.mark.parametrize(
    "arguments", [pytest.param(("plan", "--offline"), marks=pytest.mark.slow), ("status", "--offline")], ids=" ".join
)
def test_without_a_service_nothing_imports_its_client_or_a_log(project: Write, arguments: tuple[str, ...]) -> None:
    modules = imported(project(), *arguments)
    assert not modules & {"httpx", "structlog", "starlette", "jsonschema"}


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_cli(arguments, cwd=root)


def test_help_gives_each_verb_one_whole_line(tmp_path: Path) -> None:
    listed = run(tmp_path, "--help").stdout.partition("Commands:\n")[2].split("\n\n")[0].splitlines()
    assert [line.split(maxsplit=1) for line in listed] == [[verb, line] for verb, line in VERBS.items()]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_imported(tmp_path: Path, verb: str) -> None:
    done = run(tmp_path, verb, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: batchspec {verb} ")


def test_a_mistyped_verb_is_told_what_it_may_have_been(tmp_path: Path) -> None:
    done = run(tmp_path, "validat")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Did you mean 'validate'?" in done.stderr


@pytest.mark.parametrize("verb", ["cancel", "forget", "import", "log"])
def test_a_missing_job_is_named_as_the_help_names_it(tmp_path: Path, verb: str) -> None:
    done = run(tmp_path, verb)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Missing argument 'JOB'")
    assert f"\nSee `batchspec {verb} --help`.\n" in done.stderr


def test_a_mistyped_option_is_answered_with_the_verbs_own_help(tmp_path: Path) -> None:
    done = run(tmp_path, "plan", "--provder", "local")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--provider" in done.stderr
    assert "\nSee `batchspec plan --help`.\n" in done.stderr
