"""Why a whole batch failed, in a user's terms: the service's line numbers as row ids and as places in the shard."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from runner.executor.batches import Known
from runner.keys import DIGEST_BYTES, parse_key
from runner.planner.render import Desired

SHOWN = 5
"""Reasons that are told of one batch; the rest stands in its record at the service."""


def reasons(desired: Desired, known: Known, shards: Path, shown: str) -> Iterator[str]:
    """Sentences that say why a batch failed; none where it did not. `shown` is how the shards' folder is called."""
    if known.index is None or not known.index.summary.failure:
        return
    summary = known.index.summary
    lines = (*summary.failure_lines, *(0,) * len(summary.failure))
    shard = shards / f"{known.line.shard}.jsonl"
    keys = _keys(shard, {line for line in lines[:SHOWN] if line})
    rows = _rows(desired, {key[:DIGEST_BYTES] for key in keys.values()})
    for text, line in zip(summary.failure[:SHOWN], lines, strict=False):
        where = f" [{shown}/{shard.name}:{line}]" if line in keys else ""
        row = rows.get(keys[line][:DIGEST_BYTES]) if line in keys else None
        whose = f"row {row}: " if row is not None else ""
        yield f"batch {known.line.batch} failed: {whose}{text}{where}"
    if len(summary.failure) > SHOWN:
        yield f"batch {known.line.batch} failed for {len(summary.failure) - SHOWN} more reasons"


def _keys(shard: Path, numbers: Collection[int]) -> dict[int, bytes]:
    """The keys on some lines of a shard, counted from 1; none where the file is not here."""
    if not numbers or not shard.is_file():
        return {}
    found = {}
    with shard.open("rb") as file:
        for number, line in enumerate(islice(file, max(numbers)), 1):
            if number in numbers:
                key = parse_key(orjson.loads(line).get("custom_id"))
                if key is not None:
                    found[number] = key
    return found


def _rows(desired: Desired, digests: Collection[bytes]) -> dict[bytes, str]:
    """The id of the first row with each of some bodies."""
    wanted = np.array(sorted(digests), f"S{DIGEST_BYTES}")
    numbers: dict[int, bytes] = {}
    if len(wanted):
        for block in desired.spool.blocks():
            here = block.records["digest"]
            for position in np.flatnonzero(np.isin(here, wanted)).tolist():
                numbers[block.start + position] = bytes(here[position]).ljust(DIGEST_BYTES, b"\0")
    found: dict[bytes, str] = {}
    if numbers:
        for number, identity in enumerate(islice(desired.spool.ids(), max(numbers) + 1)):
            if number in numbers:
                found.setdefault(numbers[number], identity.decode())
    return found
