"""Notes on the result lines of a batch."""

from __future__ import annotations

from collections.abc import Iterator

from runner.base.humanize import counted
from runner.state.results import Summary


def line_notes(batch: str, summary: Summary) -> Iterator[str]:
    """Yield notes on cut answers, repaired lines and implausible usage."""
    if summary.cut:
        answers = counted(summary.cut, "answer")
        yield f"batch {batch}: {answers} cut off at the token limit; raise the limit, or accept them"
    for what, lines in summary.repaired:
        yield f"batch {batch}: {counted(lines, 'result line')} with {what}; read all the same"
    if summary.odd_usage:
        odd = counted(summary.odd_usage, "result line")
        yield f"batch {batch}: {odd} with a usage that does not add up; costs may be wrong"
