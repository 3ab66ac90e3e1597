"""Files of failed rows and outputs with few fields, as last copies of paid answers."""

from __future__ import annotations

import json

import pytest

from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.last_copies import ASK, FITS, SPEC, Make, asked, forget, forgotten, held_against
from tests.sampling import sampled


@pytest.mark.parametrize(
    ("before", "later", "file"),
    sampled(
        [
            ("{path: out/job.jsonl, errors: out/bad.jsonl}", "", "out/bad.jsonl"),
            ("{path: out/job.csv.gz, errors: out/bad.jsonl}", "", "out/bad.jsonl"),
            ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: out/job.jsonl, errors: new.jsonl}", "new.jsonl"),
            ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: out/job.jsonl}", "out/job.jsonl"),
            ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: new/a.jsonl, errors: new/b.jsonl}", "new/b.jsonl"),
        ],
        1,
    ),
)
def test_answers_that_do_not_fit_are_read_back_from_the_file_of_failed_rows(
    team: Make, monkeypatch: pytest.MonkeyPatch, before: str, later: str, file: str
) -> None:
    """They were paid for, and stand in no other file."""
    one = team()
    one.rows(FITS[0], "a long answer", FITS[1])
    held_against(one, before, "tolerate: 2")
    one.apply()
    forget(one, monkeypatch)
    one.rows(FITS[0], "a long answer", FITS[1], FITS[2])
    held_against(one, later or before, "tolerate: 2")
    assert any("out/bad.jsonl" in note for note in one.plan().jobs[0].notes)
    [outcome] = one.apply()
    assert (outcome.end, outcome.submitted) == ("succeeded", 1), outcome.message
    rows = map(json.loads, (one.root / file).read_text().splitlines())
    assert [row["text"] for row in rows if row["error"]] == ["a long answer"]
    assert asked(one) == 4


@pytest.mark.parametrize("known", sampled([True, False], 1), ids=["edited", "somebody's own"])
def test_a_file_of_failed_rows_that_is_not_ours_is_kept_aside(
    team: Make, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    one = team()
    apart = one.root / "out/bad.jsonl"
    one.rows(FITS[0], "a long answer")
    held_against(one, "{path: out/job.jsonl, errors: out/bad.jsonl}", "tolerate: 2")
    if known:
        one.apply()
        forget(one, monkeypatch)
        one.write("out/bad.jsonl", apart.read_bytes() + b"\n")
    else:
        one.write("out/bad.jsonl", '{"id": 1, "text": "precious"}\n')
    before = apart.read_bytes()
    assert any("a copy of out/bad.jsonl is kept" in note for note in one.plan().jobs[0].notes)
    one.apply(ASK)
    [told] = one.told("output.kept")
    assert (one.root / str(told["path"])).read_bytes() == before
    assert [json.loads(line)["id"] for line in apart.read_text().splitlines()] == [2]


@pytest.mark.parametrize(
    "output", sampled(["{path: out/bad.jsonl}", "{path: out/job.jsonl, errors: out/bad.jsonl}"], 1)
)
@pytest.mark.parametrize("text", ["notes, not JSON\n", "[1]\n", '\n{"text": 1, "request": "mine"}'])
def test_a_file_of_any_other_lines_is_somebodys_own(team: Make, output: str, text: str) -> None:
    one = team()
    one.write("specs/job.yaml", SPEC % output)
    one.write("out/bad.jsonl", text)
    one.apply()
    [told] = one.told("output.kept")
    assert (one.root / str(told["path"])).read_text() == text


def test_a_changed_output_whose_rows_name_no_batch_is_kept_aside(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold the last copy of any batch whose results are not here."""
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl, include: [text]}")
    changed = path.read_bytes() + b"\n"
    path.write_bytes(changed)
    assert any("a copy of out/job.jsonl is kept" in note for note in one.plan().jobs[0].notes)
    one.apply(ASK)
    [told] = one.told("output.kept")
    assert (one.root / str(told["path"])).read_bytes() == changed


@pytest.mark.parametrize(
    ("before", "later", "parsed"),
    sampled(
        [
            ("parsed.n", "parsed.m", None),
            ("parsed.n", "parsed", None),
            ("parsed.n, parsed.m", "parsed.m", {"m": 0}),
            ("parsed", "parsed.m", {"m": 0}),
            ("text, parsed.n", "parsed.m", {"m": 0}),
            ("text", "parsed", {"n": 1, "m": 0}),
        ],
        2,
    ),
)
def test_what_was_parsed_in_part_is_not_taken_for_more(
    team: Make, monkeypatch: pytest.MonkeyPatch, before: str, later: str, parsed: object
) -> None:
    one = team()
    one.rows(FITS[0], FITS[1])
    output = "{path: out/job.jsonl, include: [%s, error, request, batch]}"
    held_against(one, output % before)
    one.apply()
    forget(one, monkeypatch)
    old = (one.root / "out/job.jsonl").read_bytes()
    held_against(one, output % later)
    if parsed is None:
        [outcome] = one.apply()
        assert outcome.end == "error"
        assert "it holds the only copy of up to 2 answers" in outcome.message
        assert (one.root / "out/job.jsonl").read_bytes() == old
        return
    one.write("data/rows.jsonl", (one.root / "data/rows.jsonl").read_bytes().replace(b'"id": 2', b'"id": 7'))
    [outcome] = one.apply()
    assert (outcome.end, outcome.submitted) == ("succeeded", 0), outcome.message
    assert [(row["id"], row["parsed"]) for row in one.output()][1] == (7, parsed)


@pytest.mark.parametrize(("invalid", "passes"), sampled([(1, True), (0, False)], 1))
def test_a_canary_is_judged_by_what_was_saved_of_it(
    team: Make, monkeypatch: pytest.MonkeyPatch, invalid: int, passes: bool
) -> None:
    """Its results are gone: rows of the output stand for them, and say what did not fit."""
    one = team()
    texts_asked = [FITS[0], "no", "neither", FITS[1]]
    one.rows(*texts_asked)
    held_against(one, "{path: out/job.jsonl}", "tolerate: 2", "canary: {requests: 2, max_invalid: 1}")
    assert one.apply()[0].end == "succeeded"
    forget(one, monkeypatch)
    one.rows(*texts_asked, FITS[2])
    one.apply()
    assert one.told("answers.salvaged")
    one.rows(*texts_asked)
    held_against(one, "{path: out/job.jsonl}", "tolerate: 2", f"canary: {{requests: 2, max_invalid: {invalid}}}")
    [outcome] = one.apply(ApplyOptions(retry_failed=frozenset({"job"})))
    assert (outcome.end, outcome.submitted) == (("succeeded", 2) if passes else ("error", 0)), outcome.message
    assert passes or "1 of 2 answers" in outcome.message
