"""Refuse to replace an output that git has and the job did not write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from runner.base.digest import sha256_file
from runner.base.git import tracked
from runner.base.keys import DIGEST_BYTES, parse_key
from runner.context import Context
from runner.errors import StoreError
from runner.jobspec.output_options import Output
from runner.outputs.reader import output_rows
from runner.planner.render import Desired

_LOOKED_AT = 1_000
"""Rows to search for a sign of the job."""


def check_ownership(context: Context, desired: Desired, names: Sequence[str], batches: Collection[str]) -> None:
    """Raise StoreError if git has an output or file of failed rows that the job did not write.

    Its digest in a lockfile, or a row with the job's batch or key, proves that it did.
    """
    output = desired.spec.job.output
    root = context.project.root
    if context.places.files != root:  # another provider's files are never in git
        return
    kept = output.model_copy(update={"path": output.errors, "format": "jsonl"}) if output.errors else None
    for one in (output, kept):
        path = context.places.output(one.path) if one is not None else None
        if one is None or path is None or not path.is_file():
            continue
        written = path.relative_to(root).as_posix()
        if not tracked(root, dict.fromkeys([one.path, written])):
            continue
        if sha256_file(path) in _digests(context, names) or _is_known(path, one, desired, batches):
            continue
        raise StoreError(
            f"{one.path} is in git and {desired.spec.address} did not write it; apply does not replace it",
            hint=f"give the job another `output` path; or, if the file is not needed, `git rm {one.path}`",
            code="BS414",
        )


def _digests(context: Context, names: Sequence[str]) -> frozenset[str]:
    lines = context.outputs_of(names)
    return frozenset(line.digest for line in lines) | {line.errors.digest for line in lines if line.errors is not None}


def _is_known(path: Path, output: Output, desired: Desired, batches: Collection[str]) -> bool:
    keys = set()
    try:
        for row in islice(output_rows(path, output), _LOOKED_AT):
            if row is None:
                continue
            if isinstance(row.get("batch"), str) and row["batch"] in batches:
                return True
            keys.add((parse_key(row.get("request")) or b"")[:DIGEST_BYTES])
    except StoreError:
        return False
    keys.discard(b"")
    return bool(keys) and any(
        digest.ljust(DIGEST_BYTES, b"\0") in keys
        for block in desired.spool.blocks()
        for digest in block.records["digest"].tolist()
    )
