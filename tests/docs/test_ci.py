"""docs/ci: a team's whole loop with the very steps that are there to copy; the forge is git and a few stand-ins."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from tests.docs.forge import CI, Forge, gitlab_script, run_github

PLAN = {"github.event.pull_request.number": "7"}
SECRETS = {
    "secrets.MODEL_ACCESS_KEY": "yes",
    "secrets.BATCHSPEC_PLAN_KEY": "k" * 32,
    "github.token": "t",
    "github.ref_name": "main",
}
ENDS = ["Commit back", "Say that requests failed"]
DUE = "Start periods that are due"
SCHEDULED = ["Find the reviewed plan", "Fetch, retry, write", DUE, *ENDS]


def change_prompt(forge: Forge, words: str, branch: str = "better") -> None:
    """A developer changes the prompt on a branch and pushes it."""
    desk = forge.clone()
    forge.sh(desk, f"git checkout -q -b {branch} && sed -i 's/Label this review/{words}/' templates/label.j2")
    forge.sh(desk, f"git commit -qam '{words}' && git push -q --force origin {branch}")


def comment(forge: Forge, checkout: Path) -> None:
    head = forge.sh(checkout, "git rev-parse HEAD").strip()
    run = checkout.name.removeprefix("run-")
    known = {"github.token": "t", "github.event.workflow_run.id": run, "github.event.workflow_run.head_sha": head}
    run_github(forge, forge.clone(), "github-comment.yml", "comment", ["Comment"], known)


def scheduled(forge: Forge) -> str:
    known = {**SECRETS, "github.event_name": "schedule"}
    return run_github(forge, forge.clone(), "github.yml", "apply", SCHEDULED, known)


def by_hand(forge: Forge) -> None:
    run_github(forge, forge.clone(), "github.yml", "apply", ["Fetch, submit what is new, write", DUE, *ENDS], SECRETS)


def answers(forge: Forge) -> list[str]:
    main = forge.clone()
    return [json.loads(line)["text"] for line in (main / "out/reviews.jsonl").read_text().splitlines()]


def requests(forge: Forge) -> list[int]:
    main = forge.clone()
    lines = map(json.loads, (main / "specs/reviews.lock").read_text().splitlines())
    return sorted(line["requests"] for line in lines if "batch" in line)


@pytest.mark.slow
def test_the_loop_of_a_team(forge: Forge) -> None:
    """Branch, prompt change, plan comment, merge, apply without waiting, scheduled fetch, commit back, report."""
    by_hand(forge)
    scheduled(forge)
    assert answers(forge) == [f"Label this review: text {n}" for n in range(6)]

    change_prompt(forge, "Judge this review")
    checkout = forge.open_pull("better", 7)
    run_github(forge, checkout, "github.yml", "plan", ["Plan"], PLAN)
    forge.artifact(checkout)
    comment(forge, checkout)
    [shown] = (forge.state / "comments").iterdir()
    text = shown.read_text()
    assert "6 requests to submit, 0 reused" in text
    assert "template changed: templates/label.j2" in text
    assert "-Label this review: text 0\n+Judge this review: text 0" in text
    assert "exact" in text

    # A second push changes the same comment.
    change_prompt(forge, "Rate this review")
    checkout = forge.open_pull("better", 7)
    run_github(forge, checkout, "github.yml", "plan", ["Plan"], PLAN)
    forge.artifact(checkout)
    comment(forge, checkout)
    assert [c.name for c in (forge.state / "comments").iterdir()] == [shown.name]
    assert "+Rate this review: text 0" in shown.read_text()

    forge.merge(7)
    after = ["Find the reviewed plan", "Apply the reviewed plan", "Commit back", "Say that requests failed"]
    run_github(forge, forge.clone(), "github.yml", "apply", after, {**SECRETS, "github.event_name": "push"})
    scheduled(forge)
    scheduled(forge)
    assert answers(forge) == [f"Rate this review: text {n}" for n in range(6)]
    assert requests(forge) == [6, 6], "every prompt was paid for once"

    main = forge.clone()
    assert "Nothing to do" in forge.sh(main, "batchspec plan", key=True)
    log = forge.sh(main, "batchspec log reviews")
    assert "template changed: templates/label.j2" in log
    assert "6 of 6 answers changed" in forge.sh(
        main, "batchspec diff HEAD~3..HEAD reviews || batchspec diff HEAD~2..HEAD reviews"
    )
    forge.sh(main, "batchspec report --out page.html")
    assert "Rate this review: text 0" in (main / "page.html").read_text()


def test_what_was_not_reviewed_is_not_applied(forge: Forge) -> None:
    """Rows that came after the plan was looked at are beyond it: apply says so and submits nothing."""
    change_prompt(forge, "Judge this review")
    checkout = forge.open_pull("better", 7)
    run_github(forge, checkout, "github.yml", "plan", ["Plan"], PLAN)
    forge.artifact(checkout)
    desk = forge.clone()
    forge.sh(
        desk,
        """echo '{"id": 99, "text": "late"}' >> data/reviews.jsonl; git commit -qam Late; git push -q origin main""",
    )
    forge.merge(7)
    steps = ["Find the reviewed plan", "Apply the reviewed plan"]
    told = run_github(
        forge, forge.clone(), "github.yml", "apply", steps, {**SECRETS, "github.event_name": "push"}, expect=1
    )
    assert "the saved plan is out of date" in told
    assert "rows differ in data/reviews.jsonl: " in told


@pytest.mark.slow
def test_a_schedule_submits_what_was_reviewed_and_nothing_else_that_is_new(forge: Forge) -> None:
    """GitHub drops a run that waits when another one comes: the schedule's may take the place of the reviewed one."""
    by_hand(forge)
    scheduled(forge)
    change_prompt(forge, "Judge this review")
    checkout = forge.open_pull("better", 7)
    run_github(forge, checkout, "github.yml", "plan", ["Plan"], PLAN)
    forge.artifact(checkout)
    forge.merge(7)
    scheduled(forge)
    scheduled(forge)
    assert answers(forge) == [f"Judge this review: text {n}" for n in range(6)]
    desk = forge.clone()
    forge.sh(desk, """echo '{"id": 99, "text": "late"}' >> data/reviews.jsonl; git commit -qam Late; git push -q""")
    assert "1 request never asked" in scheduled(forge)
    assert requests(forge) == [6, 6]


def test_a_direct_push_has_no_plan_and_waits_for_a_person(forge: Forge) -> None:
    main = forge.clone()
    steps = ["Find the reviewed plan", "Apply the reviewed plan", "Commit back"]
    told = run_github(forge, main, "github.yml", "apply", steps, {**SECRETS, "github.event_name": "push"})
    assert "comes from no pull request" in told
    assert "Nothing to commit" in told


def test_the_plan_job_has_no_secret_and_an_outdated_plan_is_not_shown(forge: Forge) -> None:
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    assert "secrets." not in json.dumps(workflow["jobs"]["plan"])
    change_prompt(forge, "Judge this review")
    old = forge.open_pull("better", 7)
    told = run_github(forge, old, "github.yml", "plan", ["Plan"], PLAN)
    assert "key" not in told
    forge.artifact(old)
    change_prompt(forge, "Rate this review")
    forge.open_pull("better", 7)
    comment(forge, old)
    assert not (forge.state / "comments").exists() or not list((forge.state / "comments").iterdir())


@pytest.mark.slow
def test_racing_pushes_lose_nothing(forge: Forge) -> None:
    """Two runs commit at once: the second one's push is refused, it takes in the first one's commit, and pushes."""
    seed = forge.clone()
    two = (seed / "specs/reviews.yaml").read_text()
    second = two.replace("name: reviews", "name: second").replace("out/reviews.jsonl", "out/second.jsonl")
    (seed / "specs/reviews.yaml").write_text(f"{two}---\n{second.replace('You label', 'You sort')}")
    (seed / "out").mkdir()
    (seed / "out/both.jsonl").write_text("old\n")
    forge.sh(seed, "git add -A && git commit -qm Two && git push -q origin main")
    first, other = forge.clone(), forge.clone()
    for clone, job in ((first, "reviews"), (other, "second")):
        forge.sh(clone, f"batchspec apply --yes --job {job} && echo {job} > out/both.jsonl", key=True)
    # While the first one pushes, the other one gets in between.
    hook = first / ".git/hooks/pre-push"
    (forge.folder / "other.sh").write_text(
        f"rm {hook}; cd {other}; git add --all; git commit -qm Other; git push -q origin HEAD:main\n"
    )
    hook.write_text(f"#!/bin/sh\nunset GIT_DIR GIT_WORK_TREE; sh {forge.folder}/other.sh\n")
    hook.chmod(0o755)
    run_github(forge, first, "github.yml", "apply", ["Commit back"], SECRETS)
    main = forge.clone()
    assert "<<<<" not in (main / "out/both.jsonl").read_text()
    assert len((main / "out/reviews.jsonl").read_text().splitlines()) == 6
    assert len((main / "out/second.jsonl").read_text().splitlines()) == 6
    assert "12 reused" in forge.sh(main, "batchspec plan", key=True)
    assert "0 to submit" in forge.sh(main, "batchspec plan", key=True) or "Nothing to do" in forge.sh(
        main, "batchspec plan", key=True
    )


def gitlab(forge: Forge, checkout: Path, job: str, source: str, **more: str) -> str:
    url = f"https://batchspec:t2@gitlab.example.com/{'team/reviews'}.git"
    builds = forge.folder / f"builds-{checkout.name}"
    builds.mkdir()
    known = {
        "CI_PIPELINE_SOURCE": source, "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "CI_PROJECT_ID": "5",
        "CI_API_V4_URL": "https://gitlab.example.com/api/v4", "CI_SERVER_HOST": "gitlab.example.com",
        "CI_PROJECT_PATH": "team/reviews", "CI_BUILDS_DIR": str(builds), "BATCHSPEC_GIT_TOKEN": "t2",
        "CI_COMMIT_SHA": forge.sh(checkout, "git rev-parse HEAD").strip(),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{forge.remote}.insteadOf", "GIT_CONFIG_VALUE_0": url,
    }  # fmt: skip
    return forge.sh(checkout, gitlab_script(job), {**known, **more}, key=job == "batchspec-apply")


GRADED = """\
evaluate:
  against: main
  graders: {labels: {type: contains, any: [Label]}}
  gates: [{metric: labels, max_drop: 0.05, undecided: warn}]
"""


def evaluate_on_both(forge: Forge, checkout: Path, expect: int) -> list[str]:
    """Run both evaluation jobs in a pull request's checkout, without a key; return what each shows."""
    shown = []
    known = {"github.base_ref": "main"}
    run_github(forge, checkout, "github.yml", "evaluate", ["Evaluate"], known, expect=expect)
    shown.append((forge.folder / f"temp-{checkout.name}" / "summary").read_text())
    target = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}
    shown.append(forge.sh(checkout, gitlab_script("batchspec-evaluate"), target, expect=expect))
    return shown


def test_an_evaluation_gate_needs_no_key(forge: Forge) -> None:
    """A worse prompt with its answers fails the job, a better one passes; both are compared with the target branch."""
    run_github(forge, forge.clone(), "github.yml", "evaluate", ["Evaluate"], {"github.base_ref": "main"})  # no graders
    desk = forge.clone()
    (desk / "specs/reviews.yaml").write_text((desk / "specs/reviews.yaml").read_text() + GRADED)
    forge.sh(desk, "batchspec apply --yes && git add -A && git commit -qm Grade && git push -q origin main", key=True)
    for words, code, verdict in (("Judge this review", 5, "**fails**"), ("Label this review now", 0, "(allowed)")):
        desk = forge.clone()
        forge.sh(desk, f"git checkout -q -b better && sed -i 's/Label this review/{words}/' templates/label.j2")
        forge.sh(desk, "batchspec apply --yes", key=True, expect=code)
        forge.sh(desk, "git add -A && git commit -qm Prompt && git push -q --force origin better")
        checkout = forge.open_pull("better", 7)
        for shown in evaluate_on_both(forge, checkout, code):
            assert "compared with `main (" in shown
            assert verdict in shown
        [suite] = ET.parse(checkout / "evaluation/report.xml").getroot()
        assert suite.get("failures") == str(int(code == 5))


def test_the_evaluation_jobs_have_no_secret_and_the_whole_history() -> None:
    github = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["evaluate"]
    assert "secrets." not in json.dumps(github)
    assert github["steps"][0]["with"] == {"fetch-depth": 0, "persist-credentials": False}
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["batchspec-evaluate"]
    assert job["variables"] == {"GIT_DEPTH": "0"}
    assert not re.search("TOKEN|KEY", json.dumps(job))


@pytest.mark.slow
def test_the_loop_on_gitlab(forge: Forge) -> None:
    forge.sh(forge.remote, "git config receive.advertisePushOptions true")
    assert "6 requests never asked" in gitlab(forge, forge.clone(), "batchspec-apply", "schedule")
    gitlab(forge, forge.clone(), "batchspec-apply", "web")
    gitlab(forge, forge.clone(), "batchspec-apply", "schedule")
    assert answers(forge)[0] == "Label this review: text 0"
    for words in ("Judge this review", "Rate this review"):
        change_prompt(forge, words)
        checkout = forge.open_pull("better", 7)
        gitlab(
            forge, checkout, "batchspec-plan", "merge_request_event", BATCHSPEC_NOTE_TOKEN="n", CI_MERGE_REQUEST_IID="7"
        )
        forge.artifact(checkout)
    [note] = (forge.state / "comments").iterdir()
    assert "+Rate this review: text 0" in note.read_text()
    forge.merge(7)
    gitlab(forge, forge.clone(), "batchspec-apply", "push")
    gitlab(forge, forge.clone(), "batchspec-apply", "schedule")
    assert answers(forge) == [f"Rate this review: text {n}" for n in range(6)]
    assert requests(forge) == [6, 6]


@pytest.mark.parametrize("file", ["github.yml", "github-comment.yml"])
def test_permissions_are_the_least(file: str) -> None:
    workflow = yaml.safe_load((CI / file).read_text())
    assert "write-all" not in json.dumps(workflow)
    assert workflow["permissions"] in ({"contents": "read"}, {"actions": "read", "pull-requests": "write"})
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "what comes from outside goes through env, never into a script"
            uses = step.get("uses", "")
            assert not uses or re.search(r"@[0-9a-f]{40}$", uses), f"{uses}: a tag can be moved; pin the commit"


def test_a_running_apply_is_never_cancelled() -> None:
    github = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["apply"]["concurrency"]
    assert github == {"group": "batchspec-apply", "cancel-in-progress": False}
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["batchspec-apply"]
    assert (job["resource_group"], job["interruptible"]) == ("batchspec-apply", False)
