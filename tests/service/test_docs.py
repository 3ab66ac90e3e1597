"""docs/service.md does what it says: its commands are run in a shell as they stand there, its Python as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli_runner import cli_path, run_cli
from tests.service.conftest import Serve, chat
from tests.service.receiver import serve_receiver
from tests.service.upstream import serve_upstream

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = (REPOSITORY / "docs" / "service.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\S[^\n]*)\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    found = [text for name, text in BLOCKS if name == kind]
    assert found, kind
    return found


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as somebody would who pastes it, and end what it has left running."""
    path = os.pathsep.join([str(Path(cli_path()).parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    # A port that is free here may be taken where the tests run.
    script = script.replace("--port 8899", "--port 0")
    ending = "trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{ending}\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def contents(path: Path) -> dict[str, str]:
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return {line["custom_id"]: line["response"]["choices"][0]["message"]["content"] for line in lines}


def test_the_round_with_curl_and_the_page(tmp_path: Path) -> None:
    done = shell("\n".join(blocks("sh")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "output.jsonl") == {"req-1": "Say hello.", "req-2": "Say goodbye."}
    assert '"custom_id":"req-1"' in done.stdout


def test_the_same_round_in_front_of_another_server(tmp_path: Path) -> None:
    start, *round_ = blocks("sh")
    assert "batchspec serve" in start
    with serve_upstream() as upstream:
        done = shell("\n".join([*blocks("sh upstream"), *round_]), tmp_path, UPSTREAM=f"{upstream.url}/v1")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "output.jsonl") == {"req-1": "re: Say hello.", "req-2": "re: Say goodbye."}


def test_what_is_said_to_be_refused_is(tmp_path: Path) -> None:
    done = shell(blocks("sh refused")[0], tmp_path)
    assert done.returncode == 1
    assert "refusing to listen on 0.0.0.0 without a token" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("secret", ["own words", "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="])
def test_the_check_of_a_webhook_works(serve: Serve, secret: str) -> None:
    (example,) = blocks("python webhook")
    with serve_receiver() as receiver:
        api = serve()
        batch = api.run([chat("a")], webhook={"url": receiver.url, "secret": secret})
        api.until_true(lambda: len(receiver.received) == 1)
    (received,) = receiver.received
    names: dict[str, Any] = {"secret": secret, "body": received.content, "headers": received.headers}
    exec(example, names)
    assert names["event"]["data"] == batch


def test_the_settings_example_is_valid(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    (tmp_path / "batchspec.yaml").write_text(example)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text(
        "version: 1\nname: a\nmodel: m\nprovider: gpu-box\nparameters: {max_tokens: 5}\n"
        "input: {path: rows.jsonl, id: id}\nprompt: {user: hi}\noutput: {path: out.jsonl}\n"
    )
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    done = run_cli(["validate"], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_every_option_that_is_named_exists() -> None:
    """And the files that are linked to."""
    done = run_cli(["serve", "--help"], cwd=REPOSITORY, env={**os.environ, "COLUMNS": "200"}, check=True)
    own = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCUMENT))
    others = {"--max-num-seqs", "--no-deps", "--log-format", "--help"}
    assert own - others <= set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    for link in re.findall(r"\]\(([a-z-]+\.md)\)", DOCUMENT):
        assert (REPOSITORY / "docs" / link).exists()
