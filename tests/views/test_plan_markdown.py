"""A plan for a pull request: it fits into a comment, is stable, and nothing that a stranger wrote is markup in it."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from runner.money.estimate import Estimate, Output
from runner.money.prices import Price
from runner.money.token_sample import Tokens
from runner.money.tokens import Certainty
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.plan import Example, JobPlan, Orphan, Plan, Submit, Write, hold_back
from runner.reconciler.plan.reasons import RowChanges
from runner.views.plan_markdown import LIMIT, MARK, code, markdown

PRICE = Price(Decimal("0.1"), Decimal("0.4"), Decimal("0.05"), "genai-prices, batch rate")
EVIL = "x`y``` | @octocat <img src=http://e/x> [a](http://e) ![b](http://e) \n\n# Approved\r\n<!-- --> \u202eabc"


def job(address: str = "reviews", *, new: int = 3, reused: int = 7, reason: str = "template changed: t.j2") -> JobPlan:
    actions = (Submit(1, new, 1, 1_000, reason), Write("out/x.jsonl", 10, "new answers expected")) if new else ()
    return JobPlan(
        address, "local:echo", "out/x.jsonl", KeyCounts(new + reused, reused, submit=((1, new),)), actions, 0
    )


def estimate(requests: int = 3, *, price: Price | None = PRICE) -> Estimate:
    tokens = Tokens(900_000, 1_000_000, 1_100_000, Certainty.ESTIMATED, "200 of 3,000 requests counted, ±10.0 %")
    return Estimate(requests, 4_000_000, "gpt-4o-mini", tokens, Output(500_000, 2_000_000), price)


def test_a_whole_plan() -> None:
    example = Example("r-1", "Be kind.\nSay x.", "Be brief.\nSay x.")
    rows = RowChanges(added=4, changed=0, removed=2)
    changed = replace(job(), estimate=estimate(), spent=Decimal("0.70"), rows_before=8, rows=rows, examples=(example,))
    text = markdown(Plan((changed, job("same", new=0))))
    assert text == (
        f"{MARK}\n"
        "### Batchspec plan: 3 requests to submit, 14 reused, 2 rows removed, about $0.30, at most $0.91\n"
        "\n"
        "| job | rows | new | reused | removed | tokens | cost: spent → after | why |\n"
        "|---|--:|--:|--:|--:|---|---|---|\n"
        "| `reviews` | 8 → 10 | 3 | 7 | 2 | 1,000,000 in (estimated), 500,000 to 2,000,000 out "
        "| $0.70 → about $1.00, at most $1.61 | `template changed: t.j2` |\n"
        "| `same` | 7 |  | 7 |  |  |  | nothing to do |\n"
        "\n"
        "<details><summary><code>reviews</code>: prompt of row <code>r-1</code></summary>\n"
        "\n"
        "```diff\n"
        "@@ -1,2 +1,2 @@\n"
        "-Be kind.\n"
        "+Be brief.\n"
        " Say x.\n"
        "```\n"
        "\n"
        "</details>\n"
        "\n"
        "<details><summary><code>reviews</code>: details</summary>\n"
        "\n"
        "```text\n"
        "+ submit 3 requests in 1 batch, 1.0 kB: template changed: t.j2\n"
        "> write  out/x.jsonl: new answers expected\n"
        "input tokens: estimated (200 of 3,000 requests counted, ±10.0 %)\n"
        "price: genai-prices, batch rate\n"
        "```\n"
        "\n"
        "</details>\n"
    )


def test_what_was_spent_and_what_a_failed_canary_holds_back_are_said() -> None:
    assert "| $0.70 spent | nothing to do |" in markdown(Plan((replace(job(new=0), spent=Decimal("0.70")),)))
    stopped = markdown(Plan((hold_back(job(), "the canary failed"), job("other"))))
    assert "3 requests to submit, 3 held back by a failed canary, 14 reused" in stopped
    assert "| job | rows | new | reused | held back |" in stopped
    assert "| `reviews` | 10 |  | 7 | 3 |" in stopped


def test_nothing_to_do_is_one_sentence() -> None:
    assert "### Batchspec plan: nothing to do, 7 reused\n" in markdown(Plan((job(new=0),)))


@pytest.mark.parametrize("jobs", [1, 40, 3_000])
def test_it_fits_into_a_comment_whatever_the_plans_size(jobs: int) -> None:
    examples = tuple(Example(str(n), "old " * 3_000, "new\n" * 3_000) for n in range(5))
    plans = tuple(
        replace(job(f"job-{n}", reason="w" * 500), estimate=estimate(), examples=examples) for n in range(jobs)
    )
    errors = {f"broken-{n}": "line\n" * 500 for n in range(jobs)}
    text = markdown(Plan(plans, errors, over_budget=("o" * 500,) * jobs))
    assert len(text) <= LIMIT
    assert text.count("```") % 2 == 0
    assert text.count("<details>") == text.count("</details>")
    if jobs > 1:
        assert "did not fit" in text


def test_a_table_that_does_not_fit_says_how_many_jobs_are_left_out() -> None:
    text = markdown(Plan(tuple(job(f"job-{n}", new=n % 2) for n in range(3_000))))
    shown = text.count("| `job-")
    assert f"{3_000 - shown:,} more jobs, {1_500 - shown:,} of them with something to do." in text


def test_what_a_service_says_of_a_failed_batch_is_shown_only_where_prompts_may_be() -> None:
    failed = replace(job(), failures=("batch b1 failed: row 17: no such model for 'my secret'",), notes=("kept",))
    hidden = markdown(Plan((failed,)))
    assert "my secret" not in hidden
    assert "note: 1 reason why batches failed; `batchspec plan` shows more\nnote: kept" in hidden
    assert "row 17: no such model for 'my secret'" in markdown(Plan((replace(failed, shown=True),)))


def test_hostile_text_stays_in_code() -> None:
    evil = replace(job("a", reason=EVIL), examples=(Example(EVIL, EVIL, f"{EVIL}\n````"),), notes=(EVIL,))
    orphan = Orphan(EVIL, EVIL, EVIL, ("b1",), 2, ("b1",))
    text = markdown(Plan((evil,), {"b": EVIL}, EVIL, (orphan,), (EVIL,)))
    assert "\u202e" not in text
    assert "\r" not in text
    fence = ""
    for line in text.splitlines():
        if line.startswith("```"):
            ticks = line[: len(line) - len(line.lstrip("`"))]
            if not fence:
                fence = ticks
            elif line == fence:
                fence = ""
            continue
        if fence:
            continue
        # What begins with <details> is HTML up to the next empty line, not markdown.
        folded = line.startswith("<details>")
        outside = re.sub(r"<code>[^<]*</code>", "", line) if folded else "".join(line.split("`")[::2])
        assert "@" not in outside
        assert "](" not in outside
        assert not line.startswith("# ")
        if folded:
            assert (
                outside == "<details><summary>: prompt of row </summary>"
                or ": details" in outside
                or "jobs that no spec defines" in outside
            )
        else:
            assert "<" not in outside or line in {MARK, "</details>"}
    assert not fence


TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(
    ["`", "``", "|", "\\", "\n", "@octocat ", "#12 ", "<img src=x>", "</details>", "</code>", "<!--", "-->", "[a](http://e)",
     "![b](http://e)", "**b**", "~~~", "```", "# h", "- l", "> q", "&lt;", "http://e.example", "a", " ", "\t", "\r", "\u202e"]
)).map("".join))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_a_renderer_finds_no_markup_in_what_strangers_wrote(one: str, two: str) -> None:
    """Read by a CommonMark renderer with tables: no link, picture, heading or tag but our own, and no column more."""
    evil = replace(
        job("a", reason=one), estimate=estimate(), examples=(Example(two, one, two),), notes=(two,), shown=True
    )
    orphan = Orphan(one, two, one, ("b1",), 2, ("b1",))
    text = markdown(Plan((evil, job("b", reason=two)), {"c": one}, two, (orphan,), (one,)))
    spans = 0
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        assert token.type not in {"bullet_list_open", "blockquote_open", "code_block", "hr", "ordered_list_open"}
        assert token.type != "heading_open" or token.map == [1, 2]
        spans += token.type == "td_open"
        if token.type == "html_block":
            assert re.sub(r"<code>[^<>]*</code>", "", token.content.strip()) in OUR_TAGS
        for child in token.children or ():
            assert child.type in {"text", "code_inline", "strong_open", "strong_close", "softbreak"}
            assert child.type != "text" or not re.search(r"[@#<>`\[\]]|http", child.content)
    assert spans == 2 * 7


OUR_TAGS = {
    MARK,
    "</details>",
    "<details><summary>jobs that no spec defines any more</summary>",
    "<details><summary>: prompt of row </summary>",
    "<details><summary>: details</summary>",
}


@given(st.text())
def test_code_is_one_span_on_one_line(text: str) -> None:
    shown = code(text)
    assert "\n" not in shown
    assert shown == "" or (shown[0] == shown[-1] == "`" and "`" not in shown[1:-1])


def test_without_a_price_or_a_batch_rate_it_says_so() -> None:
    assert "no price known" in markdown(Plan((replace(job(), estimate=estimate(price=None)),)))
    full = Price(Decimal(1), Decimal(1), Decimal(1), "genai-prices, full price", batch=False)
    assert "(no batch rate known: full price)" in markdown(Plan((replace(job(), estimate=estimate(price=full)),)))
