"""The plan as text: every job, what it costs together, and a last line that says it all."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from runner.money.estimate import Estimate, Output
from runner.money.prices import Price
from runner.money.token_sample import Tokens
from runner.money.tokens import Certainty
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.plan import Hold, JobPlan, Orphan, Plan, Submit, Wait, Write, hold_back
from runner.reconciler.plan.reasons import RowChanges
from runner.views.plan_text import explain

PRICE = Price(Decimal("0.1"), Decimal("0.4"), Decimal("0.05"), "genai-prices, batch rate")
TOKENS = Tokens(900_000, 1_000_000, 1_100_000, Certainty.ESTIMATED, "200 of 3,000 requests counted, ±10.0 %")
ESTIMATE = Estimate(3, 4_000_000, "gpt-4o-mini", TOKENS, Output(500_000, 2_000_000), PRICE)
NEW = JobPlan(
    "reviews[model=a]", "local:echo", "out/a.jsonl", KeyCounts(10, 7, submit=((1, 3),)),
    (Submit(1, 3, 1, 1_000, "template changed: t.j2"), Write("out/a.jsonl", 10, "new answers expected")), 0,
    notes=("a note",), estimate=ESTIMATE, rows=RowChanges(4, 0, 2), failures=("batch b0 failed: row 1: why",),
)  # fmt: skip
SAME = JobPlan("same", "local:echo", "out/s.jsonl", KeyCounts(7, 7), (), 0)


def test_a_whole_plan() -> None:
    unpriced = replace(NEW, address="other", estimate=replace(ESTIMATE, price=None, output=Output(None, None)))
    held = JobPlan(
        "held", "local:echo", "out/h.jsonl", KeyCounts(9, 2, failed=1, in_flight=2, unknown=4, lasting=(("bad", 1),)),
        (Wait("b7", 2, True, "it is in_progress"), Hold(4, "who knows")), 0,
    )  # fmt: skip
    orphan = Orphan("gone", "local:echo", "specs/gone.lock", ("b8", "b9"), 1, ("b8",))
    plan = Plan(
        (NEW, unpriced, held, SAME), {"broken": "one\ntwo"}, "`--offline`", (orphan,), ("all jobs: max_requests: 6",)
    )
    assert explain(plan) == (
        "The service was not asked: `--offline`.\n"
        "\n"
        "reviews[model=a]  (local:echo)\n"
        "    10 rows, 7 reused, 2 removed\n"
        "  + submit 3 requests in 1 batch, 1.0 kB: template changed: t.j2\n"
        "  > write  out/a.jsonl: new answers expected\n"
        "      in    about 1,000,000 tokens, estimated (200 of 3,000 requests counted, ±10.0 %)\n"
        "      out   about 500,000, up to 2,000,000 tokens\n"
        "      cost  about $0.30, at most $0.91 (genai-prices, batch rate)\n"
        "    note: batch b0 failed: row 1: why\n"
        "    note: a note\n"
        "\n"
        "other  (local:echo)\n"
        "    10 rows, 7 reused, 2 removed\n"
        "  + submit 3 requests in 1 batch, 1.0 kB: template changed: t.j2\n"
        "  > write  out/a.jsonl: new answers expected\n"
        "      in    about 1,000,000 tokens, estimated (200 of 3,000 requests counted, ±10.0 %)\n"
        "      out   no limit\n"
        "      cost  no price known for gpt-4o-mini; add one under `prices:` in batchspec.yaml\n"
        "    note: batch b0 failed: row 1: why\n"
        "    note: a note\n"
        "\n"
        "held  (local:echo)\n"
        "    9 rows, 2 reused, 2 in flight, 1 failed (1 bad), 4 unknown\n"
        "  ~ wait   for batch b7 (2 requests): it is in_progress\n"
        "  ! hold   4 requests: who knows\n"
        "\n"
        "same  (local:echo)\n"
        "    7 rows, 7 reused\n"
        "    nothing to do\n"
        "\n"
        "gone  (local:echo)\n"
        "    no spec defines this job any more; 1 ended batch kept\n"
        "  - cancel batch b8: its answers so far are kept and billed\n"
        "    batch b9 is still running; `--prune` cancels it\n"
        "\n"
        "broken\n"
        "  ! one\n"
        "    two\n"
        "\n"
        "Cost: about $0.30, at most $0.91, and 1 job without a price.\n"
        "Over budget: all jobs: max_requests: 6. `apply` refuses unless you give a reason with `--budget-override REASON`.\n"
        "Plan: 6 to submit, 23 reused, 2 in flight, 1 failed, 4 unknown, 4 rows removed, 1 batch to cancel, "
        "1 job with errors.\n"
    )


def test_a_budget_that_a_person_overrides_is_told_so() -> None:
    plan = Plan((NEW,), over_budget=("all jobs: max_requests: 2",))
    told = explain(plan, override=True)
    assert "Over budget: all jobs: max_requests: 2. `--budget-override` allows it.\n" in told
    assert "refuses" not in told


def test_the_summary_says_what_a_failed_canary_holds_back() -> None:
    told = explain(Plan((hold_back(NEW, "the canary failed"),)))
    assert "\nPlan: 0 to submit, 3 held back by a failed canary, 7 reused" in told


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("gpt-5-nano", "counted with o200k_base, assumed for this model"),
        ("gpt-4o-mini", "counted, schema and tools assumed to be JSON text"),
    ],
)
def test_what_is_assumed_of_a_count_is_said(model: str, word: str) -> None:
    tokens = Tokens(300, 300, 300, Certainty.ASSUMED, "4 requests counted")
    told = explain(Plan((replace(NEW, estimate=replace(ESTIMATE, model=model, input=tokens)),)))
    assert f"in    300 tokens, {word} (4 requests counted)\n" in told


def test_the_cost_is_that_of_all_jobs() -> None:
    jobs = tuple(replace(NEW, address=f"reviews[n={n}]") for n in range(100))
    assert "\nCost: about $30.00, at most $91.00.\nPlan: 300 to submit, 700 reused, 200 rows removed.\n" in explain(
        Plan(jobs)
    )


def test_what_changes_is_not_lost_among_jobs_with_nothing_to_do() -> None:
    jobs = [replace(SAME, address=f"same-{n}") for n in range(12)]
    told = explain(Plan((*jobs[:6], NEW, *jobs[6:])))
    assert told.startswith("reviews[model=a]  (local:echo)\n")
    assert "\n12 jobs with nothing to do: same-0, same-1, same-2, " in told
    assert ", same-9 and 2 more\n" in told
    assert explain(Plan(tuple(jobs[:3]))).count("    nothing to do\n") == 3


def test_nothing_to_do_is_said_and_nothing_is_counted_twice() -> None:
    assert explain(Plan((SAME, SAME))).endswith("\nNothing to do: 14 reused.\n")
    assert explain(Plan(())) == "Nothing to do: 0 reused.\n"
