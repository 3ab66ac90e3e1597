"""OpenAI's public tokenizers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

_PIECE = 50_000
"""Characters that are tokenized at once. It fixes the count of a long text for all versions of the tokenizer."""
_COMPILED = "bpe_openai._bindings"


def token_counter(name: str) -> Callable[[str], int]:
    """Return a function that counts tokens. Loading takes 0.1 s."""
    count = _tokenizer(name)
    return lambda text: sum(count(piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text before spaces, which words keep."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.rfind(" ", start + 1, start + _PIECE)
        end = end if end > start else start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:] if start else text


@functools.cache
def _tokenizer(name: str) -> Callable[[str], int]:
    """Load an encoding. Raises RuntimeError if bpe-openai differs from 0.1.4.

    The package would read all encodings into Python: 0.5 s and 73 MB. Its compiled module loads alone in 0.05 s.
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
