"""OpenAI's public tokenizers: how many tokens a text has."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

_PIECE = 50_000
"""Characters that are tokenized at once, so that a long text is counted the same by every version of the tokenizer."""
_COMPILED = "bpe_openai._bindings"


def token_counter(name: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text. Loading takes a tenth of a second."""
    count = _tokenizer(name)
    return lambda text: sum(count(piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """A long text in pieces, cut before a space where there is one: words keep their leading space when tokenized."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.rfind(" ", start + 1, start + _PIECE)
        end = end if end > start else start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:] if start else text


@functools.cache
def _tokenizer(name: str) -> Callable[[str], int]:
    """How many tokens a text has. Raises RuntimeError where bpe-openai is not as it was in 0.1.4.

    The package reads the tables of all its encodings into Python when it is imported, 450,000 entries, for what is
    never asked here: 0.5 s of processor time and 73 MB. Its compiled module holds them already and is loaded without
    the rest in 0.05 s.
    """
    package = find_spec("bpe_openai")
    folders = None if package is None else package.submodule_search_locations
    found = PathFinder.find_spec(_COMPILED, folders)
    if found is None or found.loader is None:
        raise RuntimeError(f"{_COMPILED} is not where it was; OpenAI's tokens can't be counted")
    if _COMPILED not in sys.modules:
        module = module_from_spec(found)
        found.loader.exec_module(module)
        sys.modules[_COMPILED] = module  # it can be loaded once, and the package may be imported later
    count: Callable[[str], int] = sys.modules[_COMPILED].tokenizer_for_encoding(name).count
    return count
