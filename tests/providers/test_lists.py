"""The list of batches: many pages, odd ones, and pages that are too long."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import (
    Malformed,
)
from runner.providers.digitalocean import DigitalOcean
from tests.providers.conftest import LIST, Make
from tests.providers.stub import Stub
from tests.providers.stub_steps import Reply


@pytest.mark.parametrize("dialect", ["guide", "openapi", "godo"])
def test_a_list_of_many_pages(client: Make, dialect: str) -> None:
    """Every batch once, with one call for each hundred; no page is asked for before it is needed."""
    with Stub(dialect) as stub:
        stub.add_jobs(250)
        batches = client(stub).list_batches()
        assert next(batches).batch_id == "old-0249"
        assert len(stub.seen) == 1
        assert [batch.batch_id for batch in batches] == [f"old-{n:04}" for n in range(248, -1, -1)]
        assert len(stub.seen) == (3 if stub.dialect.pages else 1)


def page(*numbers: int, **more: Any) -> Reply:
    return Reply(200, {"data": [{"id": f"b-{n}", "status": "queued"} for n in numbers], **more})


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([page(1, has_more=True, last_id="x")] * 99, id="the same cursor again"),
        pytest.param(
            [page(1, has_more=True, last_id=f"x{n % 2}") for n in range(99)], id="two cursors in turn"
        ),
        pytest.param([page(1, has_more=True, last_id=f"x{n}") for n in range(99)], id="the same page, other cursors"),
        pytest.param([page(has_more=True, last_id=f"x{n}") for n in range(99)], id="nothing, for ever"),
    ],
)  # fmt: skip
def test_a_list_that_goes_in_circles(stub: Stub, api: DigitalOcean, pages: list[Reply]) -> None:
    stub.on("GET", LIST, *pages)
    with pytest.raises(Malformed, match="repeats its pages"):
        list(api.list_batches())
    assert len(stub.seen) <= 11


def test_a_batch_on_two_pages_comes_once(stub: Stub, api: DigitalOcean) -> None:
    """A batch made between two pages moves the others on."""
    stub.on("GET", LIST, page(3, 2, has_more=True), page(2, 1, has_more=False))
    assert [batch.batch_id for batch in api.list_batches()] == ["b-3", "b-2", "b-1"]


def test_a_service_that_does_not_say_whether_there_is_more(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, page(2), page(1), page())
    assert [batch.batch_id for batch in api.list_batches()] == ["b-2", "b-1"]


def test_an_empty_page_in_the_middle(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, page(2, has_more=True), page(has_more=True, last_id="x"), page(1, has_more=False))
    assert [batch.batch_id for batch in api.list_batches()] == ["b-2", "b-1"]


def test_a_page_too_long_is_asked_for_in_parts(stub: Stub, api: DigitalOcean) -> None:
    """A hundred failed batches, each with its reasons, must not make the list unreadable."""
    stub.add_jobs(30)
    for job in stub.jobs:
        job.order = {"metadata": {"reasons": "x" * 20_000}}
    assert len([*api.list_batches()]) == 30
    assert {seen.query["limit"] for seen in stub.seen} == {"100", "20", "4"}


def test_one_batch_too_long(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, *[Reply(200, b" " * 300_000)] * 5)
    with pytest.raises(Malformed, match="longer"):
        list(api.list_batches())
