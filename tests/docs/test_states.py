"""The page of states has every word that the code can say, and no other."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import get_args

from runner.cli.terminal import progress
from runner.executor.outcome import End
from runner.operations import status
from runner.reconciler.observe import batches
from runner.service.db.batches import STATUS_ORDER
from tests.conftest import REPOSITORY
from tests.docs.test_pages import help_of

PAGE = (REPOSITORY / "docs/reference/states.md").read_text(encoding="utf-8")


def listed(heading: str) -> list[str]:
    """The words of the table below a heading."""
    part = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)


def returned(function: object) -> set[str]:
    """The texts that a function returns as they stand in it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value]
    found: set[str] = set()
    while values:
        match values.pop():
            case ast.IfExp(body=body, orelse=other):
                values += [body, other]
            case ast.Constant(value=str(text)):
                found.add(text)
            case _:
                continue
    return found


def test_states_of_jobs() -> None:
    assert {"done", "failed", "not started"} <= returned(status._state)
    assert sorted(listed("Of a job")) == sorted(returned(status._state))


def test_states_of_batches() -> None:
    own = vars(batches.BatchRecord)["state"].fget
    assert sorted(listed("Of a batch")) == sorted({*STATUS_ORDER, *returned(own)})
    assert returned(own) == {"gone"}


def test_words_of_a_running_apply() -> None:
    words = {*progress._DOING.values(), "waiting"}
    assert '("submitted" if self.in_flight else "waiting")' in inspect.getsource(progress.JobWork.row)
    assert sorted(listed("While apply runs")) == sorted(words)


def test_how_a_job_ends() -> None:
    assert sorted(listed("How a job ended in apply")) == sorted(get_args(End))
    assert progress._ENDS == {"succeeded": "done"}


def test_options_that_are_named_exist() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert named == {"--json", "--batches", "--no-new"}
    for option in named:
        assert option in help_of("apply" if option == "--no-new" else "status")
