"""Every case in docs/guarantees.md names a test that there is."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

ROWS = re.findall(
    r'^\| [^|]+ \| `(tests/\S+\.py)(?: -k (?:"([^"]+)"|(\S+)))?` \|$',
    (REPOSITORY / "docs/guarantees.md").read_text(),
    re.MULTILINE,
)


def test_every_row_names_a_file() -> None:
    table = (REPOSITORY / "docs/guarantees.md").read_text()
    headings = 4
    assert len(ROWS) == sum(line.startswith("| ") for line in table.splitlines()) - headings


@pytest.mark.parametrize(("file", "words", "word"), ROWS)
def test_the_words_select_something(file: str, words: str, word: str) -> None:
    text = (REPOSITORY / file).read_text()
    for one in (words or word).split(" or "):
        assert one in text or not one, f"nothing in {file} is called {one}"
