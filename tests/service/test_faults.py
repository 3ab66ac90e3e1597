"""Trouble on request: each fault does what its line in the table says, as often as it was asked for, and no more."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from runner.errors import ServiceError
from runner.jobspec.settings import LocalProfile
from runner.providers import open_api
from runner.providers.protocol import CreateRequest
from runner.service import ServiceConfig
from runner.service.faults.faults import KINDS, Faults, parse, table
from tests.service.conftest import Caller, Serve, chat

CUT_OFF = (httpx.RemoteProtocolError, httpx.ReadError)
"""A connection that ends without an answer: it is closed, or reset if the end comes before all was read."""


def struck(times: int, *faults: str, seed: int = 0, name: str = "lost-create") -> list[int]:
    """At which of so many times it strikes."""
    armed = Faults(faults, seed)
    return [number for number in range(1, times + 1) if armed.draw(name) is not None]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        pytest.param("lost-create", [1], id="usual"),
        pytest.param("lost-create=2", [1, 2], id="first"),
        pytest.param("lost-create=@3", [3], id="only"),
        pytest.param("lost-create=0", [], id="never"),
        pytest.param("lost-create=100%", [1, 2, 3, 4, 5], id="always"),
        pytest.param("slow=5", [], id="another"),
    ],
)
def test_a_fault_strikes_as_often_as_it_says(text: str, times: list[int]) -> None:
    assert struck(5, text) == times


def test_chance_goes_by_the_seed() -> None:
    """The same seed strikes at the same times; another at others; another fault beside it changes nothing."""
    first = struck(200, "lost-create=20%", seed=1)
    assert 15 < len(first) < 70
    assert struck(200, "lost-create=20%", "slow=50%", seed=1) == first
    assert struck(200, "lost-create=20%", seed=2) != first


def test_a_fault_may_be_given_twice() -> None:
    assert struck(5, "lost-create=@2", "lost-create=@4") == [2, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("lost-creates", "use lost-create, ", id="name"),
        pytest.param("", "there is no fault ''", id="empty"),
        pytest.param("lost-create=often", "does not say when", id="when"),
        pytest.param("lost-create=101%", "does not say when", id="over-100"),
        pytest.param("lost-create=-1", "does not say when", id="negative"),
        pytest.param("lost-create=1:2", "nothing behind a colon", id="no-detail"),
        pytest.param("slow=1:soon", "takes seconds", id="detail"),
        pytest.param("missing-lines=1:5", "share of the lines", id="share"),
    ],
)
def test_a_fault_that_is_written_wrong_is_refused_before_anything_starts(tmp_path: Any, text: str, says: str) -> None:
    with pytest.raises(ServiceError) as caught:
        ServiceConfig(data=tmp_path, faults=(text,))
    assert says in f"{caught.value} {caught.value.hint}"


def test_every_fault_stands_in_the_table_and_is_well_formed() -> None:
    for kind in KINDS.values():
        assert parse(kind.name).kind is kind
        assert f"  {kind.name} " in table()


# Exchanges.


def test_lost_create_is_accepted_without_an_answer(serve: Serve) -> None:
    """The caller hears nothing, the job is there, and the same request_id finds it."""
    api = serve(faults=("lost-create=1",))
    file_id = api.upload([chat("a")])
    with pytest.raises(CUT_OFF):
        api.create(file_id, request_id="order-1")
    (batch,) = api.http.get("/v1/batches").json()["data"]
    assert batch["request_id"] == "order-1"
    again = api.create(file_id, request_id="order-1")
    assert (again.status_code, again.json()["id"]) == (201, batch["id"])
    assert api.ended(batch["id"])["status"] == "completed"


def test_unheard_create_is_not_accepted(serve: Serve) -> None:
    api = serve(faults=("unheard-create=1",))
    file_id = api.upload([chat("a")])
    with pytest.raises(CUT_OFF):
        api.create(file_id, request_id="order-1")
    assert api.http.get("/v1/batches").json()["data"] == []
    assert api.create(file_id, request_id="order-1").status_code == 201


def test_bursts_answer_several_calls_with_errors_and_then_end(serve: Serve) -> None:
    api = serve(faults=("burst-429=@3:2", "burst-5xx=@4:4"))
    replies = [api.http.get("/v1/batches") for _ in range(10)]
    assert [reply.status_code for reply in replies] == [200, 200, 429, 429, 500, 502, 503, 504, 200, 200]
    for reply in replies[2:8]:
        assert reply.json().keys() == {"id", "message", "request_id"}
    assert replies[2].headers["retry-after"] == "1"


def test_slow_answers_come_late_to_what_was_done_at_once(serve: Serve) -> None:
    """A caller that has no patience does not know that its create was accepted."""
    api = serve(faults=("slow=@2:1",))
    file_id = api.upload([chat("a")])
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/v1/batches", json={"file_id": file_id, "completion_window": "24h"}, timeout=0.2)
    assert len(api.http.get("/v1/batches").json()["data"]) == 1


def test_an_upload_url_that_has_expired(serve: Serve) -> None:
    api = serve(faults=("expired-upload-url=1",))
    intent = api.intent()
    assert api.plain.put(intent["upload_url"], content=b"x").status_code == 403
    assert api.create(intent["file_id"]).status_code == 400
    assert api.run([chat("a")])["status"] == "completed"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_upload_that_is_cut_off_counts_for_nothing_and_can_be_repeated(serve: Serve, size: int) -> None:
    api = serve(faults=("cut-upload=2",))
    intent = api.intent()
    content = b"x" * size
    for sent in (content, iter([content])):
        with pytest.raises(httpx.TransportError):
            api.plain.put(intent["upload_url"], content=sent)
        assert api.create(intent["file_id"]).status_code == 400
    assert api.plain.put(intent["upload_url"], content=content).status_code == 200


def test_a_download_that_is_cut_off_can_go_on(serve: Serve) -> None:
    api = serve(faults=("cut-download=1",))
    batch = api.run([chat(f"r{index}") for index in range(200)])
    url = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    got = bytearray()

    def download() -> None:
        with api.plain.stream("GET", url) as reply:
            for piece in reply.iter_raw():
                got.extend(piece)

    with pytest.raises(CUT_OFF):
        download()
    assert got
    rest = api.plain.get(url, headers={"range": f"bytes={len(got)}-"})
    assert rest.status_code == 206
    assert bytes(got) + rest.content == api.plain.get(url).content


def test_results_that_end_in_the_middle_of_a_line(serve: Serve) -> None:
    """Nothing but the half line shows that this is not all of it; the next download is whole."""
    api = serve(faults=("cut-results=1",))
    batch = api.run([chat(f"r{index}") for index in range(20)])
    url = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    short, whole = api.plain.get(url), api.plain.get(url)
    assert int(short.headers["content-length"]) == len(short.content) < len(whole.content)
    assert short.content.count(b"\n") == 10
    assert not short.content.endswith(b"\n")
    assert whole.content.startswith(short.content)
    assert short.headers["etag"] != whole.headers["etag"]


# Jobs and their results.


def lines_with(serve: Serve, *faults: str) -> list[bytes]:
    """The output lines of a job of 40 requests, the same at every download."""
    api = serve(faults=faults)
    batch = api.run([chat(f"r{index}") for index in range(40)])
    assert batch["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
    url = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    content = api.plain.get(url).content
    assert api.plain.get(url).content == content
    return content.splitlines()


def ids(lines: list[bytes]) -> list[str]:
    return [orjson.loads(line)["custom_id"] for line in lines]


ASKED = [f"r{index}" for index in range(40)]


def test_doubled_lines(serve: Serve) -> None:
    counts = Counter(ids(lines_with(serve, "double-lines=1:25%")))
    assert sorted(counts) == sorted(ASKED)
    assert Counter(counts.values()) == {1: 30, 2: 10}


def test_shuffled_lines(serve: Serve) -> None:
    got = ids(lines_with(serve, "shuffle-lines"))
    assert got != ASKED
    assert sorted(got) == sorted(ASKED)


def test_missing_lines(serve: Serve) -> None:
    got = ids(lines_with(serve, "missing-lines=1:50%"))
    assert len(got) == 20
    assert set(got) < set(ASKED)


def test_unknown_lines(serve: Serve) -> None:
    got = ids(lines_with(serve, "unknown-lines"))
    assert len(got) == 44
    assert {name for name in got if not name.startswith("unknown-")} == set(ASKED)


def test_garbled_lines(serve: Serve) -> None:
    lines = lines_with(serve, "garbled-lines")
    assert len(lines) == 40
    broken = 0
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            broken += 1
    assert broken == 4


def test_everything_about_lines_at_once(serve: Serve) -> None:
    lines = lines_with(serve, "double-lines", "shuffle-lines", "missing-lines", "unknown-lines", "garbled-lines")
    assert len(lines) == 40 - 4 + 4 + 4


def test_a_fault_of_jobs_hits_as_many_jobs_as_it_says_and_outlives_a_restart(serve: Serve) -> None:
    """Which jobs are hit is decided when they are created."""
    api = serve(faults=("missing-lines=1:50%",))
    batches = [api.run([chat(f"r{index}") for index in range(10)])["id"] for _ in range(2)]
    assert [len(api.results(batch)[0]) for batch in batches] == [5, 10]
    api.stop()
    api = serve()
    assert [len(api.results(batch)[0]) for batch in batches] == [5, 10]


def test_results_that_are_gone_before_their_time(serve: Serve) -> None:
    api = serve(faults=("results-gone",))
    batch = api.run([chat("a")])
    assert api.http.get(f"/v1/batches/{batch['id']}/results").status_code == 404


def test_requests_that_fail_with_a_code(serve: Serve) -> None:
    """By chance, and the same ones however often the job is started again."""
    api = serve(faults=("fail-requests=30%:rate_limit_exceeded",))
    batch = api.run([chat(f"r{index}") for index in range(200)])
    output, errors = api.results(batch["id"])
    assert batch["status"] == "completed"
    assert 30 < len(errors) < 90
    assert len(output) + len(errors) == 200
    assert {line["error"]["code"] for line in errors} == {"rate_limit_exceeded"}


def test_requests_fail_with_several_codes(serve: Serve) -> None:
    api = serve(faults=("fail-requests=2:server_error", "fail-requests=@2:content_policy_violation"))
    batch = api.run([chat(f"r{index}") for index in range(5)])
    codes = Counter(line["error"]["code"] for line in api.results(batch["id"])[1])
    assert codes == {"server_error": 2, "content_policy_violation": 1}


def test_a_job_that_expires_half_done(serve: Serve) -> None:
    api = serve(faults=("expire-half",))
    batch = api.run([chat(f"r{index}") for index in range(40)])
    assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 40, "completed": 20, "failed": 0})
    assert len(api.results(batch["id"])[0]) == 20
    assert api.run([chat("a")])["status"] == "completed"


def test_a_job_that_fails_half_done_keeps_what_was_done(serve: Serve) -> None:
    api = serve(faults=("fail-half=1:server_error",))
    batch = api.run([chat(f"r{index}") for index in range(40)])
    assert (batch["status"], batch["request_counts"]["completed"]) == ("failed", 20)
    assert [error["code"] for error in batch["errors"]] == ["server_error"]
    assert len(api.results(batch["id"])[0]) == 20


def test_a_job_that_fails_as_a_whole(serve: Serve) -> None:
    api = serve(faults=("fail-job=1:insufficient_quota",))
    batch = api.run([chat("a")])
    assert (batch["status"], batch["request_counts"]["completed"]) == ("failed", 0)
    assert [error["code"] for error in batch["errors"]] == ["insufficient_quota"]


@pytest.mark.slow
def test_a_job_stuck_in_validating_expires_in_the_end(serve: Serve) -> None:
    """Others overtake it; the completion window ends it."""
    api = serve(faults=("stuck-validating",), completion_window=1.0)
    stuck = api.submit([chat("a")])["id"]
    assert api.run([chat("b")])["status"] == "completed"
    assert api.get(stuck)["status"] == "validating"
    batch = api.ended(stuck)
    assert (batch["status"], batch["queued_at"]) == ("expired", None)


def test_a_job_stuck_in_validating_for_a_while(serve: Serve) -> None:
    api = serve(faults=("stuck-validating=1:0.5",))
    began = time.time()
    assert api.run([chat("a")])["status"] == "completed"
    assert time.time() - began >= 0.5


def test_a_status_that_nobody_knows(serve: Serve) -> None:
    api = serve(faults=("unknown-status=1:paused",), answer_delay=0.3)
    batch = api.submit([chat("a")])
    assert batch["status"] == "paused"
    assert api.ended(batch["id"])["status"] == "completed"


@pytest.mark.slow
def test_time_can_run_faster(serve: Serve) -> None:
    """At 86,400 times its pace a day passes in a second: the window, then the results' and the file's thirty days."""
    api = serve(
        time_scale=86_400.0, answer_delay=0.05, drain=0.1, url_ttl=86_400.0, file_ttl=3 * 86_400.0, result_ttl=86_400.0
    )
    batch = api.run([chat(f"r{index}") for index in range(1000)])
    assert batch["status"] == "expired"
    assert 0 < batch["request_counts"]["completed"] < 1000
    api.until(batch["id"], lambda seen: not seen["result_available"])
    api.until_true(lambda: api.create(batch["file_id"]).status_code == 404)


def test_the_local_provider_makes_the_trouble_that_the_environment_asks_for(tmp_path: Any) -> None:
    """BATCHSPEC_SERVICE_FAULTS is for tests of pipelines that run with `provider: local`."""
    environ = {"BATCHSPEC_SERVICE_FAULTS": "fail-job=1, expire-half=@2", "BATCHSPEC_SERVICE_SEED": "7"}
    profile = LocalProfile(kind="local", backend="echo")
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(orjson.dumps(chat(f"r{index}")) + b"\n" for index in range(4)))
    api = open_api(profile, key=None, service_folder=tmp_path / "service", environ=environ)
    try:
        statuses = []
        for number in range(3):
            intent = api.create_file("in.jsonl", path.stat().st_size)
            api.upload(intent, path)
            order = CreateRequest(
                file_id=intent.file_id,
                line_format="openai",
                endpoint="/v1/chat/completions",
                request_id=f"order-{number}",
                metadata={},
            )
            batch = api.create_batch(order)
            while not batch.ended:
                time.sleep(0.02)
                batch = api.get_batch(batch.batch_id)
            statuses.append(batch.status)
        assert statuses == ["failed", "expired", "completed"]
    finally:
        api.close()


@pytest.mark.parametrize(
    ("name", "value"), [("FAULTS", "no-such"), ("SEED", "x"), ("TIME_SCALE", "fast"), ("TIME_SCALE", "0")]
)
def test_the_local_provider_says_what_is_wrong_with_its_environment(tmp_path: Any, name: str, value: str) -> None:
    profile = LocalProfile(kind="local", backend="echo")
    environ = {f"BATCHSPEC_SERVICE_{name}": value}
    api = open_api(profile, key=None, service_folder=tmp_path, environ=environ)
    with pytest.raises(ServiceError):
        api.create_file("in.jsonl", 1)


def test_trouble_leaves_no_trace_where_none_is_asked_for(api: Caller) -> None:
    assert api.run([chat("a")])["status"] == "completed"
    assert not Faults(())


def test_the_docs_list_every_fault_as_the_command_does() -> None:
    docs = Path(__file__).parents[2] / "docs" / "service-faults.md"
    assert table() in docs.read_text(encoding="utf-8")
