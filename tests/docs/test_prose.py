"""Docs, docstrings and comments are plain English: none of the words that this project has better words for."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BANNED = re.compile(
    r"""\b(
        stands?(?!\s+for\b) | lies | lying | told | said | (?<!message\s)(?<!warning\s)(?<!plan\s)(?<!guide\s)says | beside | apart | anew | mend(s|ed|ing)?
      | of\s+ours | strangers? | somebody | goes\s+out | comes?\s+short | for\s+want\s+of | as\s+far\s+as
      | in\s+a\s+passing\s+way | a\s+person's\s+word | whose\s+(it|they|is|are)
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
ROOMS = sorted(path.parent for path in (REPOSITORY / "runner").glob("*/__init__.py"))
CLEAN_ROOMS = (*ROOMS, *sorted((REPOSITORY / "runner").glob("*.py")))


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def prose_of_page(text: str) -> str:
    """A page without its code; line numbers stay."""
    text = re.sub(r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]+`|\]\([^)]+\)", lambda code: "_" + "\n" * code[0].count("\n"), text)


def prose_of_module(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment and docstring, those of constants included."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, re.sub(r"`[^`]+`", "_", node.value.value)


def banned_in_module(path: Path) -> list[str]:
    return [
        f"{name(path)}:{line + text.count(chr(10), 0, found.start())}: {found[0]}"
        for line, text in prose_of_module(path.read_text(encoding="utf-8"))
        for found in BANNED.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_have_no_banned_word(page: Path) -> None:
    text = prose_of_page(page.read_text(encoding="utf-8"))
    found = [f"{name(page)}:{text.count(chr(10), 0, word.start()) + 1}: {word[0]}" for word in BANNED.finditer(text)]
    assert found == []


@pytest.mark.parametrize("room", CLEAN_ROOMS, ids=name)
def test_docstrings_and_comments_have_no_banned_word(room: Path) -> None:
    modules = sorted(room.rglob("*.py")) if room.is_dir() else [room]
    assert modules, f"{name(room)} is not there"
    assert [found for module in modules for found in banned_in_module(module)] == []


def test_docstrings_and_comments_of_modules_outside_packages_have_no_banned_word() -> None:
    modules = sorted((REPOSITORY / "runner").glob("*.py"))
    assert len(modules) > 3
    assert [found for module in modules for found in banned_in_module(module)] == []


def test_banned_words_are_found_outside_of_code_only() -> None:
    page = "It stands for one.\n\n```console\n$ echo told\n```\n\nThe `told` file lies\nbeside it."
    text = prose_of_page(page)
    assert [word[0] for word in BANNED.finditer(text)] == ["lies", "beside"]
    assert text.count("\n") == page.count("\n")
    module = '"""What is told."""\n\nvalue = "told"  # stands here\n'
    assert sorted(text for _, text in prose_of_module(module)) == ["# stands here", "What is told."]
