"""Answers as strangers write them: three dialects mixed, fields nobody knows, and things that can't be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.errors import Malformed, NotReady
from runner.providers.protocol import BatchError, Counts, CreateRequest, Usage
from runner.providers.wire import create_body, read_batch, read_intent, read_page, read_results, read_time

LEAST = {"id": "b-1", "status": "queued"}
NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)


def batch(**more: Any) -> Any:
    return read_batch({**LEAST, **more})


@pytest.mark.parametrize("name", ["id", "batch_id"])
@pytest.mark.parametrize("file", ["file_id", "input_file_id"])
def test_ids_by_either_name(name: str, file: str) -> None:
    read = read_batch({name: "b-1", file: "f-1", "status": "queued"})
    assert (read.batch_id, read.file_id) == ("b-1", "f-1")


def test_a_batch_with_nothing_but_an_id_and_a_status() -> None:
    read = batch()
    assert (read.counts, read.usage, read.errors, read.metadata) == (Counts(), None, (), {})
    assert (read.created_at, read.ended_at, read.expires_at, read.ended) == (None, None, None, False)


@pytest.mark.parametrize("status", ["paused", "half_done", "COMPLETING", "completed?", "erledigt", "in progress"])
def test_an_unknown_status_counts_as_running(status: str) -> None:
    """Taken for ended, its answers would be asked for again and paid for twice."""
    assert not batch(status=status).ended


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("completed", "completed"),
        ("Completed", "completed"),
        (" FAILED ", "failed"),
        ("expired", "expired"),
        ("cancelled", "cancelled"),
        ("canceled", "cancelled"),
    ],
)
def test_ended_in_any_spelling(told: str, read: str) -> None:
    assert batch(status=told).status == read
    assert batch(status=told).ended


def test_unknown_fields_are_passed_over() -> None:
    more = {"tenant": {"id": 7}, "priority": None, "links": ["x"], "request_counts": {"total": 3, "skipped": 1}}
    assert batch(**more).counts == Counts(3, 0, 0)


def test_null_is_as_good_as_absent() -> None:
    names = ["file_id", "request_counts", "usage", "errors", "metadata", "request_id", "created_at", "endpoint"]
    assert batch(**dict.fromkeys(names)) == batch()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="empty"),
        pytest.param({"id": "b-1"}, id="no status"),
        pytest.param({"id": "b-1", "status": ""}, id="empty status"),
        pytest.param({"id": "b-1", "status": 7}, id="number as status"),
        pytest.param({"status": "queued"}, id="no id"),
        pytest.param({"id": "", "status": "queued"}, id="empty id"),
        pytest.param({"id": "../../etc", "status": "queued"}, id="path as id"),
        pytest.param({"id": "a/b", "status": "queued"}, id="slash in id"),
        pytest.param({"id": "a\nb", "status": "queued"}, id="line end in id"),
        pytest.param({"id": "b" * 201, "status": "queued"}, id="endless id"),
        pytest.param({"id": 7, "status": "queued"}, id="number as id"),
        pytest.param([], id="list"),
        pytest.param("text", id="text"),
        pytest.param(None, id="null"),
        pytest.param({**LEAST, "request_counts": 5}, id="counts that are none"),
        pytest.param({**LEAST, "request_counts": {"completed": -1}}, id="negative count"),
        pytest.param({**LEAST, "request_counts": {"completed": "3"}}, id="count as text"),
        pytest.param({**LEAST, "request_counts": {"completed": True}}, id="count as boolean"),
        pytest.param({**LEAST, "request_counts": {"completed": 1.5}}, id="broken count"),
        pytest.param({**LEAST, "request_counts": {"completed": 1e300}}, id="huge count"),
    ],
)
def test_what_can_not_be_a_batch(value: object) -> None:
    with pytest.raises(Malformed) as caught:
        read_batch(value)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_counts_as_whole_floats() -> None:
    assert batch(request_counts={"total": 3.0, "completed": 2.0}).counts == Counts(3, 2, 0)


def test_usage() -> None:
    told = {"input_tokens": 14, "output_tokens": 3, "cached_tokens": 8}
    assert batch(usage=told).usage == Usage(14, 3, 8)
    nested = {"input_tokens": 14, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 8}}
    assert batch(usage=nested).usage == Usage(14, 3, 8)


def test_errors_as_list_or_as_object_and_bounded() -> None:
    told = [{"code": "bad_line", "message": "no JSON", "line": 7}, {"message": "all", "line": 0}, "odd"]
    read = (
        BatchError("bad_line", "no JSON", 7),
        BatchError("unknown_error", "all", None),
        BatchError("unknown_error", "odd", None),
    )
    assert batch(errors=told).errors == read
    assert batch(errors={"object": "list", "data": told}).errors == read
    assert len(batch(errors=[{"code": "c", "message": "m"}] * 50_000).errors) == 1000


def test_control_characters_reach_no_terminal() -> None:
    read = batch(status="run\x1b[31mning", errors=[{"code": "c", "message": "a\x1b]0;title\x07b\nc"}])
    assert read.status.isprintable()
    assert read.errors[0].message.isprintable()


def test_metadata_is_kept_to_the_letter_or_not_at_all() -> None:
    long = "x" * 2000
    assert batch(metadata={"shard": long, "n": 1, "l": []}).metadata == {"shard": long}
    assert batch(metadata="odd").metadata == {}


@pytest.mark.parametrize(
    "told",
    [
        "2026-04-01T12:00:00Z",
        "2026-04-01T14:00:00+02:00",
        "2026-04-01T12:00:00.000000Z",
        "2026-04-01 12:00:00",
        1775044800,
        1775044800000,
        "1775044800",
        1775044800.0,
    ],
)
def test_times_in_every_shape(told: object) -> None:
    assert read_time(told) == NOON


@pytest.mark.parametrize("told", [None, "", "soon", 0, -1, True, [], "9" * 400, 1e300, float("nan"), float("inf")])
def test_what_is_no_time_is_none(told: object) -> None:
    assert read_time(told) is None


def test_the_end_by_the_state_s_own_field_or_any() -> None:
    assert batch(status="failed", failed_at="2026-04-01T12:00:00Z", completed_at=None).ended_at == NOON
    assert batch(status="expired", completed_at="2026-04-01T12:00:00Z").ended_at == NOON
    assert batch(status="in_progress", completed_at="2026-04-01T12:00:00Z").ended_at is None


@pytest.mark.parametrize(
    ("page", "cursor", "certain"),
    [
        pytest.param([LEAST], None, True, id="a bare list"),
        pytest.param({"data": [LEAST], "has_more": True, "last_id": "z"}, "z", True, id="data"),
        pytest.param({"data": [LEAST], "has_more": True}, "b-1", True, id="data without last_id"),
        pytest.param({"data": [LEAST], "has_more": False, "last_id": "z"}, None, True, id="the last"),
        pytest.param({"data": [LEAST]}, "b-1", False, id="nothing said about more"),
        pytest.param(
            {"edges": [{"cursor": "c", "node": LEAST}], "page_info": {"endCursor": "e", "hasNextPage": True}},
            "e",
            True,
            id="edges",
        ),
        pytest.param(
            {"edges": [{"cursor": "c", "node": LEAST}], "page_info": {"hasNextPage": True}},
            "c",
            True,
            id="edge's cursor",
        ),
        pytest.param(
            {"edges": [{"node": LEAST}], "page_info": {"end_cursor": "e", "has_next_page": True}},
            "e",
            True,
            id="snake case",
        ),
        pytest.param({"edges": [{"node": LEAST}]}, "b-1", False, id="edges without page_info"),
    ],
)
def test_pages(page: object, cursor: str | None, certain: bool) -> None:
    read = read_page(page)
    assert [entry.batch.batch_id for entry in read.entries] == ["b-1"]
    assert (read.cursor, read.certain) == (cursor, certain)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({"batches": []}, id="neither data nor edges"),
        pytest.param({"data": {}}, id="data that is no list"),
        pytest.param({"data": [LEAST, {}]}, id="one entry that is no batch"),
        pytest.param({"edges": [LEAST]}, id="edges without nodes"),
        pytest.param({"data": [], "has_more": True}, id="more, but not where"),
        pytest.param({"data": [LEAST], "has_more": "yes"}, id="more as text"),
        pytest.param(None, id="null"),
    ],
)
def test_what_is_no_page(page: object) -> None:
    """A batch that is passed over might be paid for again, so one bad entry fails the page."""
    with pytest.raises(Malformed):
        read_page(page)


@pytest.mark.parametrize(
    "answer",
    [
        {"output_url": "https://o", "error_url": "https://e", "expires_at": "2026-04-01T12:00:00Z"},
        {"output_file_url": "https://o", "error_file_url": "https://e", "expires_at": "2026-04-01T12:00:00Z"},
        {"download": {"presigned_url": "https://o", "expires_at": "2026-04-01T12:00:00Z"}, "error_url": "https://e"},
        {
            "output_url": "https://o",
            "output_file_url": "https://o2",
            "error_url": "https://e",
            "expires_at": 1775044800,
        },
    ],
    ids=["guide", "openapi", "godo", "all at once"],
)
def test_results(answer: dict[str, Any]) -> None:
    urls = read_results(answer)
    assert (urls.output_url, urls.error_url, urls.expires_at) == ("https://o", "https://e", NOON)


def test_results_that_are_not_ready_or_not_results() -> None:
    with pytest.raises(NotReady):
        read_results({"batch_id": "b-1", "result_available": False})
    with pytest.raises(Malformed):
        read_results({"batch_id": "b-1"})
    assert read_results({"result_available": True}).output_url is None


def test_file_intents() -> None:
    told = {"file_id": "f-1", "upload_url": "https://u", "expires_at": "2026-04-01T12:00:00Z", "more": 1}
    assert read_intent(told).expires_at == NOON
    assert read_intent({"id": "f-1", "upload_url": "https://u"}).file_id == "f-1"
    for broken in (
        {"file_id": "f-1"},
        {"upload_url": "https://u"},
        {},
        None,
        {"file_id": 7, "upload_url": "https://u"},
    ):
        with pytest.raises(Malformed):
            read_intent(broken)


def test_what_a_create_sends() -> None:
    """`endpoint` is required for openai and forbidden for anthropic; what is empty is not sent."""
    order = CreateRequest("f-1", "openai", "/v1/responses", "rid", {"job": "j"}, ("https://h", "s"))
    assert create_body(order) == {
        "provider": "openai",
        "file_id": "f-1",
        "completion_window": "24h",
        "endpoint": "/v1/responses",
        "request_id": "rid",
        "metadata": {"job": "j"},
        "webhook": {"url": "https://h", "secret": "s"},
    }
    least = create_body(CreateRequest("f-1", "anthropic", "", "", {}))
    assert least == {"provider": "anthropic", "file_id": "f-1", "completion_window": "24h"}
