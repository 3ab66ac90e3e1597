"""Every case in docs/guarantees.md names a test that there is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

TABLE = (REPOSITORY / "docs/guarantees.md").read_text()
ROWS = re.findall(
    r'^\| [^|]+ \| `(tests/\S+\.py)(?: -k (?:"([^"]+)"|(\S+)))?` \|$',
    TABLE,
    re.MULTILINE,
)


def test_every_row_names_a_file() -> None:
    headings = 4
    assert len(ROWS) == sum(line.startswith("| ") for line in TABLE.splitlines()) - headings


def collected(*options: str) -> list[str]:
    """Ids of all tests in the files of the table, as pytest finds them."""
    files = sorted({file for file, _, _ in ROWS})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", "--snapshot-warn-unused", *options, *files],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return [line.lower() for line in done.stdout.splitlines() if line.startswith("tests/")]


@pytest.mark.slow
def test_each_row_selects_tests_and_one_of_them_in_make_test() -> None:
    every, fast = collected(), collected("-m", "not slow")
    for file, words, word in ROWS:
        wanted = (words or word).lower().split(" or ")
        for one in wanted:
            assert any(one in name.removeprefix(file) for name in every if name.startswith(file)), (
                f"{file} -k {one} selects nothing"
            )
        inside = [name.removeprefix(file) for name in fast if name.startswith(file)]
        assert any(one in name for one in wanted for name in inside), f"{file} -k {wanted} selects slow tests only"
