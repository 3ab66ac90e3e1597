"""How an apply ends: failed jobs in a user's terms, what is tolerated, and what became of each of several jobs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runner.state.ledger import Ledger
from tests.cli_runner import run_cli
from tests.executor.story import ROWS, SHARD, TEXTS, Clock, apply, checkout, plan
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Reply, Seen
from tests.sampling import sampled

SHARDS = ROWS // SHARD


@pytest.mark.slow
def test_the_lines_that_a_service_complains_of_are_rows(stub: Stub, tmp_path: Path) -> None:
    """The row's id, the service's reason, and where the rendered line stands."""
    stub.outcome = "failed"

    def failing(seen: Seen) -> Reply:
        told = stub.answer(seen)
        for batch in [told.body] if "batch_id" in told.body else told.body["data"]:
            if batch["status"] == "failed":
                batch["errors"] = [{"code": "invalid_request", "message": "no such parameter", "line": 2}]
                batch["request_counts"] = {"total": SHARD, "completed": 0, "failed": 0}
        return told

    stub.on("GET", "/v1/batches", *[Instead(failing)] * 1000)
    stub.on("GET", "/v1/batches/batch-.", *[Instead(failing)] * 1000)
    stub.on("GET", "/v1/batches/.*/results", *[Reply(412, {"id": "x", "message": "none"})] * 1000)
    root = checkout(tmp_path, stub.url)
    assert apply(root)[0].end == "failed"
    assert len(stub.jobs) == SHARDS, "that does not mend itself, so it is not asked again"
    told = plan(root).failures
    assert len(told) == SHARDS
    rows = []
    for text in told:  # shards go out beside each other: which batch comes first is chance
        found = re.fullmatch(
            r"batch batch-\d failed: row (\d+): line 2: no such parameter \(invalid_request\) \[(.+):2\]", text
        )
        assert found, text
        rows.append(int(found[1]))
        line = json.loads((root / found[2]).read_text().splitlines()[1])
        assert line["body"]["messages"][0]["content"] == TEXTS[rows[-1]]
    assert sorted(rows) == list(range(1, len(TEXTS), SHARD))


SPEC = """\
version: 1
name: {name}
model: gpt-4o-mini
parameters: {{max_tokens: 16}}
input: {{path: data/rows.jsonl, id: id}}
prompt: {{user: "Say {{{{ text }}}} for {name}."}}
output: {{path: out/{name}.jsonl}}
{more}"""


def command(root: Path, *arguments: str, faults: str = "") -> tuple[int, str]:
    done = run_cli(
        ["apply", "--yes", "--provider", "local", *arguments],
        cwd=root,
        env={**os.environ, "BATCHSPEC_SERVICE_FAULTS": faults},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tolerate", "code"),
    sampled([("0", 3), ("2", 3), ("3", 0), ("5%", 3), ("10%", 0)], 2),
    ids=lambda value: f"{value}",
)
def test_what_is_tolerated_decides_between_0_and_3(project: Callable[..., Path], tolerate: str, code: int) -> None:
    """As a count or as a share; here 3 of 30 fail for good. It is about the state: a second apply says the same."""
    rows = "".join(json.dumps({"id": n, "text": str(n)}) + "\n" for n in range(30))
    spec = SPEC.format(name="hello", more=f"tolerate: {tolerate}\n")
    root = project({"specs/hello.yaml": spec, "data/rows.jsonl": rows})
    assert command(root, faults="fail-requests=3:content_policy")[0] == code
    assert command(root)[0] == code


def test_one_job_that_fails_stops_none_of_the_others(project: Callable[..., Path]) -> None:
    """The summary says of each what became of it: succeeded, failed, an error, skipped."""
    files = {
        f"specs/{name}.yaml": SPEC.format(name=name, more=more)
        for name, more in {
            "hello": "",
            "broken": "max_in_flight: {tokens: 1}\n",
            "picky": "retry: {on: []}\nmax_in_flight: {shards: 1}\n",
            "wrong": "",
        }.items()
    }
    files["specs/wrong.yaml"] = files["specs/wrong.yaml"].replace("{{ text }}", "{{ text | int + absent }}")
    code, said = command(project(files), faults="fail-job=@1:server_error")
    assert code == 1, said
    assert "broken: error (requests submitted: 0)" in said
    assert "wrong: skipped, see its error above" in said
    ends = dict(re.findall(r"^(hello|picky): (\w+) \(", said, re.MULTILINE))
    assert ends.keys() == {"hello", "picky"}
    assert set(ends.values()) <= {"succeeded", "failed"}
    assert "succeeded" in ends.values()


def test_what_still_runs_is_said_to(project: Callable[..., Path]) -> None:
    code, said = command(project(), "--timeout", "1s", faults="stuck-validating=1:60")
    assert code == 4, said
    assert "hello: running (requests submitted: 3)" in said
    assert "To fetch and write their results, run: batchspec apply --yes --provider local" in said


class TestUploads:
    """A file is uploaded once, for as long as it is good."""

    def creates(self, stub: Stub, root: Path, clock: timedelta, monkeypatch: pytest.MonkeyPatch) -> int:
        """Apply so much later, with the creates of the first time refused; how many files there are then."""
        now = Clock.now
        with monkeypatch.context() as patch:
            patch.setattr(Clock, "now", lambda self: now(self) + clock)
            apply(root)
        return len(stub.calls("POST", "/v1/batches/files"))

    @pytest.mark.parametrize(("days", "files"), [(0, 1), (28, 1), (30, 2)])
    def test_for_29_days(
        self, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, files: int
    ) -> None:
        root = checkout(tmp_path, stub.url)
        spec = (root / "specs/told.yaml").read_text()
        (root / "specs/told.yaml").write_text(spec.replace(f"max_requests: {SHARD}", "max_requests: 100"))
        stub.on("POST", "/v1/batches", Reply(403, {"id": "forbidden", "message": "not today"}))
        assert self.creates(stub, root, timedelta(), monkeypatch) == 1
        assert self.creates(stub, root, timedelta(days=days), monkeypatch) == files
        assert len(stub.jobs) == 1

    def test_not_when_the_service_has_lost_it(self, stub: Stub, tmp_path: Path) -> None:
        """A create that is refused for its file is sent once more, with a fresh one."""
        root = checkout(tmp_path, stub.url)
        stub.on("POST", "/v1/batches", *[Reply(403, {"id": "forbidden", "message": "not today"})] * SHARDS)
        apply(root)
        uploaded = len(stub.calls("PUT"))
        stub.files = dict.fromkeys(stub.files)
        assert apply(root)[0].end == "succeeded"
        assert len(stub.jobs) == SHARDS
        assert len(stub.calls("PUT")) == uploaded + SHARDS
        ledger = Ledger(root / ".batchspec/ledger.db")
        assert len(ledger.batches(f"digitalocean:{stub.url}")) == SHARDS
        ledger.close()
