"""A project whose costs and canaries the tests look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.priced import ROWS, Write
from tests.conftest import SPEC


@pytest.fixture
def with_spec(project: Write) -> Callable[[str], Path]:
    return lambda more: project({"specs/hello.yaml": SPEC + more, "data/rows.jsonl": ROWS})
