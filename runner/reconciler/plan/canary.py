"""The canary: a small first batch that must pass before the rest is submitted.

The lockfile marks it, under the same pins. A lost mark costs another canary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import orjson

from runner.base.humanize import plural
from runner.errors import BatchspecError
from runner.jobspec.budget_options import Canary, allowed
from runner.jobspec.loader import JobSpec
from runner.outputs.reader import OUTPUT_FILE
from runner.outputs.result_lines import INVALID, Answer, answer_of, answer_of_row, read_line
from runner.reconciler.observe.batches import BatchRecord
from runner.reconciler.observe.observe import Observed
from runner.reconciler.plan.partition_state import same_prompt
from runner.reconciler.plan.plan import JobPlan, Submit, hold_back
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine

if TYPE_CHECKING:
    from runner.outputs.schema_check import AnswerSchema

CanaryStatus = Literal["none", "due", "again", "waiting", "passed"]
"""due: submit it now. again: retry its transient failures first. waiting: it has not ended. passed: submit the rest."""

_SHOWN = 5
_FIX = "fix the prompt or the parameters, which makes a new canary; or raise"


def canary_status(spec: JobSpec, pins: PinsLine, seen: Observed) -> CanaryStatus:
    """Return a canary's status. Raises BatchspecError if it failed.

    Requests due for another round are no failure.
    """
    canary = spec.job.canary
    if canary is None:
        return "none"
    sent = [known for known in seen.batches if known.line.pins == pins.pins and not known.refused]
    marked = [known for known in sent if known.line.canary]
    if not marked:
        # No canary is needed if the rest is submitted already, or is no larger than the canary.
        if sent or seen.plan.new <= canary.requests:
            return "none"
        return "passed" if spec.partition and _passed_elsewhere(spec, pins, seen.lockfile) else "due"
    if any(not known.ended for known in marked):
        return "waiting"
    try:
        check_canary(spec, marked)
    except BatchspecError:
        if len(marked) == len(sent) and any(action.round > 1 for action in _submits(seen)):
            return "again"
        raise
    return "passed"


def _passed_elsewhere(spec: JobSpec, pins: PinsLine, lockfile: Lockfile) -> bool:
    """Return whether the canary of another partition passed, by the lockfile: the rest of its requests followed it."""
    base = spec.address.partition("[")[0]
    canaries: set[str] = set()
    rests: set[str] = set()
    for batch in lockfile.batches.values():
        if batch.pins and batch.job.partition("[")[0] == base:
            (canaries if batch.canary else rests).add(batch.pins)
    found = (lockfile.pins.get(digest) for digest in canaries & rests)
    return any(other is not None and same_prompt(other, pins, spec.partition) for other in found)


def annotate_plan(spec: JobSpec, pins: PinsLine, seen: Observed) -> JobPlan:
    """Note the canary's status. A failed one holds back missing requests."""
    if spec.job.canary is None or not _submits(seen):
        return seen.plan
    unread = any(k.line.pins == pins.pins and k.line.canary and k.index is None for k in seen.batches)
    try:
        now = "waiting" if unread else canary_status(spec, pins, seen)
    except BatchspecError as error:
        return hold_back(seen.plan, f"{error.message.partition(';')[0]}: apply submits nothing more")
    note = _note_for(spec.job.canary, now, _submits(seen))
    return replace(seen.plan, notes=(*seen.plan.notes, note)) if note else seen.plan


def _note_for(canary: Canary, now: CanaryStatus, submits: Sequence[Submit]) -> str:
    match now:
        case "due":
            return f"{canary.requests:,} requests go first, as a canary; the rest follows when it has passed"
        case "again":
            return "what failed of the canary goes first; the rest follows when it has passed"
        case "waiting":
            return "the rest follows when the canary has passed"
        case "passed" if any(action.round == 1 for action in submits):
            return "the canary has passed"
    return ""


def _submits(seen: Observed) -> list[Submit]:
    return [action for action in seen.plan.actions if isinstance(action, Submit)]


def check_canary(spec: JobSpec, marked: Sequence[BatchRecord]) -> None:
    """Raise BatchspecError, with examples, if a canary failed beyond its limits. `marked`: all rounds."""
    canary = spec.job.canary
    assert canary is not None
    requests = sum(known.line.requests for known in marked if known.line.round == 1) or marked[0].line.requests
    batches = f"{plural(len(marked), 'batch', 'batches')} {', '.join(known.line.batch for known in marked)}"
    batch_checks = [_check_batch(spec, known) for known in marked]
    answered: set[str] = set().union(*(one.answered for one in batch_checks))
    unread = sum(known.completed or 0 for known in marked if known.index is None)
    failed = requests - len(answered) - unread
    if failed > allowed(canary.max_failed, requests):
        errors = {key: text for one in batch_checks for key, text in one.failed.items() if key not in answered}
        raise BatchspecError(
            f"the canary failed: {failed:,} of {requests:,} requests in {batches} have no answer, and "
            f"canary.max_failed allows {allowed(canary.max_failed, requests):,}; nothing more was submitted"
            + _listed(list(errors.values()) or ["they expired or were cancelled without an answer"]),
            hint=f"{_FIX} canary.max_failed; or ask them again with `--retry-failed {spec.address}`",
            code="BS602",
        )
    good = set().union(*(one.answered - one.invalid.keys() for one in batch_checks))
    invalid = {key: text for one in batch_checks for key, text in one.invalid.items() if key not in good}
    if len(invalid) > allowed(canary.max_invalid, requests):
        raise BatchspecError(
            f"the canary failed: {len(invalid):,} of {requests:,} answers in {batches} are not what was "
            f"asked for, and canary.max_invalid allows {allowed(canary.max_invalid, requests):,}; "
            "nothing more was submitted" + _listed(list(invalid.values())),
            hint=f"{_FIX} canary.max_invalid",
            code="BS602",
        )


def _listed(examples: Sequence[str]) -> str:
    return "".join(f"\n    {text}" for text in examples[:_SHOWN])


@dataclass(frozen=True, slots=True)
class _CheckedBatch:
    answered: frozenset[str]
    failed: dict[str, str]
    invalid: dict[str, str]


def _check_batch(spec: JobSpec, known: BatchRecord) -> _CheckedBatch:
    wrong = _checker(spec)
    answered: set[str] = set()
    failed: dict[str, str] = {}
    invalid: dict[str, str] = {}
    for key, answer, problem in chain(_delivered(known, wrong), _recovered(known, wrong)):
        if problem:
            invalid[key] = problem
        elif answer.error is not None:
            failed[key] = f"{answer.error[0]}: {answer.error[1][:200]}"
            continue
        answered.add(key)
    return _CheckedBatch(frozenset(answered), failed, invalid)


def _checker(spec: JobSpec) -> Callable[[Answer], str]:
    if spec.schema is not None:
        from runner.outputs.schema_check import AnswerSchema  # noqa: PLC0415  only jobs with a schema need it

        return partial(_misfit, AnswerSchema.of(spec))
    return partial(_bad, asks_for_json(spec.parameters))


def _misfit(schema: AnswerSchema, answer: Answer) -> str:
    wrong = schema.check(answer)[0].error
    return f"{wrong[1]}: {(answer.text or '')[:120]!r}" if wrong is not None else ""


def _bad(wants_json: bool, answer: Answer) -> str:
    text = (answer.text or "").strip()
    if answer.refusal or answer.calls:
        return ""
    if not text:
        return f"an empty answer (finish_reason: {answer.finish_reason})"
    if wants_json and not _is_json(text):
        return f"not JSON (finish_reason: {answer.finish_reason}): {text[:120]!r}"
    return ""


def asks_for_json(parameters: dict[str, Any]) -> bool:
    """Return whether the parameters ask for JSON."""
    wanted = parameters.get("response_format")
    text = parameters.get("text")
    if wanted is None and isinstance(text, dict):
        wanted = text.get("format")
    return isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


_CheckedLines = Iterator[tuple[str, Answer, str]]
"""For each line its key, its answer, and what is wrong with that; empty if nothing is, or if it failed."""


def _delivered(known: BatchRecord, wrong: Callable[[Answer], str]) -> _CheckedLines:
    for data in _lines(known, 0, OUTPUT_FILE):
        line = read_line(data)
        if line is not None:
            answer = answer_of(line)
            yield line.custom_id, answer, wrong(answer) if answer.error is None else ""


def _recovered(known: BatchRecord, wrong: Callable[[Answer], str]) -> _CheckedLines:
    for data in _lines(known, OUTPUT_FILE, OUTPUT_FILE + 1):
        row = _object(data)
        answer = answer_of_row(row)
        problem = ""
        if answer.error is not None and answer.error[0] == INVALID:
            problem = f"{answer.error[1]}: {(answer.text or '')[:120]!r}"
        elif answer.error is None and "text" in row:
            problem = wrong(answer)
        yield str(row.get("request")), answer, problem


def _lines(known: BatchRecord, first: int, after: int) -> Iterator[bytes]:
    for path in known.index.files[first:after] if known.index is not None else ():
        if path.exists():
            with path.open("rb") as lines:
                yield from lines


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
