"""The report: right numbers, bounded, self-contained, and no text of a row is markup."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from runner.report.facts import look
from runner.report.rows import AnswerRow, parse_row
from runner.views.charts import bars, columns, share
from tests.report.conftest import Shell
from tests.sampling import sampled

EVIL = "</pre><script>alert(1)</script><img src=http://example.com/x>"


def row(number: int, text: str | None = "x", error: tuple[str, str] | None = None, tokens: int | None = 1) -> AnswerRow:
    return AnswerRow(str(number), text, None, "stop", None, error, 10, tokens, "m", f"k1-{number:040x}", "b")


class Page(HTMLParser):
    """Collects tags and whatever a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in {"src", "srcset", "data", "action"}]
        self.fetched += [value or "" for name, value in attrs if name == "href" and not (value or "").startswith("#")]


def test_a_page_of_hostile_rows_has_no_script_and_fetches_nothing(shell: Shell) -> None:
    (shell.root / "data/rows.jsonl").write_text(
        "".join(json.dumps({"id": f"{EVIL}{n}", "text": EVIL}) + "\n" for n in range(3))
    )
    shell.batchspec("apply", "--yes")
    assert shell.batchspec("report") == "wrote batchspec-report.html\n"
    text = (shell.root / "batchspec-report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.fetched == []
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"url\(|@import", text)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_json_has_outcome_runs_and_prompts(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    shell.edit("data/rows.jsonl", '"two"', '"zwei"')
    shell.batchspec("apply", "--yes")
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--out", "-"))["jobs"]
    assert (job["output"]["rows"], job["output"]["answered"], job["output"]["failed"]) == (3, 3, 0)
    assert [run["requests"] for run in job["runs"]] == [3, 1]
    assert [run["why"] for run in job["runs"]] == ["first run", "rows changed in data/rows.jsonl"]
    assert {one["prompt"] for one in job["output"]["samples"]} == {
        f"Be brief.\n\n{t}" for t in ("one", "zwei", "three")
    }
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--no-prompts", "-o", "-"))["jobs"]
    assert {one["prompt"] for one in job["output"]["samples"]} == {None}


def test_replicates_have_their_prompts(shell: Shell) -> None:
    """Several answers to one prompt have keys that differ by their ordinal only."""
    shell.edit("specs/hello.yaml", "provider: local", "provider: local\nreplicates: 2")
    shell.batchspec("apply", "--yes")
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--out", "-"))["jobs"]
    prompts = [one["prompt"] for one in job["output"]["samples"]]
    assert len(prompts) == 6
    assert None not in prompts


def test_csv_is_a_line_a_run(shell: Shell) -> None:
    shell.batchspec("apply", "--yes")
    [line] = csv.DictReader(io.StringIO(shell.batchspec("report", "--format", "csv", "--out", "-")))
    assert (line["job"], line["outcome"], line["requests"], line["completed"]) == ("hello", "completed", "3", "3")
    assert int(line["input_tokens"]) > 0


SCHEMA = '{"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}'


@pytest.mark.parametrize(
    ("output", "counts"),
    sampled(
        [
            pytest.param("{path: out/hello.jsonl}", (1, 2, 2), id="usual"),
            pytest.param("{path: out/hello.csv.gz}", (1, 2, 2), id="csv, packed"),
            pytest.param("{path: out/hello.jsonl, errors: out/bad.jsonl}", (1, 2, 2), id="failed rows apart"),
            pytest.param("{path: out/hello.jsonl, include: [parsed, error]}", (1, 2, 2), id="without batches"),
            pytest.param("{path: out/hello.jsonl, include: [text]}", (3, 0, None), id="it does not tell"),
        ],
        1,
    ),
)
def test_answers_that_do_not_fit_are_not_answered_in_any_format(
    shell: Shell, output: str, counts: tuple[int, int, int | None]
) -> None:
    """The numbers are those of `status`: the service counts such answers as completed."""
    (shell.root / "s.json").write_text(SCHEMA)
    shell.edit("data/rows.jsonl", '"two"', '"{\\"a\\": \\"x\\"}"')
    shell.edit("specs/hello.yaml", "output: {path: out/hello.jsonl}", f"schema: s.json\noutput: {output}")
    shell.batchspec("apply", "--yes", expect=3)
    status = json.loads(shell.batchspec("status", "--json").splitlines()[-1])
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--out", "-"))["jobs"]
    [run] = job["runs"]
    assert (run["completed"], run["failed"], run["invalid"]) == counts
    assert (run["completed"], run["failed"]) == (status["answered"], status["failed"])
    [line] = csv.DictReader(io.StringIO(shell.batchspec("report", "--format", "csv", "--out", "-")))
    assert tuple(int(line[name]) if line[name] else None for name in ("completed", "failed", "invalid")) == counts
    shell.batchspec("report")
    page = (shell.root / "batchspec-report.html").read_text()
    assert ("(2 invalid)" in page) == (counts[2] == 2)


def test_answers_that_do_not_fit_are_those_of_the_run_that_asked(shell: Shell) -> None:
    (shell.root / "s.json").write_text(SCHEMA)
    shell.edit("specs/hello.yaml", "output: {", "schema: s.json\noutput: {")
    shell.batchspec("apply", "--yes", expect=3)
    shell.edit("data/rows.jsonl", '"two"', '"{\\"a\\": \\"x\\"}"')
    shell.batchspec("apply", "--yes", expect=3)
    [job] = json.loads(shell.batchspec("report", "--format", "json", "--out", "-"))["jobs"]
    assert [(run["completed"], run["failed"], run["invalid"]) for run in job["runs"]] == [(1, 2, 2), (1, 0, 0)]


def test_a_project_that_never_ran_has_a_report_that_says_so(shell: Shell) -> None:
    shell.batchspec("report")
    page = (shell.root / "batchspec-report.html").read_text()
    assert "does not exist yet" in page
    assert "cost, all runs<b>$0</b>" in page
    assert "not known" not in page


def test_rows_are_counted_and_examples_bounded() -> None:
    rows = [row(n, "y" * n) for n in range(1_000)]
    rows += [row(2_000 + n, None, (f"code{n % 3}", "no")) for n in range(50)]
    facts = look(rows)
    assert (facts.rows, facts.answered, facts.failed) == (1_050, 1_000, 50)
    assert dict(facts.codes) == {"code0": 17, "code1": 17, "code2": 16}
    assert (len(facts.samples), len(facts.failures), len(facts.longest)) == (8, 20, 10)
    assert [shown.id for shown in facts.longest[:3]] == ["999", "998", "997"]
    assert sum(b.count for b in facts.characters) == 1_000
    assert [(b.low, b.high) for b in facts.characters[:4]] == [(0, 1), (1, 2), (2, 5), (5, 10)]


def test_an_output_without_text_shows_what_was_parsed_and_counts_no_refusals() -> None:
    rows = [parse_row(json.dumps({"id": n, "parsed": {"label": "good"}, "error": None}).encode()) for n in range(3)]
    rows += [parse_row(b'{"id": 7, "error": null}'), parse_row(b'{"id": 8, "text": null, "refusal": null}')]
    rows += [parse_row(b'{"id": 9, "parsed": null, "refusal": "I can not"}')]
    facts = look(one for one in rows if one is not None)
    assert (facts.answered, facts.refused, facts.failed) == (4, 2, 0)
    assert {one.id: one.text for one in facts.samples} == {
        **dict.fromkeys("012", '{"label":"good"}'), "7": "(not in the output)", "8": "", "9": "refused: I can not",
    }  # fmt: skip


def test_samples_are_the_same_whatever_the_order() -> None:
    rows = [row(n) for n in range(100)]
    assert {s.id for s in look(rows).samples} == {s.id for s in look(rows[::-1]).samples} == {str(n) for n in range(8)}


@pytest.mark.parametrize("draw", [bars, columns])
def test_charts_escape_their_labels_and_survive_zeros(draw) -> None:
    drawn = draw([(EVIL, 0.0, EVIL)], EVIL)
    assert "<script" not in drawn
    assert draw([], "nothing").endswith("</svg>")


def test_texts_of_many_columns_are_whole_and_do_not_overlap() -> None:
    drawn = columns([(f"11-{n:02}", 1.0, f"$0.000{n:03}") for n in range(30)], "cost")
    texts = re.findall(r'class="value" x="([\d.]+)"[^>]*>([^<]+)<', drawn)
    assert len(texts) > 3
    assert all(re.fullmatch(r"\$0\.000\d{3}", text) for _, text in texts)
    places = [float(x) for x, _ in texts]
    assert all(right - left >= 8 * 8.5 for left, right in pairwise(places[1:]))
    assert places[0] >= 4 * 8.5


def test_a_text_stands_above_the_columns_that_it_reaches_over() -> None:
    heights = [1.0, 9.0] * 15
    drawn = columns([(f"11-{n:02}", value, f"$0.000{n:03}") for n, value in enumerate(heights)], "cost")
    tops = [float(y) for y in re.findall(r'<rect[^>]* y="([\d.]+)"', drawn)]
    texts = [float(y) for y in re.findall(r'class="value"[^>]* y="([\d.]+)"', drawn)]
    assert texts
    assert max(texts) < min(tops)


def test_a_share_of_one_in_a_million_is_seen() -> None:
    assert 'width="2.0"' in share([("answered", 999_999, "a"), ("failed", 1, "bad")], "outcome")
