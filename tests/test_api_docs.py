"""The examples of docs/reference/python.md run, and `runner` exports what it lists."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import runner
from runner.cli.commands.init import init
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "python.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init(Path(), None, None)
    # Closing fences are not output.
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "python.md", str(PAGE), 0)
    assert len(test.examples) >= 8
    found = doctest.DocTestRunner().run(test)
    assert found.failed == 0


@pytest.mark.parametrize("name", runner.__all__)
def test_each_exported_name_exists(name: str) -> None:
    assert getattr(runner, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = runner.nothing
