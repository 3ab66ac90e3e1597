"""Outputs that hold the last copy of paid answers: the store is gone, and the service has forgotten the results."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import httpx
import pytest
import zstandard

from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Write
from tests.executor.conftest import Team

Make = Callable[..., Team]
ASK = ApplyOptions(ask_unknown=frozenset({"job"}))
SPEC = """\
version: 1
name: job
provider: test
model: gpt-4o-mini
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
output: %s
"""


def texts(path: Path) -> list[str]:
    """The texts in an output of any format."""
    match path.suffix:
        case ".parquet":
            return [
                text for (text,) in duckdb.connect().execute("select text from read_parquet(?)", [str(path)]).fetchall()
            ]
        case ".gz":
            data = gzip.decompress(path.read_bytes())
        case ".zst":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        case _:
            data = path.read_bytes()
    lines = data.decode().splitlines()
    rows = csv.DictReader(lines) if ".csv" in path.name else map(json.loads, lines)
    return [row["text"] for row in rows]


def forgotten(one: Team, monkeypatch: pytest.MonkeyPatch, output: str) -> Path:
    """A job that has run with three rows, of which only the output is left, and which has four rows now."""
    one.write("specs/job.yaml", SPEC % output)
    one.apply()
    forget(one, monkeypatch)
    one.rows("one", "two", "three", "four")
    return next((one.root / "out").iterdir())


def forget(one: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is thrown away, and the service has no results any more of what ran until now."""
    shutil.rmtree(one.root / ".batchspec")
    send = httpx.Client.send

    def forgetful(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        path = request.url.path
        if path.endswith("/results") and path.split("/")[-2] in old:
            return httpx.Response(404, json={"id": "not_found", "message": "gone"}, request=request)
        return send(self, request, **options)  # type: ignore[arg-type]

    old = {batch["batch_id"] for batch in one.remote()}
    monkeypatch.setattr(httpx.Client, "send", forgetful)


def asked(one: Team) -> int:
    return sum(batch["request_counts"]["total"] for batch in one.remote())


@pytest.mark.parametrize(
    "output",
    [
        "{path: out/job.jsonl}",
        "{path: out/job.jsonl.gz}",
        "{path: out/job.jsonl.zst}",
        "{path: out/job.csv}",
        "{path: out/job.csv.gz}",
        "{path: out/job.parquet}",
        "{path: out/job.csv, include: [text, usage, error, request, batch, row.text]}",
        "{path: out/job.jsonl, include: [request, text, error, batch]}",
    ],
)
def test_answers_are_taken_over_from_it(team: Make, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    one = team()
    path = forgotten(one, monkeypatch, output)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4
    # They stand in the store now, so the file may go.
    path.unlink()
    assert one.apply()[0].end == "succeeded"
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


@pytest.mark.parametrize("later", ["out/new/job.jsonl", "out/job.csv", "out/job.jsonl.gz"])
def test_a_job_that_is_written_elsewhere_reads_its_output_of_before(
    team: Make, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    before = path.read_bytes()
    one.write("specs/job.yaml", SPEC % f"{{path: {later}}}")
    [planned] = one.plan().jobs
    assert any("are read from out/job.jsonl" in note for note in planned.notes)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(one.root / later) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert path.read_bytes() == before
    assert asked(one) == 4


def test_answers_of_one_batch_in_two_outputs_are_put_together(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one holds more of the batch, and not all that the one of now holds."""
    one = team()
    one.rows("one", "two", "three", "four")
    one.apply()
    one.rows("one", "two", "three")
    one.apply()
    one.write("data/rows.jsonl", '{"id": 4, "text": "four"}\n')
    one.write("specs/job.yaml", SPEC % "{path: new/job.jsonl}")
    one.apply()
    forget(one, monkeypatch)
    one.rows("one", "two", "three", "four")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(one.root / "new/job.jsonl") == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_a_carriage_return_in_a_cell_loses_no_answer(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """To csv's readers it ends a line, wherever it is not quoted."""
    one = team()
    one.rows("one", "two", "a\rb")
    path = forgotten(one, monkeypatch, "{path: out/job.csv}")
    one.rows("one", "two", "a\rb", "four")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    with path.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["Say one.", "Say two.", "Say a\rb.", "Say four."]
    assert asked(one) == 4


def test_an_output_whose_format_changes_in_place_is_read_as_what_it_is(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    one.write("specs/job.yaml", SPEC % "{path: out/job.jsonl, format: csv}")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    rows = csv.DictReader(path.read_text().splitlines())
    assert [row["text"] for row in rows] == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_a_job_whose_spec_file_is_renamed_keeps_the_answers_in_its_output(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    (one.root / "specs/job.yaml").rename(one.root / "specs/other.yaml")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_an_output_that_was_moved_along_is_known_by_its_bytes(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that was moved and changed is not ours any more: nothing is taken from it, and nothing asked again."""
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    moved = path.with_name("moved.jsonl")
    path.rename(moved)
    one.write("specs/job.yaml", SPEC % "{path: out/moved.jsonl}")
    data = moved.read_bytes()
    moved.write_bytes(data.replace(b"Say two", b"Say too"))
    assert one.plan().jobs[0].tally.unknown == 4
    moved.write_bytes(data)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(moved) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_a_recorded_path_that_leads_out_of_the_project_is_not_read(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    outside = one.root.parent / "outside.jsonl"
    path.rename(outside)
    lock = one.root / "specs/job.lock"
    lock.write_text(lock.read_text().replace('"output":"out/job.jsonl"', '"output":"../outside.jsonl"'))
    assert one.plan().jobs[0].tally.unknown == 4
    outside.rename(one.root / "inside.jsonl")
    lock.write_text(lock.read_text().replace('"output":"../outside.jsonl"', '"output":"inside.jsonl"'))
    assert one.plan().jobs[0].tally.unknown == 0


@pytest.mark.parametrize("output", ["{path: out/job.jsonl, include: [text]}", "{path: out/job.csv, include: [text]}"])
def test_one_that_can_not_be_taken_over_is_not_overwritten_with_less(
    team: Make, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """It says so, every time, until a person decides. The new row may have been asked too, for all that is known."""
    one = team()
    path = forgotten(one, monkeypatch, output)
    before = path.read_bytes()
    for _ in range(2):
        [outcome] = one.apply()
        assert outcome.end == "error"
        assert "it holds the only copy of up to 4 answers" in outcome.message
        assert "--ask-unknown job" in outcome.message
        assert path.read_bytes() == before
        [planned] = one.plan().jobs
        assert any("is not overwritten, and `apply` stops there" in note for note in planned.notes)
        assert not any(isinstance(action, Write) for action in planned.actions)
    assert asked(one) == 3
    one.apply(ASK)
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 7
    [kept] = (one.root / ".batchspec/store").rglob("kept/*")
    assert kept.read_bytes() == before


def test_one_that_was_moved_away_is_written_with_what_there_is(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.csv, include: [text]}")
    path.rename(one.root / "kept.csv")
    assert one.apply()[0].end == "failed"
    assert texts(path) == ["", "", "", ""]
    assert asked(one) == 3


def test_the_plan_says_that_a_foreign_file_is_copied_aside(team: Make) -> None:
    one = team()
    one.write("out/job.jsonl", json.dumps({"id": 1, "text": "precious", "batch": "other"}) + "\n")
    assert any("a copy of out/job.jsonl is kept" in note for note in one.plan().jobs[0].notes)


def held_against(one: Team, output: str, *more: str) -> None:
    """A job whose prompts are the rows' texts, which come back as answers: objects with two numbers, or they don't fit."""
    number = {"type": "integer"}
    schema = {"type": "object", "properties": {"n": number, "m": number}, "required": ["n", "m"]}
    one.write("schemas/n.json", json.dumps(schema))
    extra = "".join(f"{line}\n" for line in ("schema: schemas/n.json", *more))
    one.write("specs/job.yaml", (SPEC % output).replace("Say {{ text }}.", "{{ text }}") + extra)


FITS = [f'{{"n": {number}, "m": 0}}' for number in range(4)]


@pytest.mark.parametrize(
    ("before", "later", "file"),
    [
        ("{path: out/job.jsonl, errors: out/bad.jsonl}", "", "out/bad.jsonl"),
        ("{path: out/job.csv.gz, errors: out/bad.jsonl}", "", "out/bad.jsonl"),
        ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: out/job.jsonl, errors: new.jsonl}", "new.jsonl"),
        ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: out/job.jsonl}", "out/job.jsonl"),
        ("{path: out/job.jsonl, errors: out/bad.jsonl}", "{path: new/a.jsonl, errors: new/b.jsonl}", "new/b.jsonl"),
    ],
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


@pytest.mark.parametrize("known", [True, False], ids=["edited", "somebody's own"])
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


@pytest.mark.parametrize("output", ["{path: out/bad.jsonl}", "{path: out/job.jsonl, errors: out/bad.jsonl}"])
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
    [
        ("parsed.n", "parsed.m", None),
        ("parsed.n", "parsed", None),
        ("parsed.n, parsed.m", "parsed.m", {"m": 0}),
        ("parsed", "parsed.m", {"m": 0}),
        ("text, parsed.n", "parsed.m", {"m": 0}),
        ("text", "parsed", {"n": 1, "m": 0}),
    ],
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


@pytest.mark.parametrize(("invalid", "passes"), [(1, True), (0, False)])
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


@pytest.mark.parametrize("damage", [b"", b'{"custom_id": "k1-'], ids=["cut short", "garbled"])
def test_damaged_results_are_told_and_never_written_as_rows(team: Make, damage: bytes) -> None:
    """The store's raw file is not what was indexed: nothing is written from it, and the hint makes it whole."""
    job = team()
    job.apply()
    want = job.output()
    [raw] = (job.root / ".batchspec").rglob("*.output.jsonl")
    data = raw.read_bytes()
    raw.write_bytes(damage.ljust(len(data), b" ") if damage else data[: len(data) // 4])
    (job.root / "out/job.jsonl").unlink()
    [outcome] = job.apply()
    assert (outcome.end, outcome.submitted, outcome.codes) == ("error", 0, ("BS410",))
    assert not (job.root / "out/job.jsonl").exists()
    name = raw.name.replace("output.jsonl", "summary.json")
    assert f"remove {name} there" in outcome.message
    raw.with_name(name).unlink()
    [outcome] = job.apply()
    assert (outcome.end, outcome.submitted, job.output()) == ("succeeded", 0, want)
    assert len(job.remote()) == 1
