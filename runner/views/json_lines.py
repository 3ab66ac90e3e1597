"""What `--json` writes of a plan or an error. `json_models` has the models."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from runner.errors import BatchspecError, InputError, SpecError
from runner.money.estimate import Estimate
from runner.money.prices import usd
from runner.reconciler.plan.plan import Action, Adopt, Fetch, Hold, JobPlan, Orphan, Plan, Submit, Wait, Write
from runner.views.json_models import (
    FORMAT,
    OUTPUTS,
    ActionField,
    Command,
    CostField,
    ErrorLine,
    JobLine,
    MachineLine,
    NoteLine,
    OrphanLine,
    PlanLine,
    TokensField,
    UsdField,
    WaitingLine,
)

_VERBS: dict[type[Action], str] = {
    Submit: "submit",
    Wait: "wait",
    Fetch: "fetch",
    Adopt: "adopt",
    Hold: "hold",
    Write: "write",
}


def schema_of(command: Command) -> dict[str, Any]:
    """Return the JSON Schema of one line of a command's output."""
    adapter: TypeAdapter[Any] = TypeAdapter(OUTPUTS[command])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"One line of `batchspec {command} --json`, format {FORMAT}",
        **adapter.json_schema(mode="serialization"),
    }


def plan_lines(plan: Plan) -> Iterator[MachineLine]:
    """Yield one line per job, then the plan's summary."""
    for job in plan.jobs:
        yield _job(job)
    for orphan in plan.orphans:
        yield _orphan(orphan)
    for address, message in plan.errors.items():
        yield ErrorLine(job=address, message=message, codes=plan.codes.get(address, ()))
    for address, message in plan.waiting.items():
        yield WaitingLine(job=address, message=message)
    for text in plan.later:
        yield NoteLine(message=text)
    yield PlanLine(
        changes=plan.changes,
        submit=sum(job.submits for job in plan.jobs),
        answered=sum(job.tally.answered for job in plan.jobs),
        in_flight=sum(job.tally.in_flight for job in plan.jobs),
        failed=sum(job.tally.failed for job in plan.jobs),
        unknown=sum(job.tally.unknown for job in plan.jobs),
        errors=len(plan.errors),
        over_budget=plan.over_budget,
        offline=plan.offline,
        closed=len(plan.closed) or None,
    )


def error_lines(error: BatchspecError) -> Iterator[ErrorLine]:
    """Yield the error that ended a command: one line per problem."""
    if not isinstance(error, (SpecError, InputError)):
        yield ErrorLine(message=error.message, hint=error.hint or None, codes=error.codes)
        return
    for problem in error.problems:
        yield ErrorLine(
            message=problem.message,
            hint=problem.hint or None,
            file=problem.file if problem.file != "~" else None,
            line=problem.line or None,
            column=problem.column or None,
            codes=(problem.code,) if problem.code else (),
        )


def dump(line: MachineLine) -> str:
    """Return a line's JSON, without unused fields of an action."""
    return line.model_dump_json(exclude_none=True) + "\n"


def _job(job: JobPlan) -> JobLine:
    tally = job.tally
    return JobLine(
        job=job.address,
        realm=job.realm,
        output=job.output,
        changes=job.changes,
        rows=tally.rows,
        requests=tally.requests,
        answered=tally.answered,
        in_flight=tally.in_flight,
        failed=tally.failed,
        unknown=tally.unknown,
        submit=job.submits,
        tolerated=job.tolerated,
        cost=_cost(job.estimate),
        actions=tuple(_action(action) for action in job.actions),
        notes=(*job.failures, *job.notes),
        warnings=job.warnings or None,
        unknown_batches=job.unknown_batches or None,
        unproven=job.unproven or None,
    )


def _cost(estimate: Estimate | None) -> CostField | None:
    if estimate is None:
        return None
    given, taken, price = estimate.input, estimate.output, estimate.price
    return CostField(
        requests=estimate.requests,
        input_tokens=TokensField(
            low=given.low, expected=given.expected, high=given.high, certainty=given.certainty.value
        ),
        output_tokens=TokensField(expected=taken.expected, high=taken.high),
        usd=None if price is None else _range(estimate.expected, estimate.ceiling),
        price=None if price is None else price.source,
    )


def _range(expected: Decimal | None, ceiling: Decimal | None) -> UsdField:
    """Return a range of USD. The expected cost never exceeds the ceiling, which is rounded up."""
    return UsdField(
        expected=None if expected is None else float(usd(expected, at_most=expected == ceiling)),
        ceiling=None if ceiling is None else float(usd(ceiling, at_most=True)),
    )


def _action(action: Action) -> ActionField:
    fields = {name: getattr(action, name) for name in action.__dataclass_fields__ if name in ActionField.model_fields}
    return ActionField(action=_VERBS[type(action)], **fields)  # type: ignore[arg-type]


def _orphan(orphan: Orphan) -> OrphanLine:
    return OrphanLine(
        job=orphan.address,
        realm=orphan.realm,
        running=orphan.running,
        ended=orphan.ended,
        cancel=orphan.cancel,
        over=orphan.over,
        fetch=orphan.fetch,
    )
