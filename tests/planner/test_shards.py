"""Cutting: nothing lost, nothing doubled, limits reached exactly, the same bytes as line by line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runner.planner.spool.spool as spool_module
from runner.base.keys import key_text
from runner.jobspec.loader import Project
from runner.jobspec.models import Shards
from runner.planner.render import Desired, render_job
from runner.planner.requests import renderer
from runner.planner.shards import cut, measure
from runner.planner.spool.decisions import Decisions, read_decisions
from runner.reconciler.plan.classify_job import classify_job

SPEC = """\
version: 1
name: cut
model: m
input: {{path: data/rows.jsonl}}
prompt: {{user: "{{{{ t }}}}"}}
{extra}
output: {{path: out/cut.jsonl}}
"""


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "BLOCK_OCCURRENCES", 8)
        patch.setattr(renderer, "SPAN_ROWS", 3)
        yield


def expected(desired: Desired, chosen: set[int], limits: Shards) -> list[bytes]:
    """Shards as one would cut them by hand; where equal rows are all asked, ordinals count rows, then replicates."""
    spool, seen = desired.spool, dict[bytes, int]()
    size = Counter(spool.lines())
    shards: list[list[bytes]] = [[]]
    position = 0
    for line in spool.lines():
        for replicate in range(spool.replicates):
            ordinal = replicate if spool.dedupe else replicate * size[line] + seen.get(line, 0)
            if position in chosen:
                key = line[14:57]
                digest = bytes.fromhex(key[3:].decode())
                whole = line.replace(key, key_text(digest, ordinal).encode())
                full = len(shards[-1]) == limits.max_requests
                if full or sum(map(len, shards[-1])) + len(whole) > limits.max_bytes:
                    shards.append([])
                shards[-1].append(whole)
            position += 1
        seen[line] = seen.get(line, 0) + 1
    return [b"".join(lines) for lines in shards if lines]


@pytest.mark.parametrize(
    "extra", ["", "replicates: 3", "replicates: 12", "dedupe: false", "{replicates: 2, dedupe: false}"]
)
def test_shards_are_what_one_would_cut_by_hand(load: Callable[..., Project], tmp_path: Path, extra: str) -> None:
    extra = extra.strip("{}").replace(", ", "\n")
    rows = "".join('{"t": "%s"}\n' % ("x" * (n % 5)) for n in range(23))
    loaded = load({"specs/hello.yaml": SPEC.format(extra=extra), "data/rows.jsonl": rows})
    desired = render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")
    classify_job(desired, (), {})
    total = desired.spool.occurrences
    folder = tmp_path / "shards"
    folder.mkdir()

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        chosen=st.sets(st.integers(0, total - 1)) | st.just(set(range(total))),
        requests=st.integers(1, 30),
        size=st.integers(1000, 4000),
    )
    def check(chosen: set[int], requests: int, size: int) -> None:
        limits = Shards(max_requests=requests, max_bytes=size)

        def wanted() -> Callable[[Decisions], Any]:
            at = 0

            def choose(decisions: Decisions) -> Any:
                nonlocal at
                picked = np.array([at + n in chosen for n in range(len(decisions))], bool)
                at += len(decisions)
                return picked

            return choose

        shards = list(cut(desired.spool, limits, wanted(), folder))
        assert all(shard.path is not None for shard in shards)
        found = [shard.path.read_bytes() for shard in shards if shard.path]
        assert found == expected(desired, chosen, limits)
        assert [shard.digest for shard in shards] == [hashlib.sha256(data).hexdigest() for data in found]
        assert [(shard.requests, shard.bytes) for shard in shards] == [(d.count(b"\n"), len(d)) for d in found]
        assert measure(desired.spool, limits, wanted()) == [(shard.requests, shard.bytes) for shard in shards]
        assert [shard.digest for shard in cut(desired.spool, limits, wanted(), None)] == [s.digest for s in shards]

    check()
    sizes = [len(decisions) for _, decisions in read_decisions(desired.spool)]
    assert sum(sizes) == total
    assert max(sizes) <= max(spool_module.BLOCK_OCCURRENCES, desired.spool.replicates), "memory is that of a block"
    assert not (folder / "cutting").exists()
