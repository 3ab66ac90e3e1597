"""Decide whether an output file, perhaps the only copy of paid answers, may be overwritten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from runner.outputs.result_lines import INVALID
from runner.reconciler.observe.batches import ResultState
from runner.reconciler.plan.plan import OutputState

if TYPE_CHECKING:
    from runner.jobspec.output_options import Output
    from runner.reconciler.observe.batches import BatchRecord
    from runner.state.lockfile import Lockfile
    from runner.state.lockfile_lines import ErrorsField, OutputLine


class OverwritePolicy(Enum):
    """What apply does with an existing file."""

    REPLACE = "all answers in it are kept"
    BACK_UP = "a copy is kept, since it may hold the only copy of some answers"
    REFUSE = "it is not rewritten, since it holds the only copy of answers"

    def notes(self, path: str) -> Iterator[str]:
        """Yield the plan's notes on it."""
        match self:
            case OverwritePolicy.BACK_UP:
                yield f"a copy of {path} is kept in .batchspec/ first: it may be the only copy of answers"
            case OverwritePolicy.REFUSE:
                yield (
                    f"{path} is not overwritten, and `apply` stops there: it holds the only copy of some answers, and "
                    "lacks the fields needed to recover them"
                )
            case OverwritePolicy.REPLACE:
                pass


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Files that a job writes. `errors`: the file of failed rows."""

    path: Path
    errors: Path | None
    errors_name: str | None
    line: OutputLine | None

    @classmethod
    def of(cls, output: Output, lockfile: Lockfile, place: Callable[[str], Path]) -> OutputFiles:
        """Return an `output`'s files; `place` makes paths local."""
        errors = None if output.errors is None else place(output.errors)
        return cls(place(output.path), errors, output.errors, lockfile.outputs.get(output.path))


def policies_for(
    files: OutputFiles,
    state: OutputState,
    batches: Sequence[BatchRecord],
    own: Mapping[str, object],
    from_outputs: Mapping[str, object],
    unknown: int,
    *,
    trusted: bool,
    errors_recorded: bool,
) -> tuple[OverwritePolicy, OverwritePolicy]:
    """Return the policies for the output and the file of failed rows.

    own: batches with answers readable from this output; `from_outputs`: from any.
    """
    if state is OutputState.GOOD:
        return OverwritePolicy.REPLACE, OverwritePolicy.REPLACE
    policy = policy_for_output(files.path, files.line if trusted else None, batches, own, unknown)
    if state is OutputState.UNRECORDED and policy is OverwritePolicy.REPLACE and has_foreign_rows(files.path):
        policy = OverwritePolicy.BACK_UP
    if files.errors is None:
        return policy, OverwritePolicy.REPLACE
    recorded = files.line.errors if files.line is not None else None
    if recorded is not None and recorded.path != files.errors_name:
        recorded = None
    return policy, policy_for_errors_file(files.errors, recorded, batches, from_outputs, recorded=errors_recorded)


def policy_for_output(
    path: Path,
    line: OutputLine | None,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, object],
    unknown: int,
) -> OverwritePolicy:
    """Return the policy for the output at `path`.

    line: None unless the file has the recorded digest.
    unknown: requests with answers readable nowhere; their rows are the only copy.
    """
    if not path.is_file():
        return OverwritePolicy.REPLACE
    here = {known.line.batch for known in batches if known.index is not None} | from_outputs.keys()
    short = {known.line.batch for known in batches if known.results is ResultState.INCOMPLETE} - from_outputs.keys()
    if line is None:
        return (
            OverwritePolicy.BACK_UP if _may_be_the_last_copy(path, here - short, batches) else OverwritePolicy.REPLACE
        )
    if not here.issuperset(line.batches):
        return OverwritePolicy.REFUSE if unknown else OverwritePolicy.BACK_UP
    return OverwritePolicy.BACK_UP if unknown and short.intersection(line.batches) else OverwritePolicy.REPLACE


def policy_for_errors_file(
    path: Path,
    line: ErrorsField | None,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, object],
    *,
    recorded: bool,
) -> OverwritePolicy:
    """Return the policy for the file of failed rows, which may have paid answers."""
    if not path.is_file():
        return OverwritePolicy.REPLACE
    if line is None and has_foreign_rows(path):
        return OverwritePolicy.BACK_UP
    here = {known.line.batch for known in batches if known.results is ResultState.PRESENT}
    if recorded:
        here |= from_outputs.keys()
    return OverwritePolicy.BACK_UP if _may_be_the_last_copy(path, here, batches) else OverwritePolicy.REPLACE


def has_foreign_rows(path: Path) -> bool:
    """Return whether a row lacks its request or batch."""
    return any(not row.keys() >= {"request", "batch"} for row in _rows(path))


def _may_be_the_last_copy(path: Path, here: Collection[str], batches: Sequence[BatchRecord]) -> bool:
    if path.suffix != ".jsonl":
        return True
    nameless = any(known.ended and known.line.batch not in here for known in batches)
    for row in _rows(path):
        batch, error = row.get("batch"), row.get("error")
        missing = batch not in here if isinstance(batch, str) else nameless and "batch" not in row
        if missing and (not error or (isinstance(error, dict) and error.get("code") == INVALID)):
            return True
    return False


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            if not line.isspace():
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = None
                yield row if isinstance(row, dict) else {}
