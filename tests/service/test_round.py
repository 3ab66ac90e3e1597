"""The way of a job from upload to results, for each format and shape."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.conftest import Caller, Serve, chat, message, response


@pytest.mark.parametrize(
    ("make", "provider", "endpoint", "text_of"),
    [
        pytest.param(
            chat,
            "openai",
            "/v1/chat/completions",
            lambda answer: answer["choices"][0]["message"]["content"],
            id="chat",
        ),
        pytest.param(
            response,
            "openai",
            "/v1/responses",
            lambda answer: answer["output"][0]["content"][0]["text"],
            id="responses",
        ),
        pytest.param(message, "anthropic", None, lambda answer: answer["content"][0]["text"], id="anthropic"),
    ],
)
def test_full_round_with_the_api_descriptions_body(
    api: Caller, make: Any, provider: str, endpoint: str | None, text_of: Any
) -> None:
    """Each line format goes the whole way and is answered in its own response object, once a request."""
    order = {"provider": provider, "request_id": "order-1", "metadata": {"team": "a"}}
    if endpoint:
        order["endpoint"] = endpoint
    batch = api.run([make(f"r{index}", f"text {index}") for index in range(20)], **order)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert batch["result_available"] is True
    assert batch["usage"]["input_tokens"] > 0
    assert batch["metadata"] == {"team": "a"}
    assert batch.get("endpoint") == endpoint
    output, errors = api.results(batch["id"])
    assert errors == []
    assert {line["custom_id"]: text_of(line["response"]) for line in output} == {
        f"r{index}": f"text {index}" for index in range(20)
    }
    assert all(line["error"] is None for line in output)


@pytest.mark.parametrize(
    ("make", "provider", "endpoint"),
    [
        pytest.param(chat, "openai", "/v1/chat/completions", id="chat"),
        pytest.param(response, "openai", "/v1/responses", id="responses"),
        pytest.param(message, "anthropic", None, id="anthropic"),
    ],
)
def test_what_the_guides_body_lacks_is_inferred_from_the_first_line(
    api: Caller, make: Any, provider: str, endpoint: str | None
) -> None:
    """The guide's create names neither provider nor endpoint."""
    batch = api.submit([make("r1")])
    assert (batch["provider"], batch.get("endpoint")) == (provider, endpoint)
    assert batch["status"] == "validating"
    assert batch["model"] == make("r1").get("body", make("r1").get("params"))["model"]
    assert batch["request_id"]


def test_one_answer_speaks_all_dialects(api: Caller) -> None:
    """The same facts stand under the names that each known client reads."""
    batch = api.run([chat("r1")])
    assert batch["id"] == batch["batch_id"]
    assert batch["file_id"] == batch["input_file_id"]
    assert batch["created_at"].endswith("Z")
    for moment in ("created_at", "queued_at", "in_progress_at", "finalizing_at", "completed_at"):
        assert batch[moment] is not None
    assert batch["failed_at"] is batch["cancelled_at"] is batch["expired_at"] is None
    results = api.http.get(f"/v1/batches/{batch['id']}/results").json()
    assert results["output_url"] == results["output_file_url"] == results["download"]["presigned_url"]
    assert results["error_url"] is results["error_file_url"] is None
    assert results["result_available"] is True
    assert results["batch_id"] == batch["id"]


def test_job_level_model_and_parameters_are_defaults_under_each_lines_own(api: Caller) -> None:
    """The guide's `parameters` fill what a line leaves out, and never override it."""
    long = "word " * 20
    lines = [chat("own", long, max_tokens=2), chat("default", long)]
    for line in lines:
        del line["body"]["model"]
    batch = api.run(lines, model="m-default", parameters={"max_tokens": 3, "temperature": 0.2})
    assert batch["model"] == "m-default"
    answers = {line["custom_id"]: line["response"] for line in api.results(batch["id"])[0]}
    assert answers["own"]["usage"]["completion_tokens"] == 2
    assert answers["default"]["usage"]["completion_tokens"] == 3
    assert answers["default"]["model"] == "m-default"


def test_max_tokens_goes_by_its_name_in_responses(api: Caller) -> None:
    """For /v1/responses the job's `max_tokens` becomes `max_output_tokens`."""
    lines = [response("default", "word " * 20), response("own", "word " * 20, max_output_tokens=1)]
    batch = api.run(lines, parameters={"max_tokens": 3})
    answers = {line["custom_id"]: line["response"] for line in api.results(batch["id"])[0]}
    assert answers["default"]["usage"]["output_tokens"] == 3
    assert answers["default"]["status"] == "incomplete"
    assert answers["own"]["usage"]["output_tokens"] == 1


def test_failed_requests_stand_in_the_error_file(api: Caller) -> None:
    """A job with some failed requests is completed; they stand in the error file and nowhere else."""
    batch = api.run([chat("good"), chat("bad", max_tokens=-1)])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    output, errors = api.results(batch["id"])
    assert [line["custom_id"] for line in output] == ["good"]
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [("bad", "invalid_request")]
    assert errors[0].keys() == {"custom_id", "error"}


def test_a_job_whose_every_request_failed_is_completed_without_an_output_file(api: Caller) -> None:
    batch = api.run([chat("a", max_tokens=-1), chat("b", max_tokens=0)])
    assert batch["status"] == "completed"
    assert batch["output_file_id"] is None
    results = api.http.get(f"/v1/batches/{batch['id']}/results").json()
    assert results["output_url"] is None
    assert len(api.results(batch["id"])[1]) == 2


def test_openai_result_shape(serve: Serve) -> None:
    api = serve(result_shape="openai")
    batch = api.run([chat("good"), chat("bad", max_tokens=-1)])
    (good,), (bad,) = api.results(batch["id"])
    assert good["response"]["status_code"] == 200
    assert good["response"]["body"]["choices"][0]["message"]["content"] == "Say hello."
    assert good["id"] != bad["id"]
    assert bad["response"] is None
    assert bad["error"]["code"] == "invalid_request"


def test_anthropic_result_shape(serve: Serve) -> None:
    api = serve(result_shape="anthropic")
    batch = api.run([message("good"), message("long", "x" * 600_000)])
    (good,), (bad,) = api.results(batch["id"])
    assert good["result"]["type"] == "succeeded"
    assert good["result"]["message"]["content"][0]["text"] == "Say hello."
    assert bad["result"]["type"] == "errored"
    assert bad["result"]["error"]["error"]["type"] == "context_length_exceeded"


def test_echo_is_a_function_of_the_request(api: Caller) -> None:
    """The same request is answered with the same bytes, in whatever job and order it comes."""
    first = api.results(api.run([chat("a", "one"), chat("b", "two")])["id"])[0]
    second = api.results(api.run([chat("b", "two"), chat("a", "one")])["id"])[0]
    assert sorted(first, key=lambda line: line["custom_id"]) == sorted(second, key=lambda line: line["custom_id"])


def test_a_file_can_be_used_by_several_jobs(api: Caller) -> None:
    file_id = api.upload([chat("r1")])
    ids = {api.create(file_id).json()["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(api.ended(batch_id)["status"] == "completed" for batch_id in ids)


def test_results_are_412_before_the_end(serve: Serve) -> None:
    api = serve(answer_delay=5.0, drain=0.1)
    batch = api.submit([chat("r1")])
    reply = api.http.get(f"/v1/batches/{batch['id']}/results")
    assert reply.status_code == 412
    assert reply.json()["id"] == "precondition_failed"


def test_each_call_of_results_makes_new_urls_that_are_good_for_a_while(serve: Serve) -> None:
    api = serve(result_ttl=1.0)
    batch = api.run([chat("r1")])
    assert api.results(batch["id"])[0]
    api.until(batch["id"], lambda seen: not seen["result_available"])
    reply = api.http.get(f"/v1/batches/{batch['id']}/results")
    assert reply.status_code == 404, "results are gone at the end of their time"


def test_progress_moves_while_a_job_runs(serve: Serve) -> None:
    """request_counts and usage grow between polls, not only at the end."""
    api = serve(answer_delay=0.05)
    batch = api.submit([chat(f"r{index}") for index in range(160)])
    seen = api.until(batch["id"], lambda now: 0 < now["request_counts"]["completed"] < 160)
    assert seen["status"] == "in_progress"
    assert seen["request_counts"]["total"] == 160
    assert seen["usage"]["output_tokens"] > 0
    assert api.ended(batch["id"])["request_counts"]["completed"] == 160


def test_lines_do_not_come_in_input_order(api: Caller) -> None:
    """Also where the backend answers one by one; the same file gives the same order."""
    asked = [f"r{index}" for index in range(50)]
    first, second = (api.results(api.run([chat(name) for name in asked])["id"])[0] for _ in range(2))
    assert [line["custom_id"] for line in first] != asked
    assert sorted(line["custom_id"] for line in first) == sorted(asked)
    assert first == second


def test_lines_come_in_completion_order(serve: Serve) -> None:
    """The output is not in input order where answers overtake each other; nothing is lost or doubled by that."""
    api = serve(answer_delay=0.01)
    batch = api.run([chat(f"r{index}") for index in range(50)])
    output, _ = api.results(batch["id"])
    assert sorted(line["custom_id"] for line in output) == sorted(f"r{index}" for index in range(50))
