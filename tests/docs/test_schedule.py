"""The examples of schedules say what they should, and their commands run; no cron daemon and no cluster is here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.docs.forge import Forge

SCHEDULE = REPOSITORY / "docs" / "schedule"


def test_the_crontabs_command_runs_again_and_again(forge: Forge) -> None:
    """As cron runs it: `sh`, a bare environment, the key from a file; the third time there is nothing to do."""
    lines = (SCHEDULE / "crontab").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]+=", line))
    [entry] = [line for line in lines if line and not line.startswith("#") and "=" not in line.split()[0]]
    command = entry.split(None, 5)[5]
    assert "%" not in command, "cron takes a percent sign for a line end"
    root = forge.clone()
    (root / ".env").write_text(f"MODEL_ACCESS_KEY={forge.key}\n")
    for _ in range(3):
        assert forge.sh(root, 'sh -c "$COMMAND"', {**settings, "PROJECT": str(root), "COMMAND": command}) == ""
    assert "Nothing to do: 6 reused." in (root / "batchspec.log").read_text()
    (root / ".env").write_text("MODEL_ACCESS_KEY=wrong\n")
    told = forge.sh(root, 'sh -c "$COMMAND"', {**settings, "PROJECT": str(root), "COMMAND": command})
    assert "batchspec: exit code 1" in told


def test_the_cronjobs_command_runs(forge: Forge) -> None:
    job = yaml.safe_load((SCHEDULE / "kubernetes.yaml").read_text())
    spec = job["spec"]
    assert (job["kind"], spec["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"]["key"] == "model-access-key"
    assert pod["restartPolicy"] == "Never"
    image, work = forge.clone(), forge.folder / "work"
    work.mkdir()
    [script] = container["args"]
    script = script.replace("/project/", f"{image}/").replace("/work/", f"{work}/").replace("cd /work", f"cd {work}")
    forge.sh(work, script, key=True)
    told = forge.sh(work, script, key=True)
    assert "0 to submit" in told or "Nothing to do" in told or "wrote out/reviews.jsonl" in told
    assert (work / "specs/reviews.lock").exists()


@pytest.mark.slow
def test_a_partition_that_is_triggered_twice_and_late_is_asked_once(forge: Forge) -> None:
    """Two runs for one day at the same moment, and one that comes late on a machine which knows of neither."""
    root, late = forge.clone(), forge.clone()
    for clone in (root, late):
        spec = clone / "specs/reviews.yaml"
        daily = 'output: {path: "out/{{ vars.date }}.jsonl"}\npartition: date'
        spec.write_text(spec.read_text().replace("output: {path: out/reviews.jsonl}", daily))
    nightly = "batchspec apply --yes --no-wait --var date=2026-11-23"
    forge.sh(root, f"{nightly} > one.log 2>&1 & {nightly} > two.log 2>&1 && wait $!", key=True)
    forge.sh(late, nightly, key=True)
    forge.sh(root, nightly, key=True)
    made = [batches(clone) for clone in (root, late)]
    assert made[0] == made[1]
    assert len(made[0]) == 1, "one batch at the service, whoever asked"
    told = forge.sh(root, nightly, key=True)
    assert "Nothing to do: 1 partition closed." in told or "wrote out/2026-11-23.jsonl" in told


def batches(clone: Path) -> set[str]:
    lines = map(json.loads, (clone / "specs/reviews.lock").read_text().splitlines())
    return {line["batch"] for line in lines if "batch" in line}
