"""Batches that were made elsewhere, with ids of somebody else, in each line format: used, and not asked again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runner.api import load, open_project
from runner.errors import BatchspecError, InputError
from runner.operations.imports import import_batch
from tests.cli_runner import run_cli
from tests.executor.conftest import Team
from tests.executor.forked_service import TOKEN
from tests.sampling import sampled

Make = Callable[..., Team]
SPEC = """\
version: 1
name: job
provider: test
model: {model}
parameters: {{max_tokens: 64}}
input: {{path: data/rows.jsonl, id: id}}
prompt: {{system: Be brief., user: "Say {{{{ text }}}}."}}
output: {{path: out/job.jsonl}}
{more}"""
LOST = "Their requests are resubmitted and paid again, unless you import them again with `batchspec import`"
RESPONSES = "endpoint: /v1/responses\n"
FORMATS = [
    pytest.param("gpt-4o-mini", "", {"provider": "openai", "endpoint": "/v1/chat/completions"}, id="chat completions"),
    pytest.param("gpt-4o-mini", RESPONSES, {"provider": "openai", "endpoint": "/v1/responses"}, id="responses"),
    pytest.param("claude-haiku-4-5", "", {"provider": "anthropic"}, id="messages"),
]


def spec(one: Team, model: str, more: str) -> None:
    text = SPEC.format(model=model, more=more)
    one.write("specs/job.yaml", text.replace("max_tokens", "max_output_tokens") if more else text)


def foreign(one: Team) -> bytes:
    """The job's own requests as somebody else might have sent them: other ids, another order of lines and fields."""
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ, jobs=1) as opened:
        [prepared], _ = opened.prepare(project.jobs)
        lines = [json.loads(line) for line in prepared.desired.spool.lines()]
    for number, line in enumerate(lines):
        line["custom_id"] = f"mine-{number}"
    return b"".join(json.dumps(dict(reversed(line.items()))).encode() + b"\n" for line in reversed(lines))


def made_elsewhere(one: Team, data: bytes, order: dict[str, str]) -> str:
    """Have a batch at the service without any help of ours; its id, once it has ended."""
    with httpx.Client(base_url=one.url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        intent = client.post("/v1/batches/files", json={"file_name": "elsewhere.jsonl"}).json()
        httpx.put(intent["upload_url"], content=data).raise_for_status()
        made = client.post("/v1/batches", json={"file_id": intent["file_id"], "completion_window": "24h", **order})
        batch = str(made.raise_for_status().json()["batch_id"])
        while client.get(f"/v1/batches/{batch}").json()["status"] != "completed":
            time.sleep(0.05)
    return batch


def take_in(one: Team, batch: str, data: bytes) -> int:
    one.write("elsewhere.jsonl", data)
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ, jobs=1) as opened:
        return import_batch(opened.context, project.jobs[0], batch, one.root / "elsewhere.jsonl").requests


@pytest.mark.parametrize(("model", "more", "order"), FORMATS)
def test_each_line_format(team: Make, model: str, more: str, order: dict[str, str]) -> None:
    one = team()
    spec(one, model, more)
    data = foreign(one)
    batch = made_elsewhere(one, data, order)
    assert take_in(one, batch, data) == 3
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert not one.remote(), "nothing was asked"
    rows = one.output()
    assert [row["batch"] for row in rows] == [batch] * 3
    assert all(row["text"] and row["error"] is None for row in rows)
    assert len({row["text"] for row in rows}) == 3


def test_a_file_made_by_hand_on_windows(team: Make) -> None:
    """A byte order mark and CRLF change nothing of what was asked."""
    one = team()
    data = foreign(one)
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    assert take_in(one, batch, b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")) == 3
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert not one.remote(), "nothing was asked"


def test_a_pointer_in_place_of_the_file(team: Make) -> None:
    one = team()
    data = foreign(one)
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    with pytest.raises(BatchspecError, match="elsewhere.jsonl is a Git LFS pointer") as caught:
        take_in(one, batch, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "git lfs pull" in caught.value.hint


def test_taken_in_twice(team: Make) -> None:
    one = team()
    data = foreign(one)
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    take_in(one, batch, data)
    before = (one.root / "specs/job.lock").read_bytes()
    with pytest.raises(BatchspecError, match=f"batch {batch} is known already, as one of job in specs/job.lock"):
        take_in(one, batch, data)
    assert (one.root / "specs/job.lock").read_bytes() == before


def test_another_file_than_was_sent(team: Make) -> None:
    """It is refused before anything is recorded, and the right one is taken after it."""
    one = team()
    data = foreign(one)
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    lines = data.splitlines(keepends=True)
    with pytest.raises(BatchspecError, match="has 3 requests, and .* has 2"):
        take_in(one, batch, b"".join(lines[:2]))
    with pytest.raises(BatchspecError, match=f"batch {batch} answers none of the requests"):
        take_in(one, batch, data.replace(b"mine-", b"yours-"))
    assert not (one.root / "specs/job.lock").exists()
    assert take_in(one, batch, data) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda line: line | {"url": "/v1/responses"}, "is not a request of job", id="another endpoint"),
        pytest.param(lambda line: {"custom_id": "x", "params": {}}, "is not a request of job", id="another format"),
        pytest.param(lambda line: line | {"custom_id": 7}, "has no custom_id", id="no id"),
        pytest.param(lambda line: line | {"custom_id": "mine-2"}, "is in this file already", id="an id twice"),
        pytest.param(lambda line: [line], "has no custom_id", id="no object"),
    ],
)
def test_a_file_that_is_no_request_file_of_the_job(
    team: Make, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """Said with its line; nothing is recorded."""
    one = team()
    data = foreign(one)
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    lines = data.splitlines()
    lines[1] = json.dumps(change(json.loads(lines[1]))).encode()
    with pytest.raises(InputError, match=rf"elsewhere\.jsonl:2: .*{message}"):
        take_in(one, batch, b"\n".join(lines))
    assert not (one.root / "specs/job.lock").exists()


def command(one: Team, *arguments: str) -> str:
    done = run_cli(arguments, cwd=one.root, env={**os.environ, **one.environ}, check=True)
    return done.stdout


@pytest.mark.slow
def test_import_says_how_many_requests_are_the_jobs_and_forget_what_is_lost(team: Make) -> None:
    """One of its four requests is of no row; and the service's list does not say whose the batch is."""
    one = team()
    line = json.loads(foreign(one).splitlines()[0])
    line["custom_id"], line["body"]["messages"][-1]["content"] = "other", "Say something else."
    data = foreign(one) + json.dumps(line).encode() + b"\n"
    batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
    one.write("elsewhere.jsonl", data)
    told = command(one, "import", "job", batch, "--requests", "elsewhere.jsonl")
    assert "(completed, 4 requests) into job.\njob uses 3 of its 4 requests.\n" in told
    assert "Compare elsewhere.jsonl with `batchspec render`" in told
    [outcome] = one.apply()
    assert (outcome.end, len(one.remote())) == ("succeeded", 0)
    assert "To do this, run `batchspec apply`." in told
    none = made_elsewhere(one, data.splitlines()[-1], FORMATS[0].values[2])  # type: ignore[arg-type]
    one.write("none.jsonl", data.splitlines()[-1])
    told = command(one, "import", "job", none, "--requests", "none.jsonl")
    assert "job uses 0 of its 1 request.\n" in told
    assert "To do this, run `batchspec apply`." not in told
    one.rows("something new", "one", "two")
    one.apply()
    assert len(one.remote()) == 1
    told = command(one, "forget", "job", "--yes")
    assert "forget job: 3 batches in specs/job.lock" in told
    assert f"Of these, 2 batches can't be found in the service's list. {LOST}: " in told
    assert {batch, none} == set(told.splitlines()[-1].rpartition(": ")[2].split(", "))


@pytest.mark.parametrize(
    ("dedupe", "replicates", "sent", "used"),
    sampled([("true", 1, 3, 1), ("false", 1, 3, 2), ("true", 2, 3, 2), ("false", 2, 5, 4), ("false", 2, 1, 1)], 2),
)
def test_equal_requests_are_the_jobs_as_often_as_it_asks_them(
    team: Make, dedupe: str, replicates: int, sent: int, used: int
) -> None:
    """Two rows ask the same."""
    one = team()
    one.rows("same", "same")
    one.spec("job", f"dedupe: {dedupe}", f"replicates: {replicates}")
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ, jobs=1) as opened:
        [prepared], _ = opened.prepare(project.jobs)
        line = json.loads(next(prepared.desired.spool.lines()))
        data = b"".join(json.dumps(line | {"custom_id": f"mine-{n}"}).encode() + b"\n" for n in range(sent))
        batch = made_elsewhere(one, data, FORMATS[0].values[2])  # type: ignore[arg-type]
        one.write("elsewhere.jsonl", data)
        done = import_batch(opened.context, project.jobs[0], batch, one.root / "elsewhere.jsonl")
        assert (done.requests, done.used_by(prepared.desired.spool)) == (sent, used)
