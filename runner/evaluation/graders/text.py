"""Text helpers of graders. NFC always."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import re2

from runner.evaluation.answers import value_at
from runner.jobspec.evaluate_options import LETTERS, Extract

_SPACE = re.compile(r"\s+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_EDGES = " \t\r\n\"'`*_.,:;!()[]{}<>\u201c\u201d\u2018\u2019«»"


def normalizer(names: Collection[str]) -> Callable[[str], str]:
    """Return a function that removes ignored differences: case, space, punctuation, accents."""

    def normalize(text: str) -> str:
        if "accents" in names:
            decomposed = unicodedata.normalize("NFD", text)
            text = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        text = unicodedata.normalize("NFC", text)
        if "case" in names:
            text = unicodedata.normalize("NFC", text.casefold())
        if "punctuation" in names:
            text = "".join(letter for letter in text if not unicodedata.category(letter).startswith("P"))
        return _SPACE.sub(" ", text).strip() if "space" in names else text

    return normalize


def trimmed(text: str) -> str:
    """Casefold a text, without surrounding blanks, quotes, brackets, Markdown marks and end punctuation."""
    return unicodedata.normalize("NFC", _SPACE.sub(" ", text).strip(_EDGES).casefold())


def extractor(extract: Extract | None) -> Callable[[str], str | None]:
    """Return a function from a text to its graded part, if any."""
    if extract is None:
        return lambda text: text
    if extract.line is not None:
        last = extract.line == "last"
        return lambda text: _line(text, last=last)
    last = extract.take == "last"
    if extract.json_:
        path = extract.json_.split(".")
        return lambda text: _json_value(text, path, last=last)
    letters = LETTERS.match(extract.letter)
    pattern = re2.compile(rf"\b([{letters[1]}-{letters[2]}])\b" if letters else extract.regex)
    if last:
        return lambda text: _last_match(pattern, text)
    search = searcher(pattern)
    return lambda text: _part(search(text))


def searcher(pattern: Any) -> Callable[[str], Any]:
    """Return a function that searches a text as bytes, which takes RE2's binding half the time."""
    search = pattern.search
    return lambda text: search(text.encode())


def word_tokens(text: str) -> list[str]:
    """Return the tokens of SQuAD's official F1: lower case, without punctuation and articles (Rajpurkar 2016)."""
    lower = "".join(letter for letter in unicodedata.normalize("NFC", text).lower() if not _is_punctuation(letter))
    return _ARTICLES.sub(" ", lower).split()


def token_f1(answer: str, expected: str) -> float:
    """Return the harmonic mean of token precision and recall; 1 without tokens."""
    found, wanted = word_tokens(answer), word_tokens(expected)
    if not found or not wanted:
        return float(found == wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


def text_of(value: Any) -> str:
    """Return a value as text: JSON unless it is text already."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _is_punctuation(letter: str) -> bool:
    return letter in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def _line(text: str, *, last: bool) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if last else lines[0]) if lines else None


def _last_match(pattern: Any, text: str) -> str | None:
    match = None
    for match in pattern.finditer(text):  # noqa: B007  the last one counts
        pass
    return _part(match)


def _part(match: Any) -> str | None:
    """Return the first group of a match that took part, else all of it."""
    if match is None:
        return None
    part: str | bytes = next((group for group in match.groups() if group is not None), match.group(0))
    return part if isinstance(part, str) else part.decode()


def _json_value(text: str, path: list[str], *, last: bool) -> str | None:
    decoder, position, found = json.JSONDecoder(), 0, None
    while (start := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        inner = value_at(value, path)
        if inner is not None:
            found = text_of(inner)
            if not last:
                break
    return found
