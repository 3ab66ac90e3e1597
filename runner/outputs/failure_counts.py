"""Count failed requests in a written output: batches count unfit answers as completed."""

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
"""Marks an error in a line that batchspec wrote. Text would escape the quotes."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Failed requests of an output. `invalid`: answers that do not fit the schema, by batch.

    requests: all requests; 0 if none failed.
    has_errors: rows have the field `error`.
    known: rows show which answers fit the schema.
    beyond: more failed than the job tolerates.
    """

    failed: int = 0
    requests: int = 0
    invalid: Mapping[str, int] = field(default_factory=dict)
    beyond: bool = False
    known: bool = True
    has_errors: bool = True


def failed_of(spec: JobSpec, path: Path, errors_file: Path | None) -> Failed:
    """Count failed requests. Raises StoreError."""
    included = output_fields(spec.job)
    if errors_file is None and "error" not in included:
        return Failed(known=spec.schema is None, has_errors=False)
    stamps = tuple(file.stat().st_mtime_ns for file in (path, errors_file) if file is not None)
    return _counted(spec.job.output, spec.job.tolerate, path, errors_file, stamps)


@lru_cache(maxsize=1_000)
def _counted(
    output: Output, tolerate: str | float, path: Path, errors_file: Path | None, _stamps: tuple[int, ...]
) -> Failed:
    """Count a file again only after a change: live tables ask often."""
    failed: set[int] = set()
    invalid = Counter[str]()
    for number, (row, code) in enumerate(_failed_rows(output, path, errors_file)):
        # A row without its request counts on its own; rows of the errors file are numbered separately.
        request = hash(row.get("request") or (number if errors_file is None else ("errors", number)))
        if request not in failed and code == INVALID:
            invalid[str(row.get("batch") or "")] += 1
        failed.add(request)
    if not failed:
        return Failed()
    rows = output_rows(path, output)
    good = {hash(row.get("request") or number) for number, row in enumerate(rows) if row is not None}
    requests = len(good | failed)
    return Failed(len(failed), requests, invalid, len(failed) > allowed(tolerate, requests))


def _failed_rows(output: Output, path: Path, errors_file: Path | None) -> Iterator[tuple[Mapping[str, Any], str]]:
    if errors_file is not None:
        output = output.model_copy(update={"path": output.errors, "format": "jsonl"})
    elif output.kind == "jsonl" and path.suffix not in {".gz", ".zst"}:
        with path.open("rb") as lines:
            if not any(_MARK in line for line in lines):
                return
    for row in output_rows(errors_file or path, output):
        if row is not None:
            error = row.get("error")
            code = error.get("code") if isinstance(error, dict) else row.get("error_code")
            if code is not None or errors_file is not None:
                yield row, str(code)
