"""Which jobs a command is about: patterns, open partitions, and periods that are due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner import api
from runner.errors import BatchspecError, SpecError
from runner.operations.choice import Choice
from runner.operations.selection import Scope, Selected, select
from tests.conftest import ROWS, SPEC

Write = Callable[..., Path]
NIGHTLY = (
    SPEC.replace("name: hello", "name: nightly\nprovider: local\ntags: [night]")
    .replace("data/rows.jsonl", '"data/{{ vars.date }}.jsonl"')
    .replace("out/hello.jsonl", '"out/{{ address }}.jsonl"')
    + "partition:\n  date: {every: day, start: 2026-11-01, after: 2h}\n"
)
SHOPS = NIGHTLY.replace("nightly", "orders").replace("tags: [night]\n", "") + "  shop: [de, fr]\n"
PLAIN = SPEC.replace("name: hello", "name: hello\nprovider: local")
DAYS = [f"2026-11-{day:02}" for day in range(1, 31)]
NOW = datetime(2026, 11, 11, 2, tzinfo=UTC)


def at(day: int, hour: int = 2) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of `nightly` that are closed, a third that is open, a plain job, and two shops that never ran."""
    root = tmp_path_factory.mktemp("project")
    files = {"batchspec.yaml": "version: 1\nproject: tests\n", "data/rows.jsonl": ROWS}
    files |= {"specs/nightly.yaml": NIGHTLY, "specs/hello.yaml": PLAIN, "specs/orders.yaml": SHOPS}
    files |= {f"data/{day}.jsonl": ROWS for day in DAYS}
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    project = api.load(root=root, environ={})
    done = api.apply(project, choice=Choice(("nightly",), due=True, now=at(3)))
    assert [(one.address, one.end) for one in done] == [(f"nightly[date={day}]", "succeeded") for day in DAYS[:2]]
    api.apply(project, choice=Choice((f"nightly[date={DAYS[2]}]",), now=at(4)), wait=False)
    return root


def chosen(root: Path, scope: Scope = Scope.RUN, variables: dict[str, str] | None = None, **options: Any) -> Selected:
    options = {"now": NOW, **options}
    project = api.load(root=root, environ={}, variables=variables)
    return select(project, Choice(**options), scope, {}, at(30))


def names(found: Selected) -> list[str]:
    return [job.address for job in found.jobs]


def nightly(*days: str) -> list[str]:
    return [f"nightly[date={day}]" for day in days]


def orders(*days: str) -> list[str]:
    return [f"orders[date={day},shop={shop}]" for day in days for shop in ("de", "fr")]


TEN = DAYS[:10]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, ["hello", *nightly(DAYS[2])], id="open ones, and plain jobs"),
        pytest.param({"due": True, "exclude": ("orders",)}, ["hello", *nightly(*TEN[2:])], id="what is due"),
        pytest.param({"due": True, "select": ("nightly",), "until": "2026-11-05"}, nightly(*TEN[2:5]), id="up to"),
        pytest.param({"due": True, "select": ("nightly",), "since": "2026-11-09"}, nightly(TEN[2], *TEN[8:]), id="from"),
        pytest.param({"due": True, "select": ("nightly",), "since": "2026-W46"}, nightly(TEN[2], *TEN[8:]), id="a week"),
        pytest.param({"due": True, "select": ("nightly",), "until": "2026-11"}, nightly(*TEN[2:]), id="a month"),
        pytest.param({"due": True, "select": ("orders",), "until": "2026-11-01"}, orders(TEN[0]), id="each shop"),
        pytest.param({"due": True, "select": ("orders*shop=fr]",), "until": "2026-11-01"}, orders(TEN[0])[1:], id="glob"),
        pytest.param({"due": True, "now": at(3, 1), "select": ("*ly",)}, nightly(TEN[2]), id="not before two hours"),
        pytest.param({"select": ("nightly",)}, nightly(TEN[2]), id="a name goes on with what is open"),
        pytest.param({"select": ("nightly[date=2026-11-*]",)}, nightly(*TEN[:3]), id="brackets are no character class"),
        pytest.param({"select": ("nightly[date=2026-11-0?]",)}, nightly(*TEN[:3]), id="one character"),
        pytest.param({"select": tuple(nightly(TEN[5]))}, nightly(TEN[5]), id="an address starts a period"),
        pytest.param({"select": ("tag:night",)}, nightly(TEN[2]), id="a tag"),
        pytest.param({"select": ("state:open", "hello"), "exclude": ("hello",)}, nightly(TEN[2]), id="a state"),
        pytest.param({"select": ("state:waiting",), "exclude": ("orders",)}, nightly(*TEN[3:]), id="waiting ones"),
        pytest.param({"select": ("nightly",), "closed": True}, nightly(*TEN[:3]), id="closed ones"),
        pytest.param({"named": tuple(nightly(TEN[0]))}, ["hello", *nightly(TEN[0], TEN[2])], id="named by an option"),
        pytest.param({"select": ("gone", "hello"), "may_miss": True}, ["hello"], id="the jobs of a saved plan"),
    ],
)  # fmt: skip
def test_what_is_chosen(applied: Path, options: dict[str, Any], expected: list[str]) -> None:
    assert names(chosen(applied, **options)) == expected


@pytest.mark.parametrize(
    ("scope", "options", "expected"),
    [
        (Scope.RECORDED, {}, ["hello", *nightly(*TEN[:3])]),
        (Scope.RECORDED, {"select": ("nightly",), "exclude": ("*11-02]",)}, nightly(TEN[0], TEN[2])),
        (Scope.RECORDED, {"select": tuple(nightly(TEN[6]))}, nightly(TEN[6])),
        (Scope.GIVEN, {"select": tuple(nightly(TEN[0]))}, nightly(TEN[0])),
        (Scope.GIVEN, {"select": ("hello",)}, ["hello"]),
        (Scope.GIVEN, {"variables": {"date": TEN[4]}, "select": ("orders",)}, orders(TEN[4])),
        (Scope.RUN, {"variables": {"date": TEN[4]}}, ["hello", *nightly(TEN[4]), *orders(TEN[4])]),
        (Scope.RUN, {"variables": {"date": TEN[4], "shop": "fr"}, "select": ("orders",)}, orders(TEN[4])[1:]),
    ],
)
def test_what_other_commands_take_and_what_var_chooses(
    applied: Path, scope: Scope, options: dict[str, Any], expected: list[str]
) -> None:
    assert sorted(names(chosen(applied, scope, **options))) == sorted(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": ("nigthly",)}, "there is no job nigthly"),
        ({"select": ("nightly[date=2027-*]",)}, r"no job matches nightly\[date=2027-"),
        ({"select": ("tag:nigth",)}, "no job matches tag:nigth"),
        ({"select": ("state:failed",)}, "no job matches state:failed"),
        ({"select": ("state:closed",)}, "there is no state closed"),
        ({"exclude": ("nigthly",)}, "there is no job nigthly"),
        ({"exclude": ("*",)}, "`--exclude` leaves no job"),
        ({"since": "2026-11-01"}, "--from and --to bound --due"),
        ({"due": True, "until": "yesterday"}, "yesterday is not the name of a period"),
        ({"due": True, "variables": {"date": TEN[4]}}, "--due and --var date contradict each other"),
        ({"variables": {"date": "2026-11-5"}}, "2026-11-5 is not the name of a day; write 2026-11-05"),
        ({"variables": {"date": "2026-10-05"}}, "2026-10-05 is before the `start` of this job"),
        ({"variables": {"date": DAYS[10]}}, "this day has not ended; it ends at 2026-11-12T00:00:00Z"),
        ({"select": ("nightly[date=2026-11-11]",)}, "this day has not ended"),
        ({"select": ("nightly[date=2026-11-5]",)}, "not the name of a day; write 2026-11-05"),
        ({"select": ("orders[date=2026-11-05,shop=uk]",)}, "the values of `shop` are de, fr"),
        ({"scope": Scope.GIVEN}, "say which with --var date=VALUE"),
    ],
)
def test_what_is_refused(applied: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BatchspecError, match=message):
        chosen(applied, **options)


def test_without_a_word_a_note_says_what_is_due(applied: Path) -> None:
    assert chosen(applied).notes == (
        "nightly: 7 partitions are due; `apply --due` starts them",
        "orders: 20 partitions are due; `apply --due` starts them",
    )
    assert chosen(applied, due=True).notes == ()
    assert chosen(applied, select=("hello",)).notes == ()


def test_the_limit_counts_periods_of_each_job_and_the_plan_says_what_waits(applied: Path) -> None:
    found = chosen(applied, due=True, limit=2)
    with api.open_project(found.project, environ={}, reads=True) as opened:
        planned = opened.plan(found.jobs, offline=True, new=found.new).plan
    assert sorted(job.address for job in planned.jobs) == ["hello", *nightly(*TEN[2:5]), *orders(*TEN[:2])]
    assert planned.later == (
        "nightly: 5 more due periods (2026-11-06 to 2026-11-10); apply again, or raise `--limit`",
        "orders: 8 more due periods (2026-11-03 to 2026-11-10); apply again, or raise `--limit`",
    )


def test_a_partition_in_another_spelling_stops_the_plan_and_moved_takes_it_along(project: Write) -> None:
    short = NIGHTLY[: NIGHTLY.index("partition:")] + "partition: date\n"
    root = project({"specs/hello.yaml": short, "data/20261103.jsonl": ROWS, "data/2026-11-03.jsonl": ROWS})
    loaded = api.load(root=root, environ={}, variables={"date": "20261103"})
    assert [one.end for one in api.apply(loaded)] == ["succeeded"]
    (root / "specs/hello.yaml").write_text(NIGHTLY)
    with pytest.raises(SpecError, match="1 partition of this job in another spelling") as caught:
        chosen(root)
    [problem] = caught.value.problems
    lines = problem.message.partition("add:\n")[2]
    assert lines == "moved:\n  - {from: 'nightly[date=20261103]', to: 'nightly[date=2026-11-03]'}"
    (root / "specs/hello.yaml").write_text(f"{NIGHTLY}{lines}\n")
    found = chosen(root, select=("nightly[date=2026-11-03]",))
    with api.open_project(found.project, environ={}) as opened:
        [job] = opened.plan(found.jobs).plan.jobs
    assert (job.submits, job.tally.answered) == (0, 3)
