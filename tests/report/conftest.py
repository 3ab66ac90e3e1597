"""A project in git whose jobs run on this machine, and the command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli_runner import run_cli

SPEC = """\
version: 1
name: hello
provider: local
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 64}
input: {path: data/rows.jsonl, id: id}
prompt:
  system: Be brief.
  user: "{{ text }}"
output: {path: out/hello.jsonl}
"""


@dataclass(frozen=True)
class Shell:
    """Runs commands inside one project."""

    root: Path

    def batchspec(self, *arguments: str, expect: int = 0) -> str:
        done = run_cli(arguments, cwd=self.root)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout if expect == 0 else done.stderr

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--message", message)

    def edit(self, path: str, before: str, after: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))


@pytest.fixture
def shell(project: Callable[..., Path]) -> Shell:
    """A committed project with one job that has not run."""
    root = project({"specs/hello.yaml": SPEC, ".gitignore": ".batchspec/\n"})
    shell = Shell(root)
    shell.git("init", "--quiet", "--initial-branch=main")
    shell.commit("Start")
    return shell
