"""How often a plan goes to the store: as often for one row that changed as for none, however many keys there are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from runner.executor.poll import Poller
from tests.executor.conftest import Team

# Groups of keys are made small, so that a job of sixty rows is judged in many of them.
PLAN = """
import collections, contextlib, io, json, sys
import runner.planner.spool.sort as buckets, runner.planner.spool.spool as spool
buckets.RUN_RECORDS = spool.RUN_RECORDS = 8
from runner.cli.main import main
opened = collections.Counter()
def count(event, arguments):
    if event == "open" and ".batchspec/" in str(arguments[0]):
        opened[str(arguments[0])] += 1
sys.addaudithook(count)
sys.argv = ["batchspec", "plan", "--offline", "--json"]
said = io.StringIO()
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(said):
    main()
print(json.dumps([opened, said.getvalue()]))
"""


def planned(team: Team) -> tuple[dict[str, int], str]:
    done = subprocess.run([sys.executable, "-c", PLAN], cwd=team.root, capture_output=True, text=True, check=False)
    opened, said = json.loads(done.stdout)
    return {name: times for name, times in opened.items() if name.endswith(".npy")}, said


@pytest.mark.slow
def test_one_row_changed_reads_the_store_as_often_as_none(team: Callable[[], Team]) -> None:
    one = team()
    words = [f"word {number}" for number in range(60)]
    one.rows(*words)
    one.spec("job", "shards: {max_requests: 10}")
    one.apply()
    before, said = planned(one)
    assert '"submit":0,"answered":60' in said
    assert len([name for name in before if name.endswith(".index.npy")]) == 6, "one for each batch"
    assert max(before.values()) <= 3, "opened for its header and to be mapped, not for each group of keys"
    one.rows(*words[:30], "another", *words[31:])
    after, said = planned(one)
    assert '"submit":1,"answered":59' in said
    assert after == before


def test_an_old_output_is_not_read_again_while_a_batch_is_in_flight(
    team: Callable[[], Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three shards, one at a time. The old output is read before the first one alone, then replaced."""
    one = team()
    words = [f"word {number}" for number in range(9)]
    one.rows(*words)
    one.spec("job", "max_in_flight: {shards: 1}", "shards: {max_requests: 1}")
    one.apply()
    one.rows("first", "second", "third", *words[3:])
    output, counting = str(one.root / "out/job.jsonl"), [True]
    waits, reads = [0], [0]
    wait_for_any = Poller.wait_for_any

    def waited(self: Poller, *arguments: Any) -> bool:
        waits[0] += 1
        return wait_for_any(self, *arguments)

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if counting[0] and waits[0] and event == "open" and str(arguments[0]) == output:
            reads[0] += 1

    monkeypatch.setattr(Poller, "wait_for_any", waited)
    sys.addaudithook(count)
    ended = one.apply()
    counting[0] = False
    assert [outcome.end for outcome in ended] == ["succeeded"]
    assert waits[0] >= 3
    assert reads[0] <= 2, "only the end compares and replaces it"
