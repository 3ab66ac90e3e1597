"""A running batch service, and a forge with a project in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_runner import cli_path
from tests.docs.forge import Forge, write

KEY = "key-of-the-team"

SPEC = """\
version: 1
name: reviews
provider: staging
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 64}
input: {path: data/reviews.jsonl, id: id}
prompt:
  system: You label reviews.
  user: {template: templates/label.j2}
review: {show_prompts: true}
output: {path: out/reviews.jsonl}
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """`batchspec serve`, as a server of its own."""
    process = subprocess.Popen(
        [cli_path(), "serve", "--data", str(tmp_path / "service"), "--token", KEY],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path, env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture
def forge(tmp_path: Path, service: str) -> Forge:
    """A forge whose main branch holds a project that has not run."""
    forge = Forge(tmp_path / "f", service, KEY)
    seed = forge.folder / "seed"
    write(
        seed,
        {
            "batchspec.yaml": f'version: 1\nproject: team\nproviders: {{staging: {{kind: digitalocean, base_url: "{service}"}}}}\n',
            "specs/reviews.yaml": SPEC,
            "templates/label.j2": "Label this review: {{ text }}\n",
            "data/reviews.jsonl": "".join(f'{{"id": {n}, "text": "text {n}"}}\n' for n in range(6)),
            ".gitattributes": "specs/*.lock merge=union\n",
            ".gitignore": ".batchspec/\nplan/\n",
        },
    )
    forge.sh(seed, "git init -q -b main && git add -A && git commit -qm Start && git push -q ../remote.git main")
    return forge


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the command."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "batchspec").symlink_to(cli_path())
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return folder
