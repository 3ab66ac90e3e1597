"""How often a plan goes to the store: as often for one row that changed as for none, however many keys there are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

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
    done = subprocess.run([sys.executable, "-c", PLAN], cwd=team.root, capture_output=True, text=True, check=True)
    opened, said = json.loads(done.stdout)
    return {name: times for name, times in opened.items() if name.endswith(".npy")}, said


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
