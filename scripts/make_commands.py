"""Writes docs/reference/commands.md from the commands' own help: `make docs-commands`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "commands.md"
GROUPS = {
    "Start and check": ("init", "validate", "schema", "render", "explain"),
    "Plan and apply": ("plan", "apply", "listen", "status", "cancel"),
    "Evaluate": ("eval",),
    "Look back": ("report", "log", "diff", "verify"),
    "Take over and let go": ("import", "forget"),
    "The embedded service": ("serve",),
}


_HEAD = """\
# Commands

Written by `make docs-commands` from the commands' own help. Results go to stdout, logs and errors to stderr;
[exit codes](exit-codes.md) tell the rest. The words of `status` and `apply` are in [states](states.md).
"""


def text(command: Sequence[str] = (sys.executable, "-m", "runner")) -> str:
    """Return the page; `command` is how `batchspec` is started."""
    parts = [_HEAD]
    for title, verbs in GROUPS.items():
        parts.append(f"## {title}\n")
        for verb in verbs:
            parts.append(f"### batchspec {verb}\n")
            parts.append(f"```text\n{_help(command, verb)}\n```\n")
    return "\n".join(parts)


def _help(command: Sequence[str], verb: str) -> str:
    done = subprocess.run(  # noqa: S603  our own command
        [*command, verb, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"},
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
