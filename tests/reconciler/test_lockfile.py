"""The lockfile: deterministic, mergeable in any order, strict about what it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import LockfileError
from runner.reconciler.lockfile import BatchLine, CountsField, Lockfile, OutputLine, PinsLine, merge, parse

HEX = "ab" * 32


def batch(name: str, state: str = "submitted", **more: object) -> BatchLine:
    ended = (
        {}
        if state == "submitted"
        else {"ended_at": "2026-11-23T11:00:00Z", "counts": CountsField(total=1, completed=1, failed=0)}
    )
    fields = {
        "batch": name, "job": "reviews", "realm": "local:echo", "shard": HEX, "requests": 1, "bytes": 100, "attempt": 1,
        "round": 1, "request_id": "r-" + name, "file": "f-" + name, "created_at": "2026-11-23T10:00:00Z", "pins": None,
        "state": state, **ended, **more,
    }  # fmt: skip
    return BatchLine.model_validate(fields)


def pins(digest: str, job: str = "reviews") -> PinsLine:
    return PinsLine(
        pins=digest, job=job, model="m", format="openai", endpoint="/v1/responses", parameters={"temperature": 0},
        input="data/x.jsonl", input_digest=HEX, rows=3, templates={"templates/x.j2": HEX}, spec=HEX, requests=HEX,
        tool="0.1.0", commit="",
    )  # fmt: skip


def output(path: str, digest: str = HEX) -> OutputLine:
    return OutputLine(output=path, job="reviews", digest=digest, rows=3, batches=("b1",))


NAMES = st.sampled_from(["b1", "b2", "b3"])
DIGESTS = st.sampled_from(["0" * 16, "1" * 16, "2" * 16])
LOCKFILES = st.builds(
    lambda batches, digests, outputs, current: Lockfile(
        "p",
        current,
        {d: pins(d) for d in digests},
        {n: batch(n, s) for n, s in batches},
        {p: output(p, d * 64) for p, d in outputs},
    ),
    st.lists(st.tuples(NAMES, st.sampled_from(["submitted", "completed", "expired"])), max_size=3),
    st.sets(DIGESTS),
    st.lists(st.tuples(st.sampled_from(["out/a", "out/b"]), st.sampled_from("ab")), max_size=2),
    st.dictionaries(st.sampled_from(["reviews", "tickets"]), st.none() | DIGESTS),
)


@given(LOCKFILES, LOCKFILES)
def test_merge_is_commutative(a: Lockfile, b: Lockfile) -> None:
    assert merge(a, b).text() == merge(b, a).text()


@given(LOCKFILES, LOCKFILES, LOCKFILES)
def test_merge_is_associative(a: Lockfile, b: Lockfile, c: Lockfile) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(LOCKFILES)
def test_merge_is_idempotent(a: Lockfile) -> None:
    assert merge(a, a) == a


@given(LOCKFILES, LOCKFILES)
def test_reading_both_files_one_after_the_other_is_their_merge(a: Lockfile, b: Lockfile) -> None:
    """git's `merge=union` keeps the lines of both sides; reading them must give the same as merging the values."""
    joined = a.text() + b.text()
    assert parse(joined, "x.lock", "p").text() == merge(parse(a.text(), "x", "p"), parse(b.text(), "x", "p")).text()


@given(LOCKFILES)
def test_what_is_written_is_read_and_written_the_same(a: Lockfile) -> None:
    text = a.text()
    assert parse(text, "x.lock", "p").text() == text


def test_conflict_markers_and_blank_lines_are_taken_in_stride() -> None:
    file = Lockfile("p").with_batches([batch("b1")]).text()
    marked = file.replace(b'{"batch"', b'<<<<<<< HEAD\n{"batch"') + b"=======\n\n>>>>>>> other\n"
    assert parse(marked, "x.lock", "p").text() == file


def test_a_batch_that_ended_does_not_go_back_to_submitted() -> None:
    file = Lockfile("p").with_batches([batch("b1", "completed")]).with_batches([batch("b1")])
    assert file.batches["b1"].state == "completed"


def test_where_branches_pinned_differently_nothing_is_current() -> None:
    one, two = Lockfile("p").with_pins(pins("0" * 16)), Lockfile("p").with_pins(pins("1" * 16))
    assert merge(one, two).pins_of("reviews") is None
    assert merge(one, one).pins_of("reviews") is not None


def test_a_waiting_batch_has_no_fields_of_an_ended_one() -> None:
    """Waiting writes nothing, so a submitted batch's line holds nothing that changes while it runs."""
    line = Lockfile("p").with_batches([batch("b1")]).text().splitlines()[1]
    assert b'"state":"submitted"}' in line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b'{"batch":"b1"}', "x.lock:2: not a lockfile line: `job` is wrong", id="a batch cut short"),
        pytest.param(b"hello", "x.lock:2: not a lockfile line", id="no JSON"),
        pytest.param(b'{"other":1}', "x.lock:2: not a lockfile line", id="another kind"),
        pytest.param(b"[]", "x.lock:2: not a lockfile line", id="no object"),
    ],
)
def test_any_other_line_is_an_error_with_its_place(line: bytes, message: str) -> None:
    with pytest.raises(LockfileError, match=r"x\.lock:2") as caught:
        parse(Lockfile("p").text() + line + b"\n", "x.lock", "p")
    assert caught.value.message.startswith(message)


def test_a_newer_format_is_refused_with_a_sentence() -> None:
    with pytest.raises(LockfileError, match=r"has format 3; this batchspec reads up to 2"):
        parse(b'{"lockfile":3,"keys":"k9","project":"p","more":true}\n', "x.lock", "p")


def test_another_projects_lockfile_is_refused() -> None:
    with pytest.raises(LockfileError, match=r"is of project p, and batchspec.yaml says q"):
        parse(Lockfile("p").text(), "x.lock", "q")


def test_an_empty_file_is_an_empty_lockfile_and_a_headless_one_is_an_error() -> None:
    assert parse(b"", "x.lock", "p") == Lockfile("p")
    with pytest.raises(LockfileError, match="its header is missing"):
        parse(Lockfile("p").with_batches([batch("b1")]).text().split(b"\n", 1)[1], "x.lock", "p")


def test_pins_that_nothing_names_are_left_out() -> None:
    old, new = pins("0" * 16), pins("1" * 16)
    text = Lockfile("p").with_pins(old).with_pins(new).text()
    assert b"0000000000000000" not in text
    used = Lockfile("p").with_pins(old).with_batches([batch("b1", pins="0" * 16)]).with_pins(new).text()
    assert b'{"pins":"0000000000000000"' in used
