"""How rows changed since the output was written; for reasons only."""

from __future__ import annotations

from pathlib import Path

import orjson

from runner.base.keys import DIGEST_BYTES, parse_key
from runner.planner.render import Desired
from runner.reconciler.plan.reasons import RowChanges
from runner.state.sorted_file import Stamp, file_stamp

MOST_ROWS = 200_000
"""Rows above which outputs are not compared, to save memory."""


def row_changes(desired: Desired, output: Path, rows: int) -> RowChanges | None:
    """Compare rows with a recorded output; None if that costs too much."""
    if max(rows, desired.spool.rows) > MOST_ROWS:
        return None
    asked = desired.spool.folder, output, file_stamp(str(output))
    if asked not in _KNOWN:
        _KNOWN[asked] = _compare(desired, output)
        while len(_KNOWN) > _MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
    return _KNOWN[asked]


_MOST_KNOWN = 1_000
_KNOWN: dict[tuple[Path, Path, Stamp], RowChanges | None] = {}
"""Comparisons by rendering and output: apply observes a job again after each effect."""


def _compare(desired: Desired, output: Path) -> RowChanges | None:
    before: dict[bytes, bytes] = {}
    with output.open("rb") as file:
        for line in file:
            try:
                row = orjson.loads(line)
                key = parse_key(row["request"])
                identity = orjson.dumps(row["id"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                return None  # csv, a packed file, or fields chosen without them
            if key is None:
                return None
            before.setdefault(identity, key[:DIGEST_BYTES])
    added = changed = found = 0
    ids = desired.spool.ids()
    for block in desired.spool.blocks():
        for digest in block.records["digest"].tolist():
            old = before.get(next(ids))
            if old is None:
                added += 1
            else:
                found += 1
                changed += old != digest.ljust(DIGEST_BYTES, b"\0")
    return RowChanges(added, changed, len(before) - found)
