"""A saved plan that a later apply keeps to, without prompts.

Every field is an upper bound or must equal what apply sees, so apply never exceeds its own fresh plan. Within that, an
edit can raise bounds. With BATCHSPEC_PLAN_KEY set, apply accepts only signed plans.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.base.keys import VERSION as KEYS
from runner.errors import BatchspecError
from runner.money.prices import most_text, usd
from runner.reconciler.plan.plan import JobPlan
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.reconciler.plan.reasons import why_new
from runner.state.lockfile_lines import PinsLine

FORMAT = "1.0"
"""`major.minor`; a reader accepts any minor of its major and ignores unknown fields."""
PLAN_KEY = "BATCHSPEC_PLAN_KEY"
"""Environment variable with the signing secret."""
_SHORTEST = 32
"""Shortest secret, in characters."""
_DOMAIN = b"batchspec saved plan 1\n"
"""Prefix of the signed bytes: a signature of something else under the same secret is invalid."""
PLAN_BYTES = 64 << 20
"""Largest plan file to read; a job takes about 1,000 bytes."""


class SavedModel(BaseModel):
    """Frozen; ignores fields of newer minors."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SavedJob(SavedModel):
    """What was planned for one job."""

    address: str
    realm: str
    pins: PinsLine = Field(description="What the requests were rendered from; `requests` in it names their sequence.")
    new: int = Field(ge=0, description="Requests that may be submitted for the first time.")
    again: int = Field(ge=0, description="Requests that were due for another round.")
    in_flight: int = Field(ge=0, description="Requests that were in flight.")
    rounds: int = Field(ge=1, description="Rounds of asking in all.")
    cost_usd: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="The most that the first round costs, if known."
    )

    @property
    def ceiling(self) -> PlanLimits:
        """The most that apply may do."""
        return PlanLimits(self.new, self.again, self.in_flight, self.rounds)


class PlanFile(SavedModel):
    """A whole plan file."""

    batchspec_plan: str = Field(description="Format of this file, major.minor.")
    keys: str
    project: str
    tool: str
    jobs: tuple[SavedJob, ...]
    cancels: tuple[str, ...] = Field(default=(), description="Batches that `--prune` may cancel.")
    signature: str | None = Field(
        default=None, description="HMAC-SHA256 of all else in the file, where it was signed: 64 hexadecimal digits."
    )


def saved_job(plan: JobPlan, pins: PinsLine, ceiling: PlanLimits) -> SavedJob:
    """Return a job's part."""
    return SavedJob(
        address=plan.address,
        realm=plan.realm,
        pins=pins,
        new=ceiling.requests,
        again=ceiling.retries,
        in_flight=ceiling.in_flight,
        rounds=ceiling.rounds,
        cost_usd=_ceiling_usd(plan),
    )


def _ceiling_usd(plan: JobPlan) -> float | None:
    most = plan.estimate.ceiling if plan.estimate is not None else None
    return None if most is None else float(usd(most, at_most=True))


def plan_key(environ: Mapping[str, str]) -> bytes | None:
    """Return the signing secret, or None. Raises BatchspecError if it is short."""
    secret = environ.get(PLAN_KEY, "")
    if secret and len(secret) < _SHORTEST:
        raise BatchspecError(
            f"{PLAN_KEY} has {len(secret)} characters, and {_SHORTEST} are the least",
            hint="make one with `openssl rand -hex 32`",
            code="BS609",
        )
    return secret.encode(errors="surrogateescape") or None


def signature(plan: PlanFile, key: bytes) -> str:
    """Return the signature of a plan's canonical form."""
    fields = plan.model_dump(mode="json", exclude={"signature"})
    return hmac.new(key, _DOMAIN + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS), hashlib.sha256).hexdigest()


def check_signature(plan: PlanFile, file: str, key: bytes) -> None:
    """Raise BatchspecError unless `key` signed a plan, in constant time."""
    if plan.signature is None:
        why = f"{file} is not signed, and {PLAN_KEY} is set"
    elif not hmac.compare_digest(plan.signature.encode(), signature(plan, key).encode()):
        why = f"{file} was altered after it was signed, or signed with another {PLAN_KEY}"
    else:
        return
    raise BatchspecError(
        why,
        hint="nothing was done; plan again where the key is: `batchspec plan --within FILE --out FILE`",
        code="BS609",
    )


def saved_text(
    project: str, tool: str, jobs: Iterable[SavedJob], cancels: Iterable[str], key: bytes | None = None
) -> bytes:
    """Return the file's bytes, signed if there is a key."""
    plan = PlanFile(
        batchspec_plan=FORMAT, keys=KEYS, project=project, tool=tool, jobs=tuple(jobs), cancels=tuple(sorted(cancels))
    )
    if key is None:
        return plan.model_dump_json(indent=1, exclude={"signature"}).encode() + b"\n"
    return plan.model_copy(update={"signature": signature(plan, key)}).model_dump_json(indent=1).encode() + b"\n"


def read_saved(data: bytes, file: str, project: str) -> PlanFile:
    """Parse a plan file. Raises BatchspecError if invalid, newer, or another project's."""
    try:
        plan = PlanFile.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BatchspecError(
            f"{file} is not a saved plan: {place}: {first['msg']}", hint=_FRESH, code="BS604"
        ) from error
    if plan.batchspec_plan.partition(".")[0] != FORMAT.partition(".")[0]:
        raise BatchspecError(
            f"{file} has plan format {plan.batchspec_plan}; this batchspec reads {FORMAT}",
            hint=_FRESH,
            code="BS604",
        )
    if plan.keys != KEYS:
        raise BatchspecError(
            f"{file} was made with keys {plan.keys}; this batchspec makes {KEYS}", hint=_FRESH, code="BS604"
        )
    if plan.project != project:
        raise BatchspecError(
            f"{file} is a plan of project {plan.project}; this is {project}", hint=_FRESH, code="BS604"
        )
    return plan


def saved_schema() -> dict[str, Any]:
    """Return the JSON Schema of a saved plan."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PlanFile.model_json_schema(),
        "title": f"A saved plan, format {FORMAT}",
    }


def staleness(saved: SavedJob, fresh: JobPlan, pins: PinsLine) -> str:
    """Return why a saved job's plan is stale, or ""."""
    if saved.realm != fresh.realm:
        return f"it was planned for {saved.realm}, and now it would go to {fresh.realm}"
    if saved.pins.requests != pins.requests:
        return f"its requests are not the ones that were planned: {why_new(saved.pins, pins)}"
    most = _ceiling_usd(fresh)
    if saved.cost_usd is not None and (fresh.submits or fresh.estimate is not None):
        if most is None:
            return f"no price is known for it now, and the plan allows {_planned(saved)} at most"
        if most > saved.cost_usd:
            return f"it could cost up to {most_text(Decimal(str(most)))}, and the plan allows {_planned(saved)} at most"
    return saved.ceiling.violation(1, 0, fresh.new)


def _planned(saved: SavedJob) -> str:
    return most_text(Decimal(str(saved.cost_usd)))


def missing_jobs(plan: PlanFile, known: Mapping[str, object]) -> list[str]:
    """Return addresses that no spec has."""
    return [job.address for job in plan.jobs if job.address not in known]


_FRESH = "make a fresh one with `batchspec plan --out FILE`"
