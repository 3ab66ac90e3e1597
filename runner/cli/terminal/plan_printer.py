"""Prints a plan: on a terminal with colours, wrapped lines and links, elsewhere as plain text."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base.visible import visible
from runner.cli.terminal.printing import out_console, say
from runner.views.hyperlinks import file_url, links_work
from runner.views.plan_text import explain

if TYPE_CHECKING:
    from rich.text import Text

    from runner.reconciler.plan.plan import Plan

_COLOURS = {
    "  + ": "green",
    "  ~ ": "yellow",
    "  < ": "cyan",
    "  = ": "cyan",
    "  > ": "blue",
    "  - ": "red",
    "  ! ": "red",
    "Over": "red",
    "Plan": "bold",
    "Cost": "bold",
    "Noth": "bold",
}
"""Colours by the start of a line."""
_WHOLE = {"Over", "Plan", "Cost", "Noth"}
_WRITE = "  > write  "
_LABEL = re.compile(r" *(?:[+~<=>!-] )?(?:(?:submit|retry|wait|fetch|adopt|hold|write|in|out|cost|note:)\s+)?")


def show_plan(plan: Plan, root: Path, *, no_color: bool, override: bool = False) -> None:
    """Print a plan to stdout. `root` is the base of its paths, `override` as for `explain`."""
    text = visible(explain(plan, override=override))
    if not sys.stdout.isatty():
        say(text, end="")
        return
    console = out_console(no_color)
    paths = {job.output: root / job.output for job in plan.jobs} if links_work() and not no_color else {}
    for line in text.splitlines():
        for number, part in enumerate(wrap_line(line, console.width)):
            console.print(_styled(part, line, number == 0, paths), soft_wrap=True)


def wrap_line(line: str, width: int) -> list[str]:
    """Wrap a line of a plan; indent continuation lines below the text after the label."""
    label = _LABEL.match(line)
    indent = " " * (label.end() if label else 0)
    parts = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return parts or [""]


def _styled(part: str, line: str, first: bool, paths: dict[str, Path]) -> Text:
    from rich.text import Text  # noqa: PLC0415

    text = Text(part)
    style = _COLOURS.get(line[:4], "")
    if line[:4] in _WHOLE:
        text.stylize(style)
    elif first:
        is_name = bool(line) and not line.startswith(" ")
        text.stylize(style or ("bold" if is_name else ""), 0, 4 if style else len(part.partition("  (")[0]))
        path = next((path for path in paths if line.startswith(f"{_WRITE}{path}:")), None)
        if path is not None and paths[path].exists():
            text.stylize(f"link {file_url(paths[path])}", len(_WRITE), len(_WRITE) + len(path))
    return text
