"""How many requests stand failed in a written output: what a batch counts as answered may not be what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.jobspec.budget_options import allowed
from runner.jobspec.loader import JobSpec
from runner.jobspec.output_options import Output
from runner.jobspec.tools import output_fields
from runner.outputs.reader import output_rows
from runner.outputs.result_lines import INVALID

_MARK = b'"error":{'
"""In a line as it is written here this is the key of an error: within a text its quotes would be escaped."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests that stand failed, and how many of them, by batch, were answered with what does not fit the schema.

    `requests` are all that the output has, counted where some have failed, else 0. `told` is False where the output has
    no errors, `known` where for want of them it does not tell which answers fit. `beyond` is whether more stand failed
    than the job tolerates.
    """

    failed: int = 0
    requests: int = 0
    invalid: Mapping[str, int] = field(default_factory=dict)
    beyond: bool = False
    known: bool = True
    told: bool = True


def failed_of(spec: JobSpec, path: Path, apart: Path | None) -> Failed:
    """Count an output that is what the lockfile says; `apart` is the file of its failed rows. Raises StoreError."""
    included = output_fields(spec.job)
    if apart is None and "error" not in included:
        return Failed(known=spec.schema is None, told=False)
    stamps = tuple(file.stat().st_mtime_ns for file in (path, apart) if file is not None)
    return _counted(spec.job.output, spec.job.tolerate, path, apart, stamps)


@lru_cache(maxsize=1_000)
def _counted(output: Output, tolerate: str | float, path: Path, apart: Path | None, _stamps: tuple[int, ...]) -> Failed:
    """A table that is kept fresh counts a file again only when it has changed."""
    failed: set[int] = set()
    invalid = Counter[str]()
    for number, (row, code) in enumerate(_failed_rows(output, path, apart)):
        # A row that does not name its request counts for itself, and one that stands apart is not among the others.
        request = hash(row.get("request") or (number if apart is None else ("apart", number)))
        if request not in failed and code == INVALID:
            invalid[str(row.get("batch") or "")] += 1
        failed.add(request)
    if not failed:
        return Failed()
    rows = output_rows(path, output)
    good = {hash(row.get("request") or number) for number, row in enumerate(rows) if row is not None}
    requests = len(good | failed)
    return Failed(len(failed), requests, invalid, len(failed) > allowed(tolerate, requests))


def _failed_rows(output: Output, path: Path, apart: Path | None) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each failed row, and the code of its error."""
    if apart is not None:
        output = output.model_copy(update={"path": output.errors, "format": "jsonl"})
    elif output.kind == "jsonl" and path.suffix not in {".gz", ".zst"}:
        with path.open("rb") as lines:
            if not any(_MARK in line for line in lines):
                return
    for row in output_rows(apart or path, output):
        if row is not None:
            error = row.get("error")
            code = error.get("code") if isinstance(error, dict) else row.get("error_code")
            if code is not None or apart is not None:
                yield row, str(code)
