"""A year of one partitioned job and three plain ones, by the steps of docs/ci with a fixed clock.

Late input on some days, two runs on others, a changed template, input that is deleted, and a new machine in between.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from runner.client import Client
from tests.docs.forge import Forge, write

START = date(2026, 1, 1)
LONG = int(os.environ.get("BATCHSPEC_YEAR_DAYS", "150"))
"""Days of the long form. A whole year (365) takes a quarter of an hour, too long for each run of `make test-slow`."""
SPEC = """\
version: 1
name: {name}
provider: staging
model: gpt-4o-mini
parameters: {{max_tokens: 16}}
{more}
input: {{path: "{path}", id: id}}
prompt: {{user: {{template: templates/{template}.j2}}}}
output: {{path: "{output}"}}
"""
COMMIT = """
git add --all
git diff --cached --quiet || git commit --quiet --message "Answers of batch jobs"
git push --quiet origin HEAD:main
"""


def name_of(day: int) -> str:
    return (START + timedelta(days=day)).isoformat()


def clock(day: int) -> str:
    """The morning after a day."""
    return datetime.combine(START + timedelta(days=day + 1), datetime.min.time(), UTC).isoformat()


def rows(day: int) -> str:
    return "".join(json.dumps({"id": f"{day}-{n}", "text": f"row {n} of day {day}"}) + "\n" for n in range(2))


def specs(root: Path) -> None:
    partition = f"partition:\n  date: {{every: day, start: {START}}}"
    daily = {"more": partition, "path": "data/{{ vars.date }}.jsonl", "output": "out/daily/{{ vars.date }}.jsonl"}
    write(root, {"specs/daily.yaml": SPEC.format(name="daily", template="daily", **daily)})
    write(root, {"templates/daily.j2": "Say {{ text }}.\n", "data/fixed.jsonl": rows(9_999)})
    for name in ("one", "two", "three"):
        path = {"more": "", "path": "data/fixed.jsonl", "output": f"out/{name}.jsonl"}
        write(root, {f"specs/{name}.yaml": SPEC.format(name=name, template=name, **path)})
        write(root, {f"templates/{name}.j2": f"{name}: {{{{ text }}}}\n"})


@pytest.mark.parametrize("days", [40, pytest.param(LONG, marks=pytest.mark.slow, id="long")])
def test_a_year(forge: Forge, days: int) -> None:
    """Every request is paid once, past days are never asked again, and every day's output is complete."""
    machine = forge.clone()
    forge.sh(machine, "git rm -q specs/reviews.yaml && git rm -q -r templates data")
    specs(machine)
    forge.sh(machine, COMMIT)
    late = {day for day in range(days) if day % 9 == 4}
    for day in range(days):
        if day == days // 2:  # one machine is replaced: only git and the service are left
            machine = forge.clone()
        if day == days // 3:
            forge.sh(machine, "sed -i 's/Say/Please say/' templates/daily.j2")
        if day >= 10 and day % 10 == 0:  # input is deleted after some time
            forge.sh(machine, f"git rm -q --ignore-unmatch data/{name_of(day - 10)}.jsonl")
        arrived = [day] * (day not in late) + [day - 1] * (day - 1 in late)
        write(machine, {f"data/{name_of(one)}.jsonl": rows(one) for one in arrived})
        if day % 5 == 0:  # two runs: the first does not wait
            forge.sh(machine, f"batchspec apply --yes --no-wait --due --now {clock(day)}", key=True)
        forge.sh(machine, f"batchspec apply --yes --due --now {clock(day)}", key=True)
        forge.sh(machine, COMMIT)
    expected = {name_of(day) for day in range(days) if day not in late or day + 1 < days}
    check_outputs(machine, expected, days // 3)
    check_payments(forge, 2 * len(expected) + 3 * 2)
    check_history(forge, machine, expected)


def check_outputs(root: Path, days: set[str], changed: int) -> None:
    for name in days:
        answers = [json.loads(line)["text"] for line in (root / f"out/daily/{name}.jsonl").read_text().splitlines()]
        day = (date.fromisoformat(name) - START).days
        asked_late = day + (day % 9 == 4)
        word = "Please say" if asked_late >= changed else "Say"
        assert answers == [f"{word} row {n} of day {day}." for n in range(2)], name


def check_payments(forge: Forge, requests: int) -> None:
    """What the service was asked: as many requests as there are, each in one batch."""
    with Client(forge.key, base_url=forge.service) as client:
        assert sum(batch.request_counts.total for batch in client.batches.list()) == requests


def check_history(forge: Forge, root: Path, days: set[str]) -> None:
    told = forge.sh(root, "batchspec status --json --offline")
    states = {line["job"]: line["state"] for line in map(json.loads, told.splitlines()) if line["type"] == "status"}
    assert states == {f"daily[date={day}]": "done" for day in days} | dict.fromkeys(("one", "two", "three"), "done")
    log = json.loads(forge.sh(root, "batchspec log daily --json --limit 1000"))
    submitted = Counter(entry["job"] for entry in log if entry["submitted"])
    assert submitted == Counter({f"daily[date={day}]": 1 for day in days})
    table = csv.DictReader(io.StringIO(forge.sh(root, "batchspec report --format csv --out -")))
    assert {row["job"] for row in table} == states.keys()
    forge.sh(root, "batchspec verify")
