"""A saved plan is a ceiling, in this checkout and in another one."""

from __future__ import annotations

import shutil

import pytest

from runner.api import load, open_project
from runner.errors import BatchspecError
from runner.reconciler.plan.planfile import check_signature, read_saved
from tests.executor.conftest import Team, ends
from tests.executor.reconciling import Make, asked


def test_a_saved_plan_is_a_ceiling(team: Make) -> None:
    one = team()
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        saved = opened.plan(project.jobs).saved(one.root.name)
    assert b"Say" not in saved
    plan = read_saved(saved, "plan.json", one.root.name)
    one.rows("one", "two", "three", "four")
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened, pytest.raises(BatchspecError, match="rows differ in"):
        opened.apply(opened.plan(project.jobs), saved=plan)
    one.rows("one", "two", "three")
    edited = plan.model_copy(update={"jobs": (plan.jobs[0].model_copy(update={"new": 2}),)})
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        with pytest.raises(BatchspecError, match="the plan allows 2 new requests, and now 3 would be submitted"):
            opened.apply(opened.plan(project.jobs), saved=edited)
        assert not one.remote()
        assert ends(opened.apply(opened.plan(project.jobs), saved=plan)) == ["succeeded"]


def test_a_plan_within_another_goes_no_further_and_is_signed(team: Make) -> None:
    """The reviewed plan comes from a job without secrets; the trusted job plans again and signs what both allow."""
    one, key = team(), b"k" * 32
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        planned = opened.plan(project.jobs)
        reviewed = read_saved(planned.saved(one.root.name), "plan.json", one.root.name)
        inflated = reviewed.model_copy(update={"jobs": (reviewed.jobs[0].model_copy(update={"new": 9, "rounds": 99}),)})
        narrow = reviewed.model_copy(update={"jobs": (reviewed.jobs[0].model_copy(update={"new": 2}),)})
        signed = read_saved(planned.saved(one.root.name, key, inflated), "signed.json", one.root.name)
        with pytest.raises(BatchspecError, match="the plan allows 2 new requests"):
            planned.saved(one.root.name, key, narrow)
    check_signature(signed, "signed.json", key)
    assert (signed.jobs, reviewed.signature) == (reviewed.jobs, None)


def test_a_saved_plan_works_from_another_checkout(team: Make, tmp_path: object) -> None:
    one = team()
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        plan = read_saved(opened.plan(project.jobs).saved(one.root.name), "plan.json", one.root.name)
    other = Team(one.root.parent / "elsewhere" / one.root.name, one.url)
    shutil.copytree(one.root, other.root, ignore=shutil.ignore_patterns(".batchspec"))
    project = load(root=other.root, environ=other.environ)
    with open_project(project, environ=other.environ) as opened:
        assert ends(opened.apply(opened.plan(project.jobs), saved=plan)) == ["succeeded"]
    assert asked(one) == 3
    assert one.plan().jobs[0].submits == 0
