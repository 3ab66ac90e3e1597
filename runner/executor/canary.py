"""The canary: a small first batch goes alone, and the rest follows only when it has passed.

It is known by its mark in the lockfile, under the same pins. A lost mark costs another small batch, never the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import orjson

from runner.errors import BatchspecError
from runner.executor.answers import Answer, answer_of, read_line
from runner.executor.batches import Known
from runner.executor.observe import Observed
from runner.reconciler.lockfile import PinsLine
from runner.reconciler.plan import Submit
from runner.spec.load import JobSpec
from runner.spec.money import allowed

Stand = Literal["none", "due", "waiting", "passed"]
"""No canary is asked for; it is to be sent now; it has not ended; the rest may follow."""

_SHOWN = 5


def stand(spec: JobSpec, pins: PinsLine, seen: Observed, action: Submit) -> Stand:
    """How it stands with a job's canary before `action`. Raises BatchspecError where it has failed."""
    canary = spec.job.canary
    if canary is None or action.round > 1:
        return "none"
    sent = [known for known in seen.batches if known.line.pins == pins.pins]
    marked = [known for known in sent if known.line.canary]
    if not marked:
        # Where the rest is under way already, or is no more than a canary, there is nothing to wait for.
        return "none" if sent or action.requests <= canary.requests else "due"
    if any(not known.ended for known in marked):
        return "waiting"
    for known in marked:
        judge(spec, known)
    return "passed"


def judge(spec: JobSpec, known: Known) -> None:
    """Raise BatchspecError, with examples, where an ended canary has failed or answered badly beyond its limits."""
    canary = spec.job.canary
    assert canary is not None
    requests = known.line.requests
    failed = requests - (known.index.summary.answers if known.index else (known.completed or 0))
    if failed > allowed(canary.max_failed, requests):
        raise BatchspecError(
            f"the canary failed: {failed:,} of {requests:,} requests in batch {known.line.batch} have no answer, and "
            f"canary.max_failed allows {allowed(canary.max_failed, requests):,}; nothing more was submitted"
            + _listed(_errors(known)),
            hint="mend the prompt or the parameters, which makes a new canary; or raise canary.max_failed",
        )
    invalid = list(_invalid(spec, known))
    if len(invalid) > allowed(canary.max_invalid, requests):
        raise BatchspecError(
            f"the canary failed: {len(invalid):,} of {requests:,} answers in batch {known.line.batch} are not what was "
            f"asked for, and canary.max_invalid allows {allowed(canary.max_invalid, requests):,}; "
            "nothing more was submitted" + _listed(invalid),
            hint="mend the prompt or the parameters, which makes a new canary; or raise canary.max_invalid",
        )


def _listed(examples: list[str]) -> str:
    return "".join(f"\n    {text}" for text in examples[:_SHOWN])


def _errors(known: Known) -> list[str]:
    return [
        f"{answer.error[0]}: {answer.error[1][:200]}" for answer in _answers(known) if answer.error is not None
    ] or ["they expired or were cancelled without an answer"]


def _invalid(spec: JobSpec, known: Known) -> Iterator[str]:
    """Answers that are empty, or not what the schema or the parameters ask for, in words. Refusals are answers."""
    if spec.schema is not None:
        from runner.executor.validity import AnswerSchema  # noqa: PLC0415  only jobs with a schema need it

        check = AnswerSchema(spec.schema).check
        for answer in _answers(known):
            wrong = check(answer)[0].error if answer.error is None else None
            if wrong is not None:
                yield f"{wrong[1]}: {(answer.text or '')[:120]!r}"
        return
    wants_json = asks_for_json(spec.parameters)
    for answer in _answers(known):
        if answer.error is not None or answer.refusal:
            continue
        text = (answer.text or "").strip()
        if not text:
            yield f"an empty answer (finish_reason: {answer.finish_reason})"
        elif wants_json and not _is_json(text):
            yield f"not JSON (finish_reason: {answer.finish_reason}): {text[:120]!r}"


def asks_for_json(parameters: dict[str, Any]) -> bool:
    """Whether the parameters ask for answers in JSON: `response_format`, or `text.format` of responses."""
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


def _answers(known: Known) -> Iterator[Answer]:
    if known.index is None:
        return
    for path in known.index.files:
        if not path.exists():
            continue
        with path.open("rb") as lines:
            for data in lines:
                line = read_line(data)
                if line is not None:
                    yield answer_of(line)
