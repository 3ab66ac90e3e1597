"""Reads saved plans, checks their signature, and finds their jobs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec, Project
    from runner.reconciler.plan.planfile import PlanFile


def saved_plan(path: Path, project: Project) -> PlanFile:
    """Return a plan file's content, signed or not. Raises BatchspecError."""
    from runner.base.repository_paths import TooLarge, read_named  # noqa: PLC0415
    from runner.reconciler.plan.planfile import PLAN_BYTES, read_saved  # noqa: PLC0415

    try:
        data = read_named(path, PLAN_BYTES)
    except TooLarge as error:
        raise BatchspecError(f"{path} is larger than {PLAN_BYTES >> 20} MB", code="BS604") from error
    except OSError as error:
        raise BatchspecError(f"{path} can't be read: {error.strerror or error}", code="BS604") from error
    return read_saved(data, str(path), project.settings.project)


def signed_plan(path: Path, project: Project) -> PlanFile:
    """Return a plan file's content. With a key in the environment, it must be signed."""
    from runner.reconciler.plan.planfile import check_signature, plan_key  # noqa: PLC0415

    plan = saved_plan(path, project)
    key = plan_key(os.environ)
    if key is not None:
        check_signature(plan, str(path), key)
    return plan


def planned_jobs(saved: PlanFile, path: Path, project: Project, chosen: Sequence[JobSpec]) -> tuple[JobSpec, ...]:
    """Return a saved plan's jobs. Raises BatchspecError for a plan of another provider.

    The provider is never switched: the file is not trusted.
    """
    from runner.jobspec.realm import realm_name, realm_of  # noqa: PLC0415

    planned = {job.address: job.realm for job in saved.jobs}
    jobs = tuple(spec for spec in chosen if spec.address in planned)
    wrong = next((planned[spec.address] for spec in jobs if realm_of(spec) != planned[spec.address]), None)
    if wrong is None:
        return jobs
    settings = project.settings
    named = {name: settings.profile(name) for name in (*settings.providers, "local", "digitalocean")}
    name = next((name for name, profile in named.items() if profile and realm_name(profile) == wrong), "")
    if name:
        command = shlex.join(["batchspec", "apply", str(path), "--provider", name])
        raise BatchspecError(
            f"this plan was made with --provider {name}",
            hint=f"nothing was done. To apply it: `{command}`",
            code="BS603",
        )
    return jobs
