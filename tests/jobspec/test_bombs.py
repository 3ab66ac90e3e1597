"""YAML and numbers of specs that would take for ever to read, or that would print without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.jobspec import discovery
from runner.jobspec.loader import load_project
from runner.jobspec.yaml_reader import MAX_NODES, Lines, documents
from tests.conftest import SPEC

SECONDS = 10
"""What counts as for ever; each takes much less than two seconds."""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: " + "1:" * 450_000 + "1\n", id="base 60"),
        pytest.param("a: " + "1:" * 450_000 + "1.5\n", id="base 60, a fraction"),
        pytest.param("a: [" + ", ".join(["1:" * 400 + "1"] * 1_000) + "]\n", id="base 60, many"),
        pytest.param("a: " + "9" * 900_000 + "\n", id="digits"),
        pytest.param("a: " + "1_" * 450_000 + "\n", id="digits and underscores"),
        pytest.param("a: 0b" + "1" * 900_000 + "\n", id="binary"),
        pytest.param("a: 0x" + "f" * 900_000 + "\n", id="hexadecimal"),
        pytest.param("a: 0" + "7" * 900_000 + "\n", id="octal"),
        pytest.param("a: " + "1" * 450_000 + "." + "1" * 450_000 + "e9\n", id="a fraction"),
        pytest.param("a: 2001-01-01" + " " * 450_000 + "1:1:1." + "1" * 450_000 + "\n", id="a time"),
        pytest.param("[" * 900_000, id="nested lists"),
        pytest.param("\n".join(" " * depth + "a:" for depth in range(1_300)), id="nested mappings"),
        pytest.param("? " * 400_000, id="nested keys"),
        pytest.param(
            "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)), id="aliases"
        ),
        pytest.param("- &a x\n" * 30_000, id="anchors"),
        pytest.param("".join(f"key{n}: 1\n" for n in range(30_000)), id="keys"),
        pytest.param("- !!x y\n" * 30_000, id="tags"),
        pytest.param("---\n" * 90_000, id="documents"),
    ],
)  # fmt: skip
def test_reading_yaml_ends_and_says_little(text: str) -> None:
    begun = time.process_time()
    _, problems = documents(Lines("a.yaml", text), text)
    assert time.process_time() - begun < SECONDS
    assert sum(len(str(problem)) + len(problem.excerpt) for problem in problems) < 100_000


def test_a_number_that_is_too_long_is_shown_cut() -> None:
    text = "a: " + "1:" * 300 + "1\n"
    [problem] = documents(Lines("a.yaml", text), text)[1]
    assert "1:1:1:…" in problem.message.replace("1:" * 30, "1:")
    assert problem.code == "BS102"
    assert len(problem.message) < 400
    assert MAX_NODES == 100_000


def test_the_number_of_specs_is_bounded(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_SPECS", 3)
    root = project({f"specs/{n}.yaml": SPEC.replace("hello", f"job{n}") for n in range(20)})
    with pytest.raises(SpecError, match="there are more than 3 specs") as caught:
        load_project(root, variables={}, provider=None, environ={})
    assert "name the specs that you want" in str(caught.value)
    assert len(load_project(root, [root / "specs/1.yaml"], variables={}, provider=None, environ={}).jobs) == 1


def test_the_yaml_of_all_specs_is_bounded(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_TOTAL", 3 * len(SPEC))
    root = project({f"specs/{n}.yaml": SPEC.replace("hello", f"job{n}") for n in range(20)})
    with pytest.raises(SpecError, match="characters together; no more are read at once"):
        load_project(root, variables={}, provider=None, environ={})
