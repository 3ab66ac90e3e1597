"""Why whole batches failed: each cause once, with row ids."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from runner.base.humanize import counted
from runner.base.keys import DIGEST_BYTES, parse_key
from runner.planner.render import Desired
from runner.reconciler.observe.batches import BatchRecord, latest_run

SHOWN = 5
"""Causes, and reasons of one batch, to show at most."""


@dataclass(frozen=True, slots=True)
class _Failed:
    known: BatchRecord
    reasons: tuple[str, ...]
    lines: tuple[int, ...]


def _failed(batches: Sequence[BatchRecord]) -> list[_Failed]:
    run = latest_run(batches)
    accepted = max((number for number, one in enumerate(run) if not one.refused), default=-1)
    found = []
    for number, one in enumerate(run):
        if one.index is not None:
            reasons, lines = one.index.summary.failure, one.index.summary.failure_lines
        elif one.remote is not None and one.remote.status == "failed":
            reasons = tuple(f"{error.message} ({error.code})" for error in one.remote.errors)
            lines = tuple(error.line or 0 for error in one.remote.errors)
        else:
            continue
        if reasons and not (one.refused and number < accepted):
            found.append(_Failed(one, reasons, (*lines, *(0,) * len(reasons))[: len(reasons)]))
    return found


def causes(batches: Sequence[BatchRecord]) -> tuple[str, ...]:
    """Return why batches of the newest run failed, the commonest cause first."""
    return _grouped(_failed(batches))


def _grouped(failed: Sequence[_Failed]) -> tuple[str, ...]:
    requests: dict[str, int] = {}
    where: dict[str, list[str]] = {}
    for one in failed:
        for text in dict.fromkeys(one.reasons[:SHOWN]):
            requests[text] = requests.get(text, 0) + _unanswered(one.known)
            where.setdefault(text, []).append(one.known.line.batch)
    common = sorted(requests, key=lambda text: -requests[text])
    found = [f"{counted(requests[text], 'request')}: {text} [{_named(where[text])}]" for text in common[:SHOWN]]
    return (*found, f"and {len(common) - SHOWN:,} more causes") if len(common) > SHOWN else tuple(found)


def reasons(desired: Desired, batches: Sequence[BatchRecord], shards: Path, shown: str) -> Iterator[str]:
    """Yield why batches of the newest run failed, with rows."""
    failed = _failed(batches)
    yield from _grouped([one for one in failed if not any(one.lines)])
    for one in failed:
        if any(one.lines):
            yield from _of_lines(desired, one, shards, shown)


def _unanswered(known: BatchRecord) -> int:
    lines = known.index.summary.lines if known.index is not None else 0
    return max(0, (known.line.requests or (known.remote.counts.total if known.remote else 0)) - lines)


def _named(batches: Sequence[str]) -> str:
    return f"batch {batches[0]}" if len(batches) == 1 else f"{len(batches):,} batches, such as {batches[0]}"


def _of_lines(desired: Desired, failed: _Failed, shards: Path, shown: str) -> Iterator[str]:
    known, lines = failed.known, failed.lines
    shard = shards / f"{known.line.shard}.jsonl"
    keys = _keys(shard, {line for line in lines[:SHOWN] if line})
    rows = _rows(desired, {key[:DIGEST_BYTES] for key in keys.values()})
    for text, line in zip(failed.reasons[:SHOWN], lines, strict=False):
        where = f" [{shown}/{shard.name}:{line}]" if line in keys else ""
        row = rows.get(keys[line][:DIGEST_BYTES]) if line in keys else None
        whose = f"row {row}: " if row is not None else ""
        yield f"batch {known.line.batch} failed: {whose}{text}{where}"
    if len(failed.reasons) > SHOWN:
        yield f"batch {known.line.batch} failed for {len(failed.reasons) - SHOWN} more reasons"


def _keys(shard: Path, numbers: Collection[int]) -> dict[int, bytes]:
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
