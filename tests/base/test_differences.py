"""No change hides from a reviewer: not far into a line, not in spaces, not in what can't be seen."""

from __future__ import annotations

from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.differences import differing_lines, shortened, windows
from runner.base.visible import is_seen
from runner.reconciler.plan.plan import Example, Plan
from runner.views.plan_markdown import markdown
from tests.views.test_plan_markdown import job

LONG = "".join(f"word{n} " for n in range(400))


def changed(lines: list[str]) -> tuple[list[str], list[str]]:
    return [line for line in lines if line[0] == "-"], [line for line in lines if line[0] == "+"]


def test_a_change_at_character_560_is_seen() -> None:
    """Prompts were cut at 300 characters, without a mark."""
    before = LONG[:560] + "never" + LONG[560:]
    [old], [new] = changed(differing_lines(before, before.replace("never", "always")))
    assert "never" in old
    assert "always" in new
    assert old.startswith("-…(")
    assert "characters)…" in old
    assert len(old) < 300


def test_several_changes_of_one_line_are_seen_each() -> None:
    before = LONG.replace("word50 ", "alpha ").replace("word200 ", "beta ").replace("word390 ", "gamma ")
    [old], [new] = changed(
        differing_lines(before, before.replace("alpha", "one").replace("beta", "two").replace("gamma", "three"))
    )
    assert all(word in old for word in ("alpha", "beta", "gamma"))
    assert all(word in new for word in ("one", "two", "three"))
    assert old.count("characters)…") == 4


def test_what_does_not_fit_is_counted() -> None:
    many = "".join(f"a{n} {' '.join(f'w{n}x{place}' for place in range(12))} " for n in range(60))
    [old], _ = changed(differing_lines(many, many.replace("a", "b")))
    assert "more changes)…" in old
    assert shortened("x" * 1_000, 300) == "x" * 300 + "… (700 more characters)"


def test_a_line_of_repeated_words_is_compared_in_linear_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """`difflib` takes cubic time for repeated words. A pull request must not buy hours with one line."""
    looks = []
    find = SequenceMatcher.find_longest_match

    def counted(*arguments: Any) -> Any:
        looks.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(SequenceMatcher, "find_longest_match", counted)
    repeated = "".join(f"a{n} same same same same same same same same same same same same " for n in range(60))
    [old], [new] = changed(differing_lines(repeated, repeated.replace("a", "b")))
    assert "a0" in old
    assert "b0" in new
    assert len(looks) < 10


def test_a_change_far_down_is_compared() -> None:
    """What both begin with takes no room; what is left out at the end is said."""
    same = "".join(f"line {n}\n" for n in range(10_000))
    lines = differing_lines(f"{same}Be kind.", f"{same}Be cruel.")
    assert lines[0] == "… 9,998 equal lines before"
    assert changed(lines) == (["-Be kind."], ["+Be cruel."])
    assert differing_lines("a\n" + same, "b\n" + same)[-1].endswith("more characters are not compared")


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        pytest.param("a b", "a  b", "-a·b", "+a··b", id="spaces"),
        pytest.param("a b", "a\tb", "-a b", "+a\\u0009b", id="tab"),
        pytest.param("a b", "a\u00a0b", "-a b", "+a\\u00a0b", id="no-break space"),
        pytest.param("ab", "a\u200bb", "-ab", "+a\\u200bb", id="zero width"),
        pytest.param("ab", "a\U000e0041b", "-ab", "+a\\U000e0041b", id="tag"),
        pytest.param("a\nb", "a\u2028b", "-a", "+a\\u2028b", id="line separator"),
        pytest.param("\u00e9", "e\u0301", "-\\xe9", "+e\\u0301", id="composed and not"),
        pytest.param("a", "a\r", "-a", "+a\\u000d", id="carriage return"),
        pytest.param("\u202e", "\\u202e", "-\\u202e", "+\\\\u202e", id="a character and its escape"),
    ],
)
def test_what_looks_alike_is_told_apart(before: str, after: str, old: str, new: str) -> None:
    gone, come = changed(differing_lines(before, after))
    assert (gone[0], come[0]) == (old, new)


@given(st.text(max_size=800), st.text(max_size=800))
def test_what_differs_looks_different(before: str, after: str) -> None:
    for width in (40, 300):
        old, new = windows(before, after, width)
        assert all(is_seen(c) for c in old + new)
        assert before == after or old != new or len(before) > width or len(after) > width


def test_a_review_shows_it() -> None:
    before = LONG[:560] + "never" + LONG[560:]
    one = job()
    example = Example("r\u202e", before, before.replace("never", "always\u200b\U000e0041"))
    text = markdown(Plan((replace(one, examples=(example,)),)))
    assert "always\\u200b\\U000e0041" in text
    assert "r\\u202e" in text
