"""Nothing that a terminal obeys, and nothing that a reader can't see, reaches stdout or stderr as text."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import structlog

import runner.http_server.logger
import runner.providers.logger
from runner.base.visible import is_seen, visible, visible_json
from runner.cli.main import run
from runner.cli.terminal.printing import give, say
from runner.cli.terminal.terminal import configure_logs
from tests.conftest import SPEC
from tests.test_architecture import MODULES, PACKAGE

EVIL = "\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\x9b2J\x90q\x9c\r\x7f\u202e\u2066\u200f\u061c\u200b\u00ad\u3164\ufe0f\U000e0041"
"""Clipboard, title, clear screen; their C1 forms; a line drawn over; text that runs backwards; what can't be seen."""
HOME = Path("cli/terminal/printing.py")
LOGS = {Path("cli/terminal/terminal.py"), Path("providers/logger.py"), Path("http_server/logger.py")}
"""They hand stderr to structlog; `test_no_log_line_moves_a_terminal` is about them."""
STREAMS = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")
PRINTS = {
    "print", "typer.echo", "typer.secho", "typer.confirm", "typer.prompt", "click.echo", "rich.print", "Console",
    "warnings.warn", "get_console", "logging.basicConfig", "logging.StreamHandler", "traceback.print_exc",
}  # fmt: skip


def unseen(text: str) -> set[str]:
    return {c for c in text if c not in "\n\t" and not is_seen(c)}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain, \tümlaut,\n\u65e5\u672c\u3000\u8a9e \U0001f600", None, id="what is seen stays"),
        pytest.param("\x1b]52;c;x\x07", "\\u001b]52;c;x\\u0007", id="OSC 52"),
        pytest.param("a\rb\x7f\x9b2J", "a\\u000db\\u007f\\u009b2J", id="carriage return, DEL, C1"),
        pytest.param("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", None, id="bidirectional"),
        pytest.param("\u00ad\u200b\u200d\u2060\ufeff\u3164\u115f\u2800\ufe0f\u034f", None, id="invisible"),
        pytest.param("\U000e0041\U000e0101", "\\U000e0041\\U000e0101", id="tags and variation selectors"),
        pytest.param("\ud800", "\\ud800", id="half a surrogate pair"),
    ],
)
def test_unseen_characters_are_escapes(text: str, shown: str | None) -> None:
    found = visible(text)
    assert found == (text if shown is None and not unseen(text) else shown or "".join(f"\\u{ord(c):04x}" for c in text))
    assert visible(found) == found
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def prints(module: Path) -> list[str]:
    """Return the places where a module prints, or hands a standard stream to what does."""
    found = []
    for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {ast.unparse(one) for one in [*node.args, *(keyword.value for keyword in node.keywords)]}
        stream = name.startswith(STREAMS) and not name.endswith((".isatty", ".read"))
        if name in PRINTS or stream or any(text.startswith(STREAMS) and "(" not in text for text in given):
            found.append(f"{module}:{node.lineno}: {name}")
    return found


def test_only_one_module_prints() -> None:
    """Everything else calls it; so no new command can forget to escape."""
    assert prints(HOME)
    assert [text for module in MODULES if module not in {HOME, *LOGS} for text in prints(module)] == []
    assert {text.partition(": ")[2] for module in LOGS for text in prints(module)} == {
        "structlog.PrintLoggerFactory", "structlog.WriteLogger",
    }  # fmt: skip


@pytest.fixture
def evil(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with hostile text wherever a file can hold it, in a git repository with a hostile history."""
    quoted = f'"{visible(EVIL)}"'
    spec = SPEC.replace("model: gpt-4o-mini", f'model: "gpt{quoted[1:-1]}"').replace(
        "data/rows.jsonl", f'"data/ro{quoted[1:-1]}ws.jsonl"'.replace("\\u000d", "")
    )
    rows = "".join(json.dumps({"id": f"{n}{EVIL}", "text": f"{EVIL}{n}"}) + "\n" for n in range(2))
    name = f"data/ro{EVIL}ws.jsonl".replace("\r", "")
    root = project({"specs/hello.yaml": spec, name: rows, ".gitignore": ".batchspec/\n"})
    monkeypatch.chdir(root)
    commit(root, "-q", "-b", "main", verb="init")
    commit(root, "-A", verb="add")
    commit(root, "-qm", f"Subject {EVIL}".replace("\r", ""))
    return root


def commit(root: Path, *arguments: str, verb: str = "commit") -> None:
    environ = {**os.environ, "GIT_AUTHOR_NAME": f"Author {EVIL}"}
    subprocess.run(["git", verb, *arguments], cwd=root, env=environ, check=True, capture_output=True)


def test_no_command_hands_a_terminal_what_files_hold(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Model, paths, row ids, prompts, answers, subjects, authors, batches, of each command that shows any of them."""
    said = ""

    def batchspec(*arguments: str, expect: int = 0) -> None:
        nonlocal said
        code = run([*arguments])
        out, err = capsys.readouterr()
        assert code == expect, out + err
        assert not unseen(out + err), (arguments, unseen(out + err))
        said += out + err

    batchspec("validate")
    batchspec("plan", "--offline")
    batchspec("plan", "--offline", "--format", "markdown")
    batchspec("render", "--pretty")
    batchspec("render", "--diff", "HEAD")
    batchspec("explain", EVIL, expect=1)
    batchspec("status", EVIL, expect=1)
    batchspec(EVIL, expect=1)
    batchspec("plan", "--var", EVIL, expect=1)
    batchspec("render", "--row", EVIL, expect=1)
    assert "\\u001b]52;c;aGk=\\u0007" in said
    assert "\\u202e" in said


def test_no_command_hands_a_terminal_what_lockfiles_and_outputs_hold(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batch ids, files, times, models that answered, reasons for going over a budget, paths of outputs, answers."""
    root = project({"specs/hello.yaml": SPEC.replace("name: hello", "name: hello\nprovider: local")})
    monkeypatch.chdir(root)
    assert run(["apply", "--yes"]) == 0
    lock, output = root / "specs/hello.lock", root / "out/hello.jsonl"
    head, *lines = map(json.loads, lock.read_text().splitlines())
    capsys.readouterr()
    for line in lines:
        if "shard" in line:
            line.update(batch=f"b{EVIL}", created_at=f"2026{EVIL}", file=EVIL, override=EVIL, models=[EVIL])
            lines.append({**line, "batch": f"c{EVIL}", "state": "submitted"})
            break
    evil = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (head, *lines))
    lock.write_text(evil)
    commit(root, "-q", "-b", "main", verb="init")
    commit(root, "-A", verb="add")
    commit(root, "-qm", f"Subject {EVIL}".replace("\r", ""))
    output.write_text(output.read_text().replace("Say one.", visible_json(json.dumps(EVIL))[1:-1]))
    said = []
    for arguments in (["plan", "--offline"], ["plan", "--offline", "--format", "markdown"], ["status", "--offline"], ["status"],
                      ["status", "--batches", "--offline"], ["log", "hello"], ["verify"], ["diff", "HEAD", "hello"],
                      ["apply", "--yes", "--no-wait"], ["cancel", "hello", "--yes"], ["import", "hello", EVIL, "--requests", EVIL],
                      ["forget", "hello", "--yes"]):  # fmt: skip
        lock.write_text(evil)
        run(arguments)
        out, err = capsys.readouterr()
        assert not unseen(out + err), (arguments, out + err)
        said.append(out + err)
    assert sum("\\u001b]52" in text for text in said) >= 8, said


def test_no_problem_hands_a_terminal_what_files_hold(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """YAML and its context, values, unknown fields, templates, rows, environment, URLs."""
    evil = f'"{visible(EVIL)}"'
    monkeypatch.setenv("BATCHSPEC_TRUST_HOSTS", EVIL)
    broken = {
        "yaml": {"specs/hello.yaml": "version: 1\nname: a: \u202e\u200b\u3164\u00ad\n"},
        "control characters in yaml": {"specs/hello.yaml": SPEC + f"x: {EVIL}\n"},
        "value": {"specs/hello.yaml": SPEC.replace("version: 1", f"version: {evil}")},
        "name": {"specs/hello.yaml": SPEC.replace("name: hello", f"name: {evil}")},
        "unknown field": {"specs/hello.yaml": SPEC + f"{evil}: 1\n"},
        "missing file": {"specs/hello.yaml": SPEC.replace("data/rows.jsonl", evil)},
        "missing variable": {"specs/hello.yaml": SPEC.replace("gpt-4o-mini", f'"${{env.{evil[1:-1]}}}"')},
        "template": {"specs/hello.yaml": SPEC.replace('"Say {{ text }}."', "{template: t.j2}"), "t.j2": "{{ a." + EVIL},
        "undefined": {"specs/hello.yaml": SPEC.replace('"Say {{ text }}."', "{template: t.j2}"), "t.j2": "{{ row['" + EVIL.replace("\r", "") + "'] }}"},
        "row": {"data/rows.jsonl": f'{{"id": {json.dumps(EVIL)}, "text": "a"}}\n' * 2},
        "no row": {"data/rows.jsonl": f'{{"id": "{EVIL}\n'},
        "url": {"batchspec.yaml": f"version: 1\nproject: tests\nproviders: {{digitalocean: {{kind: digitalocean, base_url: {evil}}}}}\n"},
        "settings": {"batchspec.yaml": f"version: 1\nproject: {evil}\n"},
        "lockfile": {"specs/hello.lock": f"{EVIL}\n"},
        "file name": {f"specs/b{EVIL}.yaml": "version: 2\n"},
    }  # fmt: skip
    escaped = set()
    for number, (name, files) in enumerate(broken.items()):
        monkeypatch.chdir(project(files, folder=f"p{number}"))
        run(["plan", "--offline"])
        out, err = capsys.readouterr()
        assert not unseen(out + err), (name, out + err)
        escaped |= {name} if "\\" in out + err else set()
    assert len(escaped) >= 12, escaped


def test_an_unforeseen_error_is_escaped_too(tmp_path: Path) -> None:
    script = (
        "import sys; from runner.cli import main\n"
        "def run(_): raise RuntimeError('\\x1b]0;x\\x07\\x9b')\n"
        "main.run = run; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, unseen(done.stderr)) == (1, set())
    assert "RuntimeError: \\u001b]0;x\\u0007\\u009b" in done.stderr


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_log_line_moves_a_terminal(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the commands' log; a newline in a value begins no line that looks like another entry."""
    fields = {"why": EVIL, "deep": {"a": [EVIL], EVIL: (EVIL,)}, "path": Path(EVIL), "lines": f"a\nb{EVIL}"}
    try:
        configure_logs(1, log_format, no_color=True).info(f"batch{EVIL}", **fields, exc_info=RuntimeError(EVIL))
    finally:
        structlog.reset_defaults()
    err = capsys.readouterr().err
    assert not unseen(err) - {"\x7f"}  # JSON leaves DEL as it is
    assert not any(line.startswith("b") for line in err.splitlines())


@pytest.mark.parametrize("log", [runner.providers.logger, runner.http_server.logger])
def test_no_log_line_of_a_room_moves_a_terminal(log: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    log.warning(f"odd{EVIL}", why=EVIL)  # noqa: G004  it is the event that is hostile
    err = capsys.readouterr().err
    assert "\\u001b]52" in err
    assert not unseen(err)


def test_what_machines_read_is_unchanged_but_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a pipe byte for byte; on a terminal JSON that means the same."""
    data = json.dumps({"text": EVIL}, ensure_ascii=False) + "\n"
    for terminal in (False, True):
        reader, writer = pty.openpty() if terminal else os.pipe()
        with os.fdopen(writer, "w", encoding="utf-8", newline="\n") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            give(data)
            say(EVIL)
            said = ""
            while said.count("\n") < 2:
                said += os.read(reader, 10_000).decode(errors="ignore")
        os.close(reader)
        first, second, _ = said.replace("\r\n", "\n").split("\n")
        assert (first == data.rstrip("\n")) is not terminal
        assert json.loads(first) == {"text": EVIL}
        assert not unseen(second + (first if terminal else ""))
