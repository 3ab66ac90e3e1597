"""The plan on a terminal: broken at its width, in colour and with links where they work, and nothing from rows acts on it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli.terminal.plan_printer import wrap_line
from tests.cli_runner import cli_path, run_cli
from tests.conftest import SPEC

LONG = "  ~ wait   for batch 5c0e9a55-2f3b-4a1e-9d0c-1f2e3d4c5b6a (40 requests): it is in_progress; which it holds shows when"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_line_is_broken_at_words_and_goes_on_below_its_text(width: int) -> None:
    parts = wrap_line(LONG, width)
    assert " ".join(" ".join(parts).split()) == " ".join(LONG.split())
    assert all(len(part) <= width or " " not in part.strip() for part in parts)
    assert all(part.startswith(" " * 11) for part in parts[1:])
    assert wrap_line("", width) == [""]
    assert wrap_line("      cost  no price is known for it", 24) == [
        "      cost  no price is",
        "            known for it",
    ]


def on_a_terminal(root: Path, *arguments: str, **environ: str) -> str:
    """What a terminal gets on stdout."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "CI", "COLUMNS"}}
    with subprocess.Popen(
        [cli_path(), *arguments],
        cwd=root, env={**clean, "TERM": "xterm-256color", **environ}, stdout=theirs, stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):  # fmt: skip
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            seen += data
    os.close(ours)
    return seen.decode()


def test_colours_and_links_only_where_they_work(project: Callable[..., Path]) -> None:
    root = project(
        {"out/hello.jsonl": "", "specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")}
    )
    told = on_a_terminal(root, "plan")
    assert "\x1b[32m  + \x1b[0msubmit" in told
    assert "\x1b]8;" in told
    assert f"{root}/out/hello.jsonl\x1b\\" in told
    assert "\x1b[32m  + " in on_a_terminal(root, "plan", NO_COLOR=""), "empty is as not there: no-color.org"
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = on_a_terminal(root, "plan", **environ)
        assert "submit 3 requests" in plain
        assert "\x1b[3" not in plain
        assert "\x1b]8;" not in plain
    assert "\x1b]8;" not in on_a_terminal(root, "plan", CI="true")


def test_what_stands_in_rows_does_nothing_to_a_terminal(project: Callable[..., Path]) -> None:
    row = '{"id": "\\u009b2J\\u202e", "text": "\\u001b[2J"}\n'
    root = project({"specs/hello.yaml": SPEC.replace("Say {{ text }}.", "{{ row[text] }}"), "data/rows.jsonl": row})
    for told in (
        on_a_terminal(root, "plan", "--provider", "local", TERM="dumb"),
        run_cli(["plan", "--provider", "local"], cwd=root).stdout,
    ):
        assert r'row "\u009b2J\u202e": specs/hello.yaml' in " ".join(told.split())
        assert "\x1b" not in told
        assert "\x9b" not in told
        assert "\u202e" not in told


@pytest.mark.parametrize(("answer", "more"), [(b"n\n", "n\r\n"), (b"\x04", "\r\n")], ids=["no", "the end of input"])
def test_what_is_said_after_a_question_has_a_line_of_its_own(
    project: Callable[..., Path], answer: bytes, more: str
) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [cli_path(), "apply"], cwd=root, env={**os.environ, "CI": "1"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ):  # fmt: skip
        os.close(theirs)
        seen = b""
        while b"[y/N]: " not in seen:
            seen += os.read(ours, 65_536)
        os.write(ours, answer)
        while b"Nothing was done" not in seen:
            seen += os.read(ours, 65_536)
    os.close(ours)
    assert f"Apply these changes? [y/N]: {more}Nothing was done." in seen.decode()
