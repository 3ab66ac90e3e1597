"""The commands as functions. Nothing here prints or exits."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from runner.base.git import commit_of
from runner.base.log_context import bind
from runner.context import Context, NullWatcher, Watcher
from runner.errors import BatchspecError, InputError, NoInput, NotFound, ProviderError, disk_error
from runner.evaluation.evaluate import Evaluation, evaluate_job
from runner.evaluation.forecast import plan_notes
from runner.executor.apply import apply as execute
from runner.executor.creates import creates_of
from runner.executor.fetch import NotVisibleYet, fetch_batch
from runner.executor.observe_job import observe_job
from runner.executor.outcome import Outcome, RenderedJob
from runner.jobspec.loader import JobSpec, Project, find_root, load_project
from runner.operations.choice import Choice
from runner.operations.closed_partitions import PartitionStates, closed_outcomes, closed_partitions, with_changes
from runner.operations.orphans import find_orphans, prune, renamed_note
from runner.operations.partition_jobs import PartitionJobs
from runner.operations.planned import Planned, kept_to
from runner.operations.selection import NewPeriods, Scope, Starting, may_wait, select
from runner.operations.status import without_key
from runner.planner.render import Desired, render_job
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batch_list import BatchListCache
from runner.reconciler.observe.observe import ApplyOptions, Observed
from runner.reconciler.plan.canary import annotate_plan as annotate_canary
from runner.reconciler.plan.job_estimate import estimate, over_budget, spent
from runner.reconciler.plan.plan import Example, Fetch, JobPlan, Orphan, Plan
from runner.reconciler.plan.planfile import PlanFile
from runner.reconciler.plan.request_warnings import as_error, limits_of, row_warnings
from runner.report.examples import changed_prompts
from runner.report.rows import READABLE, AnswerRow, read_rows
from runner.state.project_paths import ProjectPaths
from runner.state.results import CustomIdMap

__all__ = ["Choice", "Session", "apply", "load", "open_project", "plan", "results"]

_EVERYTHING = Choice()


def load(
    paths: Sequence[str | Path] = (),
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    provider: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Project:
    """Load specs, by default all of `specs/`. Raises SpecError.

    The search for the project's root starts at `root` or here. Partitions without a value in `variables` are no jobs
    yet; `plan` and `apply` add those that they select.
    """
    start = root or find_root(Path.cwd())
    return load_project(
        start,
        [Path(path) for path in paths],
        variables=variables or {},
        provider=provider,
        environ=os.environ if environ is None else environ,
        allow_partial=True,
    )


class Session:
    """A project with its scratch folder and services."""

    def __init__(self, context: Context, scratch: Path, jobs: int | None) -> None:
        self.context = context
        self._jobs = jobs
        self._scratch = scratch
        self._count = 0

    def prepare(
        self,
        jobs: Sequence[JobSpec],
        starting: Starting | None = None,
        options: ApplyOptions = ApplyOptions(),  # noqa: B008
    ) -> tuple[tuple[RenderedJob, ...], dict[str, BatchspecError]]:
        """Render jobs, started partitions as they started. A failed one is an error by address, and stops no other.

        With `starting`, renders only as many new periods as it has room for.
        """
        commit = commit_of(self.context.project.root)
        partitions = PartitionJobs(self.context, self._render, commit, self._folder, PartitionStates(self.context))
        starting = starting or Starting(NewPeriods(0))
        prepared: list[RenderedJob] = []
        errors: dict[str, BatchspecError] = {}
        for spec in jobs:
            if not starting.has_room(spec.address):
                continue
            try:
                one = partitions.prepare(spec, options)
            except (BatchspecError, OSError) as error:
                if isinstance(error, NoInput) and may_wait(self.context, spec, creates_of(self.context, spec)):
                    starting.wait(spec.address, error.message)
                else:
                    errors[spec.address] = disk_error(error) if isinstance(error, OSError) else error
                continue
            starting.start(spec.address)
            prepared.append(one)
        return tuple(prepared), errors

    def _folder(self) -> Path:
        self._count += 1
        return self._scratch / str(self._count)

    def _render(self, spec: JobSpec, templates: Path | None) -> Desired:
        return render_job(
            spec,
            self.context.project.root,
            self._folder(),
            jobs=self._jobs,
            progress=partial(self.context.watcher.progress, f"render {spec.address}"),
            keep_in=self.context.places.rendered(spec.address) if templates is None else None,
            limits=limits_of(spec),
            templates=templates,
        )

    def plan(
        self,
        jobs: Sequence[JobSpec],
        options: ApplyOptions = ApplyOptions(),  # noqa: B008
        *,
        offline: bool = False,
        exact: bool = False,
        review: bool = False,
        needs_key: bool = False,
        strict: bool = False,
        new: NewPeriods | None = None,
    ) -> Planned:
        """Plan jobs. Changes nothing on the service; reads it unless `offline` or without a key.

        `exact` counts the tokens of every request. `review` shows only input that a job's `review` allows. With
        `needs_key`, a missing key is an error of the job. With `strict`, so are requests that the service will refuse.
        """
        starting = Starting(new or NewPeriods(0))
        options = self._by_address(options)
        closed = closed_partitions(self.context, jobs, options)
        addresses = {one.address for one in closed}
        prepared, errors = self.prepare([one for one in jobs if one.address not in addresses], starting, options)
        closed = with_changes(self.context, closed, jobs, prepared)
        if strict:
            errors |= {one.desired.spec.address: as_error(one.desired) for one in prepared if row_warnings(one.desired)}
            prepared = tuple(one for one in prepared if one.desired.spec.address not in errors)
        errors |= self.context.project.broken
        reason = "`--offline`" if offline else ""
        plans: list[JobPlan] = []
        lists = BatchListCache(self.context.now)
        for one in prepared:
            spec = one.desired.spec
            try:
                with bind(job=spec.address):
                    if offline or not (needs_key or self.context.has_key(spec)):
                        reason = reason or _without_key(spec)
                        seen = self._observe(one, None, options)
                    else:
                        seen = self._observe_after_fetching(one, lists.of(self.context.api(spec)), options)
                    plans.append(self._with_costs(one, seen, exact=exact, review=review))
            except (BatchspecError, OSError) as error:
                errors[spec.address] = disk_error(error) if isinstance(error, OSError) else error
        orphans: tuple[Orphan, ...] = ()
        if self.context.project.complete:
            orphans = find_orphans(self.context, ask=not reason, prune=options.prune)
        over = over_budget(self.context.project.settings, [one.desired.spec for one in prepared], plans)
        hidden = {spec.address for spec in jobs if review and not spec.job.review.show_prompts}
        texts = {address: format_error(error, hidden=address in hidden) for address, error in errors.items()}
        codes = {address: error.codes for address, error in errors.items()}
        return Planned(
            Plan(tuple(plans), texts, reason, orphans, over, codes, starting.later(), starting.waiting, closed),
            prepared,
        )

    def evaluate(
        self, jobs: Sequence[JobSpec], against: str | None = None
    ) -> tuple[tuple[Evaluation, ...], dict[str, BatchspecError]]:
        """Grade the outputs of jobs that have graders. A job that can't be graded is an error by its address.

        `against` replaces the spec's git revision to compare with. Reads files only.
        """
        prepared, errors = self.prepare(jobs)
        found, more = self.evaluate_rendered(prepared, against)
        return found, errors | more

    def evaluate_rendered(
        self, prepared: Sequence[RenderedJob], against: str | None = None
    ) -> tuple[tuple[Evaluation, ...], dict[str, BatchspecError]]:
        """Grade rendered jobs' outputs, as `evaluate` does."""
        found: list[Evaluation] = []
        errors: dict[str, BatchspecError] = {}
        for one in prepared:
            spec = one.desired.spec
            if spec.job.evaluate is None:
                continue
            try:
                found.append(evaluate_job(self.context, one.desired, one.pins, self._folder(), against))
            except (BatchspecError, OSError) as error:
                errors[spec.address] = disk_error(error) if isinstance(error, OSError) else error
        return tuple(found), errors

    def apply(
        self,
        planned: Planned,
        options: ApplyOptions = ApplyOptions(),  # noqa: B008
        *,
        saved: PlanFile | None = None,
        wait: bool = True,
        timeout: timedelta | None = None,
        override: str = "",
    ) -> tuple[Outcome, ...]:
        """Carry out a plan, and no more than it or a `saved` one.

        Skips jobs with an error in the plan. `override` is the reason to exceed budgets; the lockfile keeps it. Raises
        Interrupted, and BatchspecError if a saved plan no longer holds or a budget is exceeded.
        """
        if planned.plan.over_budget and not override:
            raise BatchspecError(
                "over budget:\n  " + "\n  ".join(planned.plan.over_budget),
                hint="nothing was submitted. Change the job or its budget, or give a reason with "
                "`--budget-override REASON`",
                code="BS601",
            )
        deadline = None if timeout is None else self.context.now() + timeout
        estimates = {job.address: job.estimate for job in planned.plan.jobs}
        reason = override if planned.plan.over_budget else ""
        good = [
            replace(one, estimate=estimates[one.desired.spec.address], override=reason)
            for one in planned.prepared
            if one.desired.spec.address not in planned.plan.errors
        ]
        ceilings = planned.ceilings()
        if saved is not None:
            ceilings = kept_to(saved, planned)
            good = [one for one in good if one.desired.spec.address in ceilings]
        problems = prune(self.context, planned.plan.orphans) if options.prune else ()
        refused = tuple(Outcome("--prune", "error", None, problem, codes=("BS807",)) for problem in problems)
        options = self._by_address(options)
        ended = closed_outcomes(self.context, planned.plan.closed)
        return refused + ended + execute(self.context, good, options, ceilings, waiting=wait, deadline=deadline)

    def _by_address(self, options: ApplyOptions) -> ApplyOptions:
        def addresses(names: frozenset[str]) -> frozenset[str]:
            jobs = self.context.project.jobs
            return frozenset(job.address for job in jobs if not names.isdisjoint({job.address, job.job.name}))

        return replace(
            options, ask_unknown=addresses(options.ask_unknown), retry_failed=addresses(options.retry_failed)
        )

    def _with_costs(self, one: RenderedJob, seen: Observed, *, exact: bool, review: bool) -> JobPlan:
        spec, project = one.desired.spec, self.context.project
        plan = annotate_canary(spec, one.pins, seen)
        held = bool(plan.held_back) and not plan.submits
        found = None if held else estimate(seen, one.pins, project.settings, self.context.now(), exact=exact)
        shown = spec.job.review.show_prompts
        examples: tuple[Example, ...] = ()
        not_compared = ""
        if review and shown:
            examples, not_compared = changed_prompts(project, spec, seen.lockfile, self._folder())
        renamed = renamed_note(self.context, spec, one.pins, plan.realm) if project.complete else ""
        graded = () if spec.job.evaluate is None else plan_notes(spec.job.evaluate, one.desired.spool.rows)
        notes = (*plan.notes, *(note for note in (renamed, not_compared) if note), *graded)
        warnings = row_warnings(one.desired, hidden=review and not shown)
        before = spent(seen.lockfile.batches_of(spec.address, plan.realm))
        return replace(
            plan, estimate=found, spent=before, shown=shown, examples=examples, notes=notes, warnings=warnings
        )

    def _observe(
        self,
        one: RenderedJob,
        listed: Mapping[str, RemoteBatch] | None,
        options: ApplyOptions,
        gone: Collection[str] = (),
    ) -> Observed:
        spec = one.desired.spec
        api = None if listed is None else self.context.api(spec)
        return observe_job(self.context, one, creates_of(self.context, spec), listed, api, options, gone)

    def _observe_after_fetching(
        self, one: RenderedJob, listed: Mapping[str, RemoteBatch], options: ApplyOptions
    ) -> Observed:
        """Observe, after fetching results that decide which requests are missing."""
        seen = self._observe(one, listed, options)
        api = self.context.api(one.desired.spec)
        fetched = False
        gone: set[str] = set()
        profile = one.desired.spec.profile
        released = one.desired.spec.address in options.ask_unknown
        wanted = {action.batch for action in seen.plan.actions if isinstance(action, Fetch)}
        for known in seen.batches:
            # Look again for lost results if the list shows the batch, and before `--ask-unknown` releases them.
            again = known.line.gone and known.index is None
            if (again and released) or (known.line.batch in wanted and (known.keys is None or released or again)):
                try:
                    remote = known.remote or api.get_batch(known.line.batch)
                    now = self.context.now()
                    mapping = CustomIdMap(known.sent_keys(), seen.realm.results.imported_ids(known.line.batch))
                    fetch_batch(
                        self.context, profile, seen.realm.results, remote, mapping, ended_by=now, gone_before=again
                    )
                    fetched = True
                except NotFound:
                    gone.add(known.line.batch)
                except NotVisibleYet:
                    continue
                except ProviderError:
                    if known.missing_at_service:
                        raise
                    continue  # the plan shows the fetch, and why nothing is submitted
        return self._observe(one, listed, options, gone) if fetched or gone else seen


def _without_key(spec: JobSpec) -> str:
    return f"{without_key(spec)}, so this plan uses the lockfile only; `--provider local` needs no key"


def format_error(error: BatchspecError, *, hidden: bool = False) -> str:
    """Return an error's text and hint; if `hidden`, without input values."""
    message = error.public if hidden and isinstance(error, InputError) else error.coded()
    return f"{message}\n{error.hint}" if error.hint else message


@contextmanager
def open_project(
    project: Project,
    *,
    watcher: Watcher | None = None,
    environ: Mapping[str, str] | None = None,
    jobs: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    reads: bool = False,
) -> Iterator[Session]:
    """Open a project. The end closes services and removes scratch files.

    `jobs` is the number of render processes, by default one a core. `reads` needs no permission to write. All jobs
    share one provider setting.
    """
    places = ProjectPaths.for_provider(project.root, project.settings.store, project.isolated_provider)
    with ExitStack() as stack:
        scratch = stack.enter_context(places.scratch(read_only=reads))
        context = Context(
            project,
            places,
            environ=dict(os.environ if environ is None else environ),
            watcher=watcher or NullWatcher(),
            now=now,
        )
        stack.callback(context.close)
        yield Session(context, scratch, jobs)


def plan(project: Project, *, offline: bool = False, choice: Choice = _EVERYTHING) -> Plan:
    """Return what apply would do for the chosen jobs. `offline` contacts no service."""
    chosen = select(project, choice, Scope.RUN, os.environ, datetime.now(UTC))
    with open_project(chosen.project) as opened:
        return opened.plan(chosen.jobs, offline=offline, new=chosen.new).plan


def apply(
    project: Project, *, wait: bool = True, timeout: timedelta | None = None, choice: Choice = _EVERYTHING
) -> tuple[Outcome, ...]:
    """Submit, wait for and write the chosen jobs, without asking. `timeout` bounds the wait."""
    chosen = select(project, choice, Scope.RUN, os.environ, datetime.now(UTC))
    with open_project(chosen.project) as opened:
        planned = opened.plan(chosen.jobs, needs_key=True, new=chosen.new)
        errors = tuple(
            Outcome(address, "error", None, text, codes=planned.plan.codes[address])
            for address, text in planned.plan.errors.items()
        )
        return errors + opened.apply(planned, wait=wait, timeout=timeout)


def results(project: Project, job: str) -> Iterator[AnswerRow]:
    """Yield a job's written rows, in order; `job` is an address.

    Raises BatchspecError for an unknown job or an unreadable output, OSError without an output file.
    """
    spec = next((one for one in project.jobs if one.address == job), None)
    if spec is None:
        raise BatchspecError(f"there is no job {job}", code="BS801")
    output = spec.job.output
    if output.kind not in READABLE:
        raise BatchspecError(
            f"cannot read {output.path}: it is {output.kind}", hint="only JSON Lines and CSV can be read", code="BS804"
        )
    with open_project(project, reads=True) as opened:
        path = opened.context.places.output(output.path)
    yield from read_rows(path, output.kind)
