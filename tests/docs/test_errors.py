"""Each error's code has a page, each page a code, and each page's example gives its code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from runner import errors
from runner.api import open_project
from runner.cli.main import run
from runner.executor.submit import _verified
from runner.jobspec.loader import load_project
from runner.planner.shards import Shard
from runner.providers.protocol import Counts, CreateRequest, RemoteBatch
from runner.reconciler.plan.plan import Submit
from tests.conftest import REPOSITORY
from tests.docs.test_pages import blocks, check, put, steps
from tests.sampling import sampled

REFERENCE = REPOSITORY / "docs" / "reference"
PAGES = sorted((REFERENCE / "errors").glob("BS*.md"))
CODE = re.compile(r"\bBS\d{3}\b")
CLASSES = [
    kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.BatchspecError) and not name.startswith("_")
]
ELSEWHERE = {
    "BS207": "tests/planner/test_cache.py::test_an_input_that_changes_in_this_moment_is_told",
    "BS210": "tests/planner/test_scale.py::test_a_worker_that_dies_is_an_error_with_a_sentence",
    "BS413": "tests/executor/test_proof.py::test_answers_of_a_batch_that_never_was_are_refused",
    "BS510": "tests/docs/test_errors.py::test_a_batch_that_contradicts",
    "BS511": "tests/executor/test_queue_refusals.py::test_a_shard_that_never_fits_stops_the_job",
    "BS610": "tests/executor/test_partitions.py::test_an_open_partition_finishes_as_it_started",
    "BS611": "tests/executor/test_partitions.py::test_input_that_is_gone",
    "BS606": "tests/docs/test_errors.py::test_more_than_the_plan_said",
}
"""Codes that no command gives by itself, and the tests that provoke them."""


def test_each_code_has_a_page_and_each_page_a_code() -> None:
    used = {
        code
        for path in (REPOSITORY / "runner").rglob("*.py")
        for code in re.findall(r'"(BS\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert used == {page.stem for page in PAGES}


def test_the_list_names_all_pages() -> None:
    listed = dict(
        re.findall(
            r"^\| \[(BS\d{3})\]\(errors/\1\.md\) \| (.+) \|$", (REFERENCE / "errors.md").read_text(), re.MULTILINE
        )
    )
    titles = {page.stem: page.read_text().partition("\n")[0].removeprefix(f"# {page.stem}: ") for page in PAGES}
    assert listed == titles
    assert len(set(titles.values())) == len(titles)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_has_a_code(kind: type[errors.BatchspecError]) -> None:
    """The base class, and those of answers with a status that has none of its own, take the one they are raised with."""
    text = (REFERENCE / "errors.md").read_text()
    assert CODE.fullmatch(kind.code) or kind in {errors.BatchspecError, errors.ApiError}
    assert f"`{kind.__name__}`" in text, f"{kind.__name__} is not told of"


def test_what_is_raised_without_a_class_of_its_own_says_its_code() -> None:
    for path in (REPOSITORY / "runner").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"raise BatchspecError\(", text):
            assert 'code="BS' in call(text, found.end()), f"{path}: {text[found.start() : found.start() + 120]}"


def call(text: str, start: int) -> str:
    """The arguments of a call, up to its closing bracket; brackets in texts are balanced in our messages."""
    depth = 1
    for at, character in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return text[start:at]
    raise AssertionError


@pytest.fixture
def example(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project that all examples start from, as the current folder."""
    root = tmp_path / "project"
    for block in blocks(REFERENCE / "errors.md"):
        if block.title:
            put(root, block)
    (root / ".batchspec").mkdir()
    monkeypatch.chdir(root)
    return root


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a service that answers every call with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"id": "some_id", "message": "the words of the service"}).encode()
            body = b"<html>Welcome</html>" if status == 200 else body
            self.send_response(status)
            self.send_header("retry-after", "3600")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "page", sampled([page for page in PAGES if page.stem not in ELSEWHERE], 5), ids=lambda page: page.stem
)
def test_a_pages_example_gives_its_code(
    page: Path, example: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    [status] = re.findall(r"127\.0\.0\.1:8(\d{3})\b", page.read_text())[:1] or ["200"]
    with answering(int(status)) as port:
        told = ""
        for block in blocks(page):
            if block.title:
                put(example, replace(block, text=block.text.replace(f":8{status}", f":{port}")))
            if block.kind == "console":
                for command, shown in steps(block):
                    told = told_by(command, monkeypatch, capfd).replace(f":{port}", f":8{status}")
                    check(command, shown, told)
    assert f"[{page.stem}]" in told, "the last command gives the page's code"


def told_by(command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """What a command prints. Our own commands run in this process, as far as no shell is needed for them."""
    words = shlex.split(command)
    settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
    if words[len(settings)] != "batchspec" or re.search(r"[|&;$<>]", command):
        done = subprocess.run(
            ["bash", "-c", command], text=True, timeout=120, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout
    with monkeypatch.context() as context:
        for setting in settings:
            context.setenv(*setting.split("=", 1))
        context.setattr(sys, "argv", words[len(settings) :])
        with Path(os.devnull).open() as nothing:
            context.setattr(sys, "stdin", nothing)
            run(words[len(settings) + 1 :])
    structlog.reset_defaults()
    out, err = capfd.readouterr()
    return f"{err}{out}"


@pytest.mark.parametrize("code", ELSEWHERE)
def test_a_code_that_no_command_gives_has_a_test_and_a_page_without_an_example(code: str) -> None:
    file, _, name = ELSEWHERE[code].partition("::")
    [body] = re.findall(rf"^def {name}\(.*?(?=^def |\Z)", (REPOSITORY / file).read_text(), re.MULTILINE | re.DOTALL)
    assert f'"{code}"' in body
    assert not any(block.kind == "console" for block in blocks(REFERENCE / "errors" / f"{code}.md"))


def test_a_batch_that_contradicts() -> None:
    order = CreateRequest("file-1", "openai", "/v1/chat/completions", "key-1", {})
    shard = Shard("d" * 64, 1, 1, None, np.array([], "S20"))
    nothing: dict[str, Any] = dict.fromkeys(("usage", "created_at", "ended_at", "expires_at"))
    remote = RemoteBatch("b1", "queued", "file-1", "openai", "", "key-2", {}, Counts(1), errors=(), **nothing)
    with pytest.raises(errors.ConflictError) as caught:
        _verified(remote, shard, order)
    assert caught.value.codes == ("BS510",)


def test_more_than_the_plan_said(example: Path) -> None:
    """Of a plan of two requests, one that allows a single one: apply submits nothing."""
    project = load_project(example, variables={}, provider=None, environ={})
    with open_project(project) as opened:
        planned = opened.plan(project.jobs)
        [job] = planned.plan.jobs
        less = tuple(replace(a, requests=1) if isinstance(a, Submit) else a for a in job.actions)
        narrow = replace(planned, plan=replace(planned.plan, jobs=(replace(job, actions=less),)))
        [outcome] = opened.apply(narrow)
    assert (outcome.submitted, outcome.codes) == (0, ("BS606",))
    assert "[BS606]" in outcome.message


def test_explain_prints_a_page_offline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "bs110"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("# BS110: Unknown key\n")
    assert "the spec explains each" in told, "links are shown as their text"


def test_explain_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [page.stem for page in PAGES]


def test_an_unknown_code_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "BS999"]) == 1
    assert "unknown error code BS999 [BS802]" in capsys.readouterr().err


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("command", ["plan", "apply", "status"])
def test_json_has_the_code_of_what_stopped_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--json", "--job", "jop"]) == 1
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [line["codes"] for line in lines if line["type"] == "error"] == [["BS801"]]


def test_json_has_the_codes_of_a_job(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (example / "data/rows.jsonl").open("a") as file:
        file.write('{"id": "c"}\n{"id": "a", "text": "x"}\n')
    assert run(["plan", "--json"]) == 1
    [line] = [json.loads(text) for text in capsys.readouterr().out.splitlines() if '"error"' in text]
    assert (line["job"], line["codes"]) == ("job", ["BS206", "BS205"])


def test_validate_json_has_a_code_for_each_problem(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (example / "specs/job.yaml").open("a") as file:
        file.write("colour: blue\nreplicates: five\n")
    assert run(["validate", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["code"] for problem in problems] == ["BS110", "BS112"]


def test_an_installed_package_has_the_pages() -> None:
    """They are copied to where `explain` looks first; `pip wheel .` and a look into the wheel shows it."""
    import tomllib

    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"docs/reference/errors": "runner/cli/errors"}
