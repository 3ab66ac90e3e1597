"""A plan as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import assert_never

from runner.base.humanize import counted, number, plural, size
from runner.errors import read_more
from runner.money.estimate import Estimate, total
from runner.money.prices import most_text, usd_text
from runner.money.tokens import Certainty, encoding_of
from runner.reconciler.plan.plan import Action, Adopt, Fetch, Hold, JobPlan, Orphan, Plan, Submit, Wait, Write, causes

_IDLE = 3
"""Most jobs with nothing to do that are listed; more are counted."""
_NAMED = 10


def explain(plan: Plan, *, override: bool = False) -> str:
    """Return the plan as text; the last line is its summary.

    `override`: the user gave a reason to exceed budgets.
    """
    lines: list[str] = []
    if plan.offline:
        lines += [f"The service was not asked: {plan.offline}.", ""]
    idle = [job for job in plan.jobs if not (job.actions or job.notes or job.failures or job.warnings)]
    idle = idle if len(idle) > _IDLE else []
    hidden = {job.address for job in idle}
    for job in plan.jobs:
        lines += [] if job.address in hidden else [*_job(job), ""]
    if idle:
        named = ", ".join(job.address for job in idle[:_NAMED])
        more = f" and {number(len(idle) - _NAMED)} more" if len(idle) > _NAMED else ""
        lines += [f"{number(len(idle))} jobs with nothing to do: {named}{more}", ""]
    lines += [closed_text(plan), ""] if plan.closed and (plan.changes or plan.jobs or plan.errors) else []
    for orphan in plan.orphans:
        lines += [*orphan_lines(orphan), ""]
    for address, message in plan.errors.items():
        first, *rest = message.splitlines() or [""]
        lines += [address, f"  ! {first}", *(f"    {line}" for line in rest), ""]
    lines += [*waiting_lines(plan), ""] if plan.waiting else []
    lines += [*plan.later, ""] if plan.later else []
    more = read_more(code for codes in plan.codes.values() for code in codes)
    lines += [more, ""] if more else []
    lines += [*_total(plan, override), _summary(plan)]
    return "\n".join(lines) + "\n"


def waiting_lines(plan: Plan) -> list[str]:
    """Return a line for each period that waits for input, up to a limit."""
    lines = [f"{address}: waiting for input: {plan.waiting[address].splitlines()[0]}" for address in plan.waiting]
    more = len(lines) - _NAMED
    return lines if more <= 0 else [*lines[:_NAMED], f"and {number(more)} more wait for input"]


def _job(job: JobPlan) -> Iterator[str]:
    yield f"{job.address}  ({job.realm})"
    yield f"    {', '.join(_job_counts(job))}"
    for action in job.actions:
        yield f"  {action_text(action)}"
    if job.estimate is not None:
        yield from (f"      {line}" for line in _costs(job.estimate))
    if not job.actions:
        yield "    nothing to do"
    for warning in job.warnings:
        yield f"    warning: {warning}"
    for note in (*job.failures, *job.notes):
        yield f"    note: {note}"


def _job_counts(job: JobPlan) -> list[str]:
    tally = job.tally
    facts = [counted(tally.rows, "row")]
    if tally.requests != tally.rows:
        facts.append(f"{number(tally.requests)} different {plural(tally.requests, 'request')}")
    if tally.answered:
        facts.append(f"{number(tally.answered)} reused")
    if tally.in_flight:
        facts.append(f"{number(tally.in_flight)} in flight")
    if tally.failed:
        facts.append(f"{number(tally.failed)} failed" + (f" ({causes(tally.lasting)})" if tally.lasting else ""))
    if tally.unknown:
        facts.append(f"{number(tally.unknown)} unknown")
    if job.removed:
        facts.append(f"{number(job.removed)} removed")
    return facts


def _costs(estimate: Estimate) -> Iterator[str]:
    if estimate.requests:
        yield from _tokens(estimate)
    price = estimate.price
    if price is None:
        yield f"cost  no price known for {estimate.model}; add one under `prices:` in batchspec.yaml"
    else:
        again = "".join(f"; {text}" for text in paid_again(estimate))
        yield f"cost  {money(estimate.expected, estimate.ceiling)} ({price.source}{again})"


def _tokens(estimate: Estimate) -> Iterator[str]:
    given, taken = estimate.input, estimate.output
    about = "" if given.low == given.high else "about "
    yield f"in    {about}{number(given.expected)} tokens, {certainty(estimate)} ({given.basis})"
    likely = "" if taken.expected is None else f"about {number(taken.expected)}"
    if taken.high is None:
        yield f"out   {likely} tokens, no limit" if likely else "out   no limit"
    else:
        yield f"out   {', '.join(filter(None, (likely, f'up to {number(taken.high)}')))} tokens"


def certainty(estimate: Estimate) -> str:
    """Return how certain the input tokens are, in words."""
    found = estimate.input.certainty
    if found is not Certainty.ASSUMED:
        return str(found.value)
    encoding = encoding_of(estimate.model)
    if encoding is not None and encoding.certainty is Certainty.ASSUMED:
        return f"counted with {encoding.name}, assumed for this model"
    return "counted, schema and tools assumed to be JSON text"


def paid_again(estimate: Estimate) -> Iterator[str]:
    """Yield reasons why requests may be paid more than once."""
    if estimate.times > 1:
        yield f"invalid answers are retried, and paid up to {estimate.times} times"
    if estimate.later.requests:
        times = estimate.later.times
        often = "once" if times == 1 else f"up to {times} times"
        in_flight = number(estimate.later.requests_in_flight)
        if estimate.later.unsubmitted:
            yield f"of {in_flight} in flight, any that the batch lacks are submitted when it ends, and paid {often}"
        else:
            yield f"of {in_flight} in flight, invalid answers are retried, and paid {often} more"


def money(expected: Decimal | None, ceiling: Decimal | None) -> str:
    """Return expected and maximum USD in words; None is unknown."""
    if ceiling is None:
        return f"about {usd_text(expected)}, with no limit" if expected is not None else "not known without max_tokens"
    if expected is None or expected == ceiling:
        return f"at most {most_text(ceiling)}"
    return f"about {usd_text(expected)}, at most {most_text(ceiling)}"


def _total(plan: Plan, override: bool) -> Iterator[str]:
    estimates = [job.estimate for job in plan.jobs if job.estimate is not None]
    priced = [one for one in estimates if one.price is not None]
    if priced:
        expected = total(one.expected for one in priced)
        more = f", and {len(estimates) - len(priced)} {plural(len(estimates) - len(priced), 'job')} without a price"
        rest = more if len(priced) < len(estimates) else ""
        yield f"Cost: {money(expected, total(one.ceiling for one in priced))}{rest}."
    refused = "`apply` refuses unless you give a reason with `--budget-override REASON`"
    then = "`--budget-override` allows it" if override else refused
    for over in plan.over_budget:
        yield f"Over budget: {over}. {then}."


def orphan_lines(orphan: Orphan) -> Iterator[str]:
    """Yield what an orphan has, and what apply does about it."""
    yield f"{orphan.address}  ({orphan.realm})"
    kept = f"; {number(orphan.ended)} ended {plural(orphan.ended, 'batch', 'batches')} kept" if orphan.ended else ""
    yield f"    no spec defines this job any more{kept}"
    for batch in orphan.running:
        if batch in orphan.cancel:
            yield f"  - cancel batch {batch}: its answers so far are kept and billed"
        else:
            yield f"    batch {batch} is still running; `--prune` cancels it"
    for batch in orphan.over:
        if batch in orphan.fetch:
            yield f"  < fetch  batch {batch}: it has ended; its answers are kept"
        else:
            yield f"    batch {batch} has ended; `--prune` fetches its answers"


def action_text(action: Action) -> str:
    """Return an action on one line, with its sign, size and reason."""
    match action:
        case Submit():
            verb = "submit" if action.round == 1 else "retry "
            what = counted(action.requests, "request")
            where = f"{counted(action.shards, 'batch', 'batches')}, {size(action.bytes)}"
            return f"+ {verb} {what} in {where}: {action.reason}"
        case Wait():
            return f"~ wait   for batch {action.batch} ({counted(action.requests, 'request')}): {action.reason}"
        case Fetch():
            return f"< fetch  batch {action.batch} ({counted(action.answers, 'answer')}): {action.reason}"
        case Adopt():
            return f"= adopt  batch {action.batch} ({counted(action.requests, 'request')}): {action.reason}"
        case Hold():
            what = f"{counted(action.requests, 'request')}: " if action.requests else ""
            return f"! hold   {what}{action.reason}"
        case Write():
            return f"> write  {action.path}: {action.reason}"
        case _:
            assert_never(action)


def _summary(plan: Plan) -> str:
    reused = sum(job.tally.answered for job in plan.jobs)
    flight = sum(job.tally.in_flight for job in plan.jobs)
    failed = sum(job.tally.failed for job in plan.jobs)
    unknown = sum(job.tally.unknown for job in plan.jobs)
    facts = [*to_submit(plan, ""), reused_text(plan, reused)]
    facts += [f"{number(flight)} in flight"] if flight else []
    facts += [f"{number(failed)} failed"] if failed else []
    facts += [f"{number(unknown)} unknown"] if unknown else []
    removed = sum(job.removed for job in plan.jobs)
    facts += [f"{counted(removed, 'row')} removed"] if removed else []
    cancels = len(plan.cancels)
    facts += [f"{counted(cancels, 'batch', 'batches')} to cancel"] if cancels else []
    if plan.errors:
        facts.append(f"{counted(len(plan.errors), 'job')} with errors")
    if plan.closed and not (plan.changes or plan.jobs or plan.errors):
        return f"Nothing to do: {closed_text(plan)}."
    if not plan.changes and not plan.errors:
        broken = [job.address for job in plan.jobs if job.tally.failed]
        again = (
            f" To retry failed requests: `--retry-failed {broken[0] if len(broken) == 1 else 'JOB'}`." if broken else ""
        )
        return f"Nothing to do: {', '.join(facts[1:])}.{again}"
    return f"Plan: {', '.join(facts)}."


def closed_text(plan: Plan) -> str:
    """Return how many partitions are closed, and how many of them were asked with an earlier template."""
    closed, earlier = len(plan.closed), sum(one.earlier for one in plan.closed)
    failed = sum(one.failed for one in plan.closed)
    facts = [f"{counted(closed, 'partition')} closed"]
    if earlier:
        facts.append(f"{'all' if earlier == closed else number(earlier)} asked with an earlier template")
    facts += [f"{number(failed)} with more failures than tolerated"] if failed else []
    return ", ".join(facts)


def reused_text(plan: Plan, reused: int) -> str:
    """Return how many answers are reused, and how many of them only lockfile and output record."""
    unproven = min(reused, sum(job.unproven for job in plan.jobs))
    return f"{number(reused)} reused" + (
        f" ({number(unproven)} known only from lockfile and output)" if unproven else ""
    )


def to_submit(plan: Plan, what: str) -> list[str]:
    """Return how many requests apply submits, and how many a failed canary holds back."""
    submit = sum(job.submits for job in plan.jobs)
    held = sum(job.held_back for job in plan.jobs if job.asks_new)
    left = sum(job.held_back for job in plan.jobs if not job.asks_new)
    facts = [f"{number(submit)}{what and f' {plural(submit, what)}'} to submit"]
    unseen = sum(job.unseen for job in plan.jobs if job.asks_new)
    facts += [f"up to {number(unseen)} when batches have ended"] if unseen else []
    facts += [f"{number(left)} new left out"] if left else []
    return [*facts, f"{number(held)} held back by a failed canary"] if held else facts
