"""A plan file is untrusted: whatever stands in it, apply does at most what a fresh plan says, or refuses in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BatchspecError
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.plan import JobPlan, Submit, Wait
from runner.reconciler.plan.plan_limits import PlanLimits, plan_limits_of
from runner.reconciler.plan.planfile import (
    PlanFile,
    check_signature,
    plan_key,
    read_saved,
    saved_job,
    saved_text,
    staleness,
)
from tests.state.test_lockfile import pins

PINS = pins("1" * 16)
PLAN = JobPlan(
    "reviews",
    "local:echo",
    "out/x.jsonl",
    KeyCounts(rows=5, in_flight=1, submit=((1, 3), (2, 1))),
    (Submit(1, 3, 1, 300, "first run"),),
    0,
)
FRESH = plan_limits_of(PLAN, 3)
FILE = saved_text("p", "0.1.0", [saved_job(PLAN, PINS, FRESH)], ["b1"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where anything stands in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, inner in items for deeper in places(inner, (*path, key)))]


PLACES = places(json.loads(FILE))[1:]


def read(data: bytes) -> PlanFile | None:
    """The plan, or None where it is refused with a sentence that names the file."""
    try:
        return read_saved(data, "plan.json", "p")
    except BatchspecError as error:
        assert error.message.startswith("plan.json ")  # noqa: PT017  most data is none
        assert error.hint  # noqa: PT017  as above
        return None


def allowed(plan: PlanFile | None) -> list[PlanLimits]:
    """What apply may do by an edited plan; a job that does not hold may do nothing."""
    return [
        job.ceiling.within(FRESH)
        for job in (plan.jobs if plan else ())
        if job.address == PLAN.address and not staleness(job, PLAN, PINS)
    ]


def at_most(one: PlanLimits, other: PlanLimits) -> bool:
    """Whether everything that `one` allows `other` allows too, for rounds and counts of this size."""
    return all(
        not other.violation(number, submitted, wanted)
        for number in range(1, 6)
        for submitted in range(4)
        for wanted in range(1, 8)
        if not one.violation(number, submitted, wanted)
    )


@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING | st.just("remove")), min_size=1, max_size=3))
def test_an_edited_plan_is_refused_or_restricts(edits: list[tuple[tuple[str | int, ...], Any]]) -> None:
    plan = json.loads(FILE)
    for path, value in edits:
        holder = plan
        try:
            for key in path[:-1]:
                holder = holder[key]
            if value == "remove":
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an edit before this one took its place away
    for ceiling in allowed(read(json.dumps(plan).encode())):
        assert at_most(ceiling, FRESH)


NUMBERS = st.integers(0, 9)


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(1, 5))
def test_numbers_of_any_size_never_allow_more_than_a_fresh_plan(new: int, again: int, flying: int, rounds: int) -> None:
    plan = json.loads(FILE)
    plan["jobs"][0].update(new=new, again=again, in_flight=flying, rounds=rounds)
    saved = read(json.dumps(plan).encode())
    assert saved is not None
    for ceiling in allowed(saved):
        assert at_most(ceiling, FRESH)
        assert at_most(ceiling, saved.jobs[0].ceiling)


@given(st.binary(max_size=200))
def test_what_is_no_plan_is_refused_in_a_sentence(data: bytes) -> None:
    assert read(data) is None


def test_a_plan_that_was_not_edited_holds() -> None:
    saved = read(FILE)
    assert saved is not None
    assert [one.violation(1, 0, 3) for one in allowed(saved)] == [""]
    assert saved.cancels == ("b1",)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        pytest.param({"realm": "digitalocean:https://x"}, "it was planned for local:echo", id="provider"),
        pytest.param(
            {"tally": KeyCounts(rows=5, submit=((1, 4),)), "actions": (Submit(1, 4, 1, 300, ""),)},
            "the plan allows 3 new requests, and now 4 would be submitted",
            id="requests",
        ),
    ],
)
def test_what_moved_is_named(change: dict[str, Any], moved: str) -> None:
    saved = read(FILE)
    assert saved is not None
    fresh = replace(PLAN, **change)
    assert staleness(saved.jobs[0], fresh, PINS).startswith(moved)


def test_what_may_follow_a_batch_that_can_not_be_told_moves_nothing() -> None:
    """The plan was made where it could be told what the batch holds; apply goes no further than that."""
    saved = read(FILE)
    assert saved is not None
    blind = replace(PLAN, tally=KeyCounts(rows=9, in_flight=9), actions=(Wait("b", 5, False, "it runs"),))
    assert blind.unseen == 9
    assert staleness(saved.jobs[0], blind, PINS) == ""
    assert saved.jobs[0].ceiling.within(plan_limits_of(blind, 3)).requests == PLAN.new == 3


def test_a_price_that_rose_or_is_not_known_any_more_is_named() -> None:
    saved = read(FILE)
    assert saved is not None
    [job] = saved.jobs
    cheap = job.model_copy(update={"cost_usd": 0.01})
    assert "no price is known" in staleness(cheap, PLAN, PINS)
    assert str(Decimal("0.01")) in staleness(cheap, PLAN, PINS)


def test_a_row_that_changed_is_named() -> None:
    saved = read(FILE)
    assert saved is not None
    other = PINS.model_copy(update={"requests": "0" * 64, "parameters": {"temperature": 1}})
    assert staleness(saved.jobs[0], PLAN, other) == (
        "its requests are not the ones that were planned: temperature changed: 0 to 1"
    )


KEY = b"k" * 32
SIGNED = saved_text("p", "0.1.0", [saved_job(PLAN, PINS, FRESH)], ["b1"], KEY)


def test_without_a_key_the_file_is_what_it_was() -> None:
    assert b"signature" not in FILE
    assert json.loads(SIGNED) == {**json.loads(FILE), "signature": json.loads(SIGNED)["signature"]}
    check_signature(read_saved(SIGNED, "plan.json", "p"), "plan.json", KEY)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(FILE, id="not signed"),
        pytest.param(SIGNED.replace(b'"new": 3', b'"new": 4'), id="edited upward"),
        pytest.param(SIGNED.replace(b'"new": 3', b'"new": 2'), id="edited downward"),
        pytest.param(SIGNED.replace(b'"rounds": 3', b'"rounds": 30'), id="rounds"),
        pytest.param(SIGNED.replace(b'"b1"', b'"b2"'), id="cancels"),
        pytest.param(SIGNED.replace(b'"signature": "', b'"signature": "0'), id="another signature"),
        pytest.param(saved_text("p", "0.1.0", [saved_job(PLAN, PINS, FRESH)], ["b1"], b"x" * 32), id="another key"),
        pytest.param(SIGNED[: SIGNED.index(b'"signature": "') + 14] + 'é"}'.encode(), id="no hexadecimal"),
    ],
)
def test_with_a_key_an_unsigned_or_altered_plan_is_refused(data: bytes) -> None:
    assert data != SIGNED
    with pytest.raises(BatchspecError, match="is not signed|was altered") as caught:
        check_signature(read_saved(data, "plan.json", "p"), "plan.json", KEY)
    assert caught.value.codes == ("BS609",)


def test_a_short_key_is_refused_and_an_empty_one_is_none() -> None:
    assert plan_key({}) is plan_key({"BATCHSPEC_PLAN_KEY": ""}) is None
    assert plan_key({"BATCHSPEC_PLAN_KEY": "k" * 32}) == KEY
    with pytest.raises(BatchspecError, match="31 characters"):
        plan_key({"BATCHSPEC_PLAN_KEY": "k" * 31})
