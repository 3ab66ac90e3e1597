"""Fixtures for all tests. No test reaches the real network, the home folder or the user's environment."""

from __future__ import annotations

import os
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from runner.jobspec.loader import Project, load_project

REPOSITORY = Path(__file__).parent.parent

# The same examples in every run: what fails in CI fails here. `make fuzz` tries others, by their seed.
# How fast a machine makes them is no matter.
FUZZ = bool(os.environ.get("BATCHSPEC_FUZZ"))
settings.register_profile("suite", derandomize=not FUZZ, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest test, so that the other workers do not wait for it at the end."""
    items.sort(key=lambda item: "test_a_year[long]" not in item.nodeid)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails, so that no test can do it unseen."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """A command that runs within a test configures structlog for the whole process; the next test starts without that."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key of the user's, no home folder, no settings of git; the same with and without a terminal, and in a git hook."""
    for name in (
        "CI",
        "COLUMNS",
        "FORCE_COLOR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_WORK_TREE",
        "LINES",
        "NO_COLOR",
        "BATCHSPEC_BASE_URL",
        "BATCHSPEC_NOTIFY_URL",
        "BATCHSPEC_PLAN_KEY",
        "BATCHSPEC_TRUST_PYTHON",
        "MODEL_ACCESS_KEY",
        "DIGITALOCEAN_TOKEN",
        "GRADIENT_API_KEY",
        "BATCHSPEC_ALLOW_ENV",
        "BATCHSPEC_TRUST_HOSTS",
        "BATCHSPEC_TRUST_PATHS",
        "BATCHSPEC_SERVICE_FAULTS",
        "BATCHSPEC_SERVICE_SEED",
        "BATCHSPEC_SERVICE_TIME_SCALE",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "Tester")
        monkeypatch.setenv(f"{name}_EMAIL", "tester@example.com")


SPEC = """\
version: 1
name: hello
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 64}
input: {path: data/rows.jsonl, id: id}
prompt:
  system: Be brief.
  user: "Say {{ text }}."
output: {path: out/hello.jsonl}
"""
ROWS = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n{"id": 3, "text": "three"}\n'


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a project's files into a folder of its own and returns it; keywords replace the usual files."""

    def write(files: Mapping[str, str | bytes] | None = None, *, folder: str = "project") -> Path:
        root = tmp_path / folder
        usual = {"batchspec.yaml": "version: 1\nproject: tests\n", "specs/hello.yaml": SPEC, "data/rows.jsonl": ROWS}
        for name, content in {**usual, **(files or {})}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
        return root

    return write


@pytest.fixture
def load(project: Callable[..., Path]) -> Callable[..., Project]:
    """Writes a project and loads it with a provider, `local` unless said."""

    def write_and_load(files: Mapping[str, str | bytes] | None = None, *, provider: str | None = "local") -> Project:
        return load_project(project(files), variables={}, provider=provider, environ={})

    return write_and_load
