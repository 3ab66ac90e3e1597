"""The lockfile: deterministic, mergeable in any order, strict about what it is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import LockfileError
from runner.state.lockfile import Lockfile, merge
from runner.state.lockfile_lines import BatchLine, CountsField, MovedLine, OutputLine, PinsLine
from runner.state.lockfile_parser import parse

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
    lambda batches, digests, outputs, current, moves: Lockfile(
        "p",
        current,
        {d: pins(d) for d in digests},
        {n: batch(n, s, gone=g) for n, s, g in batches},
        {p: output(p, d * 64) for p, d in outputs},
        frozenset(MovedLine(moved=new, was=old) for new, old in moves),
    ),
    st.lists(st.tuples(NAMES, st.sampled_from(["submitted", "completed", "expired"]), st.booleans()), max_size=3),
    st.sets(DIGESTS),
    st.lists(st.tuples(st.sampled_from(["out/a", "out/b"]), st.sampled_from("ab")), max_size=2),
    st.dictionaries(st.sampled_from(["reviews", "tickets"]), st.none() | DIGESTS),
    st.sets(st.tuples(st.sampled_from(["reviews", "new"]), st.sampled_from(["reviews", "old"])), max_size=2),
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


@given(LOCKFILES, st.sampled_from([b"\r\n", b"\n\n"]))
def test_line_ends_and_spaces_of_an_editor_change_nothing(a: Lockfile, end: bytes) -> None:
    text = a.text()
    assert parse(text.replace(b"\n", end), "x.lock", "p").text() == text
    assert parse(text.replace(b'":', b'" : '), "x.lock", "p").text() == text


@given(LOCKFILES, st.binary(min_size=1, max_size=40), st.data())
def test_whatever_bytes_stand_in_it_it_is_read_or_its_line_is_named(
    a: Lockfile, junk: bytes, data: st.DataObject
) -> None:
    text = a.text()
    at = data.draw(st.integers(0, len(text)))
    try:
        parse(text[:at] + junk + text[at:], "x.lock", "p")
    except LockfileError as error:
        assert error.message.startswith("x.lock:")  # noqa: PT017  most bytes are none
        assert error.hint  # noqa: PT017  as above


_WRITE = """
import random, sys
from tests.state.test_lockfile import *
batches = [batch(f"b{n}", "completed", models=("b", "a")) for n in range(20)]
random.Random(int(sys.argv[1])).shuffle(batches)
lock = Lockfile("p").with_batches(batches).with_pins(pins("1" * 16)).with_moved("new", "i\u0307stanbul")
sys.stdout.buffer.write(lock.with_moved("new", "old").text())
"""


@pytest.mark.slow
def test_the_same_content_gives_the_same_bytes_at_any_hash_seed_and_locale() -> None:
    found = set()
    for seed, locale in (("1", "C"), ("2", "C.UTF-8"), ("3", "tr_TR.UTF-8")):
        environ = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": "Asia/Tokyo"}
        done = subprocess.run([sys.executable, "-c", _WRITE, seed], env=environ, capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
    assert b'"batch":"b19"' in found.pop()


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
        pytest.param(b"[" * 100_000, "x.lock:2: not a lockfile line: depth", id="deep"),
        pytest.param(b"\xff\x00", "x.lock:2: not a lockfile line", id="binary"),
        pytest.param(b'{"lockfile":0,"keys":"k1","project":"p","current":{}}', "x.lock:2: not", id="format 0"),
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
    with pytest.raises(LockfileError, match=r"is of project p, but batchspec.yaml sets q"):
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
