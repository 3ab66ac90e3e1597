"""`partition:` in a spec: periods, fixed values, and what is no value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SpecError
from runner.jobspec.loader import Project, bind, load_project
from tests.conftest import SPEC

Write = Callable[..., Path]
BASE = SPEC.replace("out/hello.jsonl", '"out/{{ address }}.jsonl"')
DAILY = BASE + "partition:\n  date: {every: day, start: 2026-11-01, timezone: Europe/Berlin, after: 2h}\n"
SHOPS = DAILY + "  shop: [de, 7]\n"


def load(project: Write, spec: str, *, placeholders: bool = False, **variables: str) -> Project:
    root = project({"specs/hello.yaml": spec})
    return load_project(
        root, variables=variables, provider="local", environ={}, allow_partial=True, placeholders=placeholders
    )


def test_a_partition_of_periods_and_values(project: Write) -> None:
    loaded = load(project, SHOPS + "tags: [nightly, orders]\n")
    [template] = loaded.unbound
    assert loaded.jobs == ()
    assert (template.axes.period, template.axes.fixed) == ("date", {"shop": ("de", 7)})
    made = bind(loaded, template, {"date": "2026-11-02", "shop": "7"}, {})
    assert made.address == "hello[date=2026-11-02,shop=7]"
    assert (made.job.vars, made.job.tags) == ({"date": "2026-11-02", "shop": 7}, ("nightly", "orders"))
    assert made.job.output.path == "out/hello-date-2026-11-02-shop-7.jsonl"
    assert made.job.partition is None


def test_var_chooses_one_and_a_list_leaves_the_rest_open(project: Write) -> None:
    assert [job.address for job in load(project, SHOPS, date="2026-11-02", shop="de").jobs] == [
        "hello[date=2026-11-02,shop=de]"
    ]
    loaded = load(project, SHOPS, date="2026-11-02")
    [template] = loaded.unbound
    assert bind(loaded, template, {"shop": "de"}, {}).address == "hello[date=2026-11-02,shop=de]"


def test_checks_take_the_first_of_each(project: Write) -> None:
    loaded = load(project, SHOPS, placeholders=True)
    assert [job.address for job in loaded.jobs] == ["hello[date=2026-11-01,shop=de]"]
    with pytest.raises(SpecError, match="2026-11-2 is not the name of a day; write 2026-11-02"):
        load(project, SHOPS, placeholders=True, date="2026-11-2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"date": "2026-11-2", "shop": "de"}, "date=2026-11-2: .* is not the name of a day; write 2026-11-02"),
        ({"date": "2026-10-31", "shop": "de"}, "2026-10-31 is before the `start` of this job, 2026-11-01"),
        ({"date": "2026-11-02", "shop": "fr"}, "shop=fr: the values of `shop` are de, 7"),
        ({"shop": "de"}, "say which with --var date=VALUE"),
    ],
)
def test_what_is_no_value(project: Write, values: dict[str, Any], message: str) -> None:
    """It leaves the job without a value: other specs may have another var with this name."""
    loaded = load(project, SHOPS, **values)
    assert loaded.jobs == ()
    [template] = loaded.unbound
    with pytest.raises(SpecError, match=message):
        bind(loaded, template, {}, {})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("partition: {date: {every: week, start: 2026-11-01}}", "2026-11-01 begins no week; the weeks around it"),
        ("partition: {date: {every: month, start: 2026-11-15}}", "2026-11-15 begins no month"),
        ("partition: {date: {every: day, start: 2026-11-1}}", "not the name of a day; write 2026-11-01"),
        ("partition: {date: {every: day, start: 2026-11-01, timezone: Berlin}}", "there is no timezone Berlin"),
        ("partition: {date: {every: hour, start: 2026-11-01, timezone: UTC}}", "hours are always UTC"),
        ("partition: {date: {every: day, start: 2026-11-01, after: 2}}", "must be text, not 2"),
        ("partition: {date: {every: day, start: 2026-11-01, after: 2 weeks}}", "is not a duration; write one such as"),
        ("partition: {date: {every: year, start: 2026-11-01}}", "allowed: 'hour', 'day', 'week' or 'month'"),
        ("partition: {date: {start: 2026-11-01}}", "`partition.date.every` is missing"),
        ("partition: {shop: []}", "`partition.shop` is empty"),
        ("partition: {shop: [de, de]}", r"the value de is repeated .BS136."),
        ("partition: {shop: ['d e']}", "use letters, digits and"),
        ("partition: {a b: [1]}", "partition"),
        ("vars: {shop: de}\npartition: {shop: [de]}", "`vars` sets `shop` too"),
        ("vars: {shop: ''}\nmatrix: {shop: [a]}\npartition: {shop: [de]}", "the matrix sets `shop` too"),
        (
            "partition: {a: {every: day, start: 2026-11-01}, b: {every: day, start: 2026-11-01}}",
            "only one var of a partition can have `every`, not a and b",
        ),
    ],
)
def test_what_a_partition_can_not_be(project: Write, more: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load(project, BASE + more + "\n")


def test_an_output_must_name_every_var(project: Write) -> None:
    spec = SHOPS.replace("{{ address }}", "{{ vars.date }}")
    with pytest.raises(SpecError, match="put {{ vars.shop }} into the path"):
        load(project, spec)


def test_tags_and_the_way_a_partition_is_written_change_no_pins(project: Write) -> None:
    short = BASE + "partition: [date]\n"
    one = load(project, short, date="2026-11-02").jobs[0].job
    other = load(project, DAILY, date="2026-11-02").jobs[0].job
    assert one == other
