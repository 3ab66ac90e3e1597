"""A hostile checkout: one folder that holds every attack a pull request may try on `plan`.

Each attack is a `Piece` in one of the lists below: the files it adds, and a spec at `specs/NAME.yaml` that uses them.
`test_checkout.py` plans each spec, then each project whole, in one child process under an audit hook. It checks time,
memory, writes, programs, connections and control characters. Most attacks share the project at the top of the checkout;
one that needs its own batchspec.yaml names a `folder`, which becomes a project of its own. To add an attack, add a module `pieces_TOPIC.py` with a
list `PIECES` beside this file, and name it in `TOPICS`. A test of the exact refusal belongs next to the code it tests.

In texts, `$OUTSIDE` is a folder outside of the project, which no plan may read or write. `$OUTSIDE/secret.txt` holds
`SECRET`, which no plan may print.
"""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "the-secret-of-this-machine"
"""No output of a plan, and no file that it writes, may hold this."""
TOPICS = ("pieces_bombs", "pieces_paths", "pieces_terminal")
"""Modules of this package with a list `PIECES`, one for each topic."""
SPEC = """\
version: 1
name: {name}
provider: local
model: gpt-4o-mini
parameters: {{max_tokens: 8}}
input: {input}
prompt: {{user: {user}}}
output: {output}
"""


@dataclass(frozen=True)
class Piece:
    """One attack.

    name: also the job's name and the spec's file name.
    folder: the project that all paths are relative to; it must bring its own batchspec.yaml if it is not the top.
    files: by path in the project; text may use `$OUTSIDE`; a `.sh` can be executed. A program of the checkout that
        runs should create a file `$OUTSIDE/ran-NAME`, which the test looks for.
    links: symbolic links by path, with where they lead; `$OUTSIDE` may be used.
    pipes: FIFOs by path.
    input, user, output: YAML of these parts of the spec.
    spec: the whole spec in place of these; empty for the usual one; None for no spec.
    """

    name: str
    folder: str = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    pipes: tuple[str, ...] = ()
    input: str = "{rows: [{id: 1, text: one}], id: id}"
    user: str = '"{{ text }}"'
    output: str = ""
    spec: str | None = ""

    def write(self, repository: Path, outside: Path) -> None:
        """Add the attack to the checkout at `repository`."""
        root = repository / self.folder
        for name, content in self.files.items():
            data = content if isinstance(content, bytes) else content.replace("$OUTSIDE", str(outside)).encode()
            _made(root / name).write_bytes(data)
            (root / name).chmod(0o755 if name.endswith(".sh") else 0o644)
        for name, target in self.links.items():
            _made(root / name).symlink_to(target.replace("$OUTSIDE", str(outside)))
        for name in self.pipes:
            os.mkfifo(_made(root / name))
        if self.spec is not None:
            output = self.output or f"{{path: out/{self.name}.jsonl}}"
            text = self.spec or SPEC.format(name=self.name, input=self.input, user=self.user, output=output)
            _made(root / f"specs/{self.name}.yaml").write_text(text.replace("$OUTSIDE", str(outside)))


def pieces() -> tuple[Piece, ...]:
    """Return the attacks of all topics."""
    modules = (importlib.import_module(f"tests.untrusted.{topic}") for topic in TOPICS)
    return tuple(piece for module in modules for piece in module.PIECES)


def build(folder: Path) -> Path:
    """Write the checkout below `folder`, commit what git takes of it, and return its top folder."""
    outside, repository = folder / "outside", folder / "checkout"
    outside.mkdir(parents=True)
    (outside / "secret.txt").write_text(f"{SECRET}\n")
    repository.mkdir()
    git(repository, "init", "--quiet")
    _made(repository / "batchspec.yaml").write_text("version: 1\nproject: hostile\n")
    for piece in pieces():
        piece.write(repository, outside)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "A change that looks harmless")
    return repository


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, without the settings of the user who runs the tests."""
    named = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **named}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
