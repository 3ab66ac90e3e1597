"""`batchspec explain`: the page of an error code, offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.terminal.printing import say
from runner.errors import BatchspecError

_PLACES = (Path(__file__).parents[1] / "errors", Path(__file__).parents[3] / "docs" / "reference" / "errors")
"""Where the pages are: in an installed package, and in a checkout."""


def explain(
    codes: Annotated[
        list[str] | None, typer.Argument(metavar="[CODE]...", help="Codes as errors show them, such as BS110.")
    ] = None,
) -> None:
    """Explain error codes and how to fix them. Without a code, list all of them."""
    pages = {page.stem: page for place in _PLACES if place.is_dir() for page in sorted(place.glob("BS*.md"))}
    if not codes:
        for page in pages.values():
            say(_text(page).partition("\n")[0].removeprefix("# ").replace(": ", "  ", 1))
        return
    for code in codes:
        if code.upper() not in pages:
            raise BatchspecError(f"unknown error code {code}", hint="run `batchspec explain` for a list", code="BS802")
    say("\n\n".join(_text(pages[code.upper()]).rstrip() for code in codes))


def _text(page: Path) -> str:
    """Return a page's text; links to other pages become their names."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\.(?:md|yml|yaml)[^)]*\)", r"\1", page.read_text(encoding="utf-8"))
