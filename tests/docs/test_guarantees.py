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


@pytest.mark.slow
def test_each_row_selects_at_least_one_test() -> None:
    """By pytest's own words: every file is collected once, and each expression held against what is in it."""
    files = sorted({file for file, _, _ in ROWS})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", "--snapshot-warn-unused", *files],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    collected = [line for line in done.stdout.splitlines() if line.startswith("tests/")]
    for file, words, word in ROWS:
        wanted = (words or word).split(" or ")
        inside = [line.removeprefix(file).lower() for line in collected if line.startswith(file)]
        for one in wanted:
            assert any(one.lower() in name for name in inside), f"{file} -k {one} selects nothing"
