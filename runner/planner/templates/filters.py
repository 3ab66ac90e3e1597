"""Pure filters for prompts, in addition to Jinja's. docs/spec.md shows what each returns.

Workers import this module, so filters import their dependencies inside.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from runner.planner.templates.step_limit import RowError

_ENCODINGS = ("o200k_base", "cl100k_base")


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON for a prompt: without HTML escapes, in the row's order."""
    return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)


def xml_escape(value: Any) -> str:
    """Escape text for an XML element or attribute: & < > and both quotes."""
    # Not xml.sax.saxutils: it imports urllib and ssl, which adds a tenth to the start-up time.
    text = str(value).replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;")
    return text.replace('"', "&quot;").replace("'", "&apos;")


def dedent(value: str) -> str:
    """Remove the indentation that all lines share."""
    return textwrap.dedent(value)


def to_csv(value: Any, header: bool = True, delimiter: str = ",") -> str:
    """Write a list of mappings, lists or values as CSV lines; `header` adds the column names."""
    if not isinstance(value, (list, tuple)):
        raise RowError("the filter `csv` takes a list, of mappings or of lists")
    rows = list(value)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    if rows and all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row))
        if header:
            writer.writerow(names)
        writer.writerows([row.get(name, "") for name in names] for row in rows)
    else:
        writer.writerows(row if isinstance(row, (list, tuple)) else [row] for row in rows)
    return out.getvalue().removesuffix("\n")


def truncate_tokens(value: Any, count: Any, end: str = "", encoding: str = "o200k_base") -> str:
    """Cut text to at most `count` tokens, and append `end` if cut.

    Tokens are OpenAI's `o200k_base` or `cl100k_base`, so a text does not change with the model. Drops a character cut
    in two.
    """
    if encoding not in _ENCODINGS:
        raise RowError(f"truncate_tokens knows the encodings {' and '.join(_ENCODINGS)}")
    if not isinstance(count, int) or count < 0:
        raise RowError("truncate_tokens takes a whole number of tokens")
    text = str(value)
    if len(text.encode()) <= count:
        return text  # a token has at least one byte
    tokenizer = _tokenizer(encoding)
    tokens = tokenizer.encode_ordinary(text)
    if len(tokens) <= count:
        return text
    kept: str = tokenizer.decode_bytes(tokens[:count]).decode(errors="ignore")
    return kept + end


@functools.cache
def _tokenizer(encoding: str) -> Any:
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        # bpe-openai 0.1.4 calls a function that is deprecated in Python 3.11 and 3.12.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding  # noqa: PLC0415  importing takes most of a second

        return get_encoding(encoding)


FILTERS: dict[str, Callable[..., Any]] = {
    "csv": to_csv,
    "dedent": dedent,
    "tojson": to_json,
    "truncate_tokens": truncate_tokens,
    "xml_escape": xml_escape,
}
"""The filters by their name in templates."""
