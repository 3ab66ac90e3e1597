"""The idempotency key and metadata of a create: the same on every machine, and they say whose a batch is."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reconciler.plan.idempotency import METADATA_VALUE, is_ours, matches_create, metadata, request_id

SHARD = "ab" * 32
TEXTS = st.text(min_size=1, max_size=20)


def test_golden_keys() -> None:
    """Whatever changes these makes every machine that has not changed pay again."""
    assert request_id("reviews", "sentiment", SHARD, 1) == "5495d809-ebd4-8b65-aa1d-13f6c3400f8c"
    assert request_id("reviews", "sentiment[date=2026-11-23]", SHARD, 2) == "b68846b5-ed90-8cc6-ab62-1cabc29245b3"


@given(TEXTS, TEXTS, TEXTS, st.integers(1, 9))
def test_the_first_48_bits_say_whose_it_is_and_the_rest_which(project: str, job: str, other: str, attempt: int) -> None:
    key = request_id(project, job, SHARD, attempt)
    assert (uuid.UUID(key).version, uuid.UUID(key).variant) == (8, uuid.RFC_4122)
    assert key == request_id(project, job, SHARD, attempt)
    assert is_ours(project, job, key, {})
    assert is_ours(project, other, key, {}) is (other == job)
    assert request_id(project, job, SHARD, attempt + 1) != key
    assert request_id(project, job, "cd" * 32, attempt)[:14] == key[:14]


def test_project_and_address_are_not_run_together() -> None:
    assert request_id("ab", "c", SHARD, 1)[:13] != request_id("a", "bc", SHARD, 1)[:13]


@pytest.mark.parametrize(
    ("listed_id", "listed", "whose"),
    [
        pytest.param("", {"project": "p", "job": "j"}, True, id="metadata"),
        pytest.param("", {"project": "q", "job": "j"}, False, id="another project"),
        pytest.param(
            request_id("p", "j", SHARD, 1), {"project": "p", "job": "k"}, False, id="metadata goes before key"
        ),
        pytest.param(request_id("p", "j", SHARD, 1), {"note": "x"}, True, id="foreign metadata"),
        pytest.param(str(uuid.UUID(int=0)), {}, False, id="another kind of UUID"),
        pytest.param("my-own-id", {}, False, id="no UUID"),
    ],
)
def test_whose_a_listed_batch_is(listed_id: str, listed: dict[str, str], whose: bool) -> None:
    assert is_ours("p", "j", listed_id, listed) is whose


def test_a_long_address_fits_into_metadata() -> None:
    address = "j" * 2 * METADATA_VALUE
    said = metadata("p", address, SHARD, 2, 3)
    assert said == {"project": "p", "job": "j" * METADATA_VALUE, "shard": SHARD, "attempt": "2", "round": "3"}
    assert is_ours("p", address, "", said)


@pytest.mark.parametrize(
    ("listed_id", "listed", "same"),
    [
        pytest.param("id-1", {}, True, id="key"),
        pytest.param("id-2", {"shard": SHARD}, False, id="another key"),
        pytest.param("", metadata("p", "j", SHARD, 1, 1), True, id="metadata"),
        pytest.param("", metadata("p", "j", SHARD, 1, 2), True, id="metadata of a later round"),
        pytest.param("", metadata("p", "j", SHARD, 2, 1), False, id="another attempt"),
        pytest.param("", metadata("p", "k", SHARD, 1, 1), False, id="another job with the same requests"),
        pytest.param("", metadata("q", "j", SHARD, 1, 1), False, id="another project with the same requests"),
        pytest.param("", {}, None, id="neither, so that only the file can say"),
    ],
)
def test_which_create_a_listed_batch_came_from(listed_id: str, listed: dict[str, str], same: bool | None) -> None:
    assert matches_create(listed, listed_id, "id-1", metadata("p", "j", SHARD, 1, 1)) is same
