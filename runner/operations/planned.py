"""A plan with its rendered jobs, and what a saved plan allows of it."""

from __future__ import annotations

from dataclasses import dataclass

from runner.errors import BatchspecError
from runner.executor.outcome import RenderedJob
from runner.reconciler.observe.lockfile_pins import tool
from runner.reconciler.plan.plan import Plan
from runner.reconciler.plan.plan_limits import PlanLimits, plan_limits_of
from runner.reconciler.plan.planfile import PlanFile, missing_jobs, saved_job, saved_text, staleness


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan and its rendered jobs."""

    plan: Plan
    prepared: tuple[RenderedJob, ...]

    def ceilings(self) -> dict[str, PlanLimits]:
        """Return what apply may do at most, by address."""
        rounds = {one.desired.spec.address: one.desired.spec.job.retry.rounds for one in self.prepared}
        return {job.address: plan_limits_of(job, rounds[job.address]) for job in self.plan.jobs}

    def saved(
        self,
        project: str,
        key: bytes | None = None,
        within: PlanFile | None = None,
        *,
        allow_errors: bool = False,
    ) -> bytes:
        """Return the plan as a file, signed with `key` if given.

        With `within`, it allows no more than that plan. Raises BatchspecError for a plan with errors unless they are
        allowed, or if `within` no longer holds.
        """
        if self.plan.errors and not allow_errors:
            raise BatchspecError(
                "cannot save a plan that has errors",
                hint="fix the errors first, leave out the job, or save the other jobs with `--allow-errors`",
                code="BS605",
            )
        ceilings = self.ceilings() if within is None else kept_to(within, self)
        pins = {one.desired.spec.address: one.pins for one in self.prepared}
        plans = (job for job in self.plan.jobs if job.address in ceilings)
        jobs = [saved_job(job, pins[job.address], ceilings[job.address]) for job in plans]
        return saved_text(project, tool(), jobs, self.plan.cancels, key)


def kept_to(saved: PlanFile, planned: Planned) -> dict[str, PlanLimits]:
    """Return what both plans allow. Raises BatchspecError that names the changes."""
    pins = {one.desired.spec.address: one.pins for one in planned.prepared}
    fresh, plans = planned.ceilings(), {job.address: job for job in planned.plan.jobs}
    errors = planned.plan.errors
    closed = {one.address for one in planned.plan.closed}
    moved = [
        f"{address}: {errors.get(address, 'no spec defines this job any more')}"
        for address in missing_jobs(saved, plans)
        if address not in closed
    ]
    for job in saved.jobs:
        if job.address in plans:
            address = job.address
            why = staleness(job, plans[address], pins[address])
            moved += [f"{address}: {why}"] if why else []
    beyond = sorted(set(planned.plan.cancels) - set(saved.cancels))
    moved += [f"batch {batch} would be cancelled, but the saved plan does not include that" for batch in beyond]
    if moved:
        raise BatchspecError(
            "the saved plan is out of date:\n  " + "\n  ".join(moved),
            hint="nothing was done. Make a new plan with `batchspec plan --out FILE` and have it reviewed",
            code="BS603",
        )
    return {job.address: job.ceiling.within(fresh[job.address]) for job in saved.jobs if job.address in fresh}


def refuse_unknown(plan: Plan) -> None:
    """Raise BatchspecError if the service does not know batches of used answers."""
    found = [f"{job.address}: batch {batch}" for job in plan.jobs for batch in job.unknown_batches]
    if found:
        raise BatchspecError(
            "answers of batches that the service does not know:\n  " + "\n  ".join(found),
            hint="nothing was done. Find out who added these lines to the lockfile and the output: `git log -p`",
            code="BS413",
        )
