"""Models of the `--json` lines: the published schema (`schemas/`). `json_lines` fills them.

A reader accepts any minor version of its major version, and ignores unknown fields and line types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = "2.0"

Command = Literal["plan", "apply", "status", "verify"]
"""Commands with `--json` and a schema."""


class MachineLine(BaseModel):
    """Base of the lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VersionLine(MachineLine):
    """The first line."""

    type: Literal["version"] = "version"
    format: str = Field(default=FORMAT, description="major.minor of this format.")
    tool: str = Field(description="Version of batchspec.")
    command: Command


class ActionField(MachineLine):
    """One action. Its fields depend on the action."""

    action: Literal["submit", "wait", "fetch", "adopt", "hold", "write"]
    reason: str
    batch: str | None = None
    path: str | None = None
    requests: int | None = None
    answers: int | None = None
    rows: int | None = None
    round: int | None = None
    shards: int | None = None
    bytes: int | None = None
    keys_known: bool | None = None


class TokensField(MachineLine):
    """A range of tokens. Output tokens have no `low` or `certainty`, and no `high` if unlimited."""

    low: int | None = None
    expected: int | None = None
    high: int | None = None
    certainty: Literal["exact", "assumed", "estimated"] | None = None


class UsdField(MachineLine):
    """US dollars: expected, and at most."""

    expected: float | None = None
    ceiling: float | None = None


class CostField(MachineLine):
    """Cost of the requests to submit. `usd` needs a known price; `price` is its source."""

    requests: int
    input_tokens: TokensField
    output_tokens: TokensField
    usd: UsdField | None = None
    price: str | None = None


class JobLine(MachineLine):
    """One job's part of the plan. Counts are distinct requests, except `rows`."""

    type: Literal["job"] = "job"
    job: str
    realm: str
    output: str
    changes: bool
    rows: int
    requests: int
    answered: int
    in_flight: int
    failed: int
    unknown: int
    submit: int
    tolerated: int
    cost: CostField | None = Field(default=None, description="Of the requests to submit; not there without any.")
    actions: tuple[ActionField, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] | None = Field(
        default=None, description="Rows that the service will refuse, counted; not there without any."
    )
    unknown_batches: tuple[str, ...] | None = Field(default=None, description="Used, and unknown to the service.")
    unproven: int | None = Field(default=None, description="Answers that lockfile and output alone vouch for.")


class OrphanLine(MachineLine):
    """A job that no spec defines any more. Its batches run, or ended and are not recorded (`over`).

    `cancel` and `fetch` are what `--prune` does about them.
    """

    type: Literal["orphan"] = "orphan"
    job: str
    realm: str
    running: tuple[str, ...]
    ended: int
    cancel: tuple[str, ...]
    over: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()


class ErrorLine(MachineLine):
    """One problem of a job; without `job`, of the whole command.

    `file`, `line` and `column` (from 1) locate it if known; `hint` is what to do next.
    """

    type: Literal["error"] = "error"
    job: str | None = None
    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    codes: tuple[str, ...] = Field(default=(), description="Of its errors; `batchspec explain CODE` says more.")


class WaitingLine(MachineLine):
    """A period that is due and has no input yet. It is not started."""

    type: Literal["waiting"] = "waiting"
    job: str
    message: str


class NoteLine(MachineLine):
    """What people should know of a plan: periods that are due and wait for another command."""

    type: Literal["note"] = "note"
    message: str


class PlanLine(MachineLine):
    """The plan's summary: the last line of `plan --json`, unless an error ends it."""

    type: Literal["plan"] = "plan"
    changes: bool
    submit: int
    answered: int
    in_flight: int
    failed: int
    unknown: int
    errors: int
    over_budget: tuple[str, ...] = ()
    offline: str = Field(description="Why the service was not asked; empty if it was.")
    closed: int | None = Field(default=None, description="Closed partitions among the selected jobs; left out if none.")


class EventLine(MachineLine):
    """An event while applying: `event` is a dotted noun; `fields` may grow."""

    type: Literal["event"] = "event"
    event: str
    fields: dict[str, Any]


class ProgressLine(MachineLine):
    """Progress of a work, now and then."""

    type: Literal["progress"] = "progress"
    what: str
    done: int
    total: int
    failed: int


class OutcomeLine(MachineLine):
    """How one job ended. Unknown amounts (USD) are absent.

    `cost` and `expected` cover ended batches that this apply submitted. `earlier` is the cost of older batches that it
    fetched.
    """

    type: Literal["outcome"] = "outcome"
    job: str
    end: Literal["succeeded", "failed", "running", "skipped", "error"]
    submitted: int
    failed: int
    message: str
    running: tuple[str, ...]
    codes: tuple[str, ...] = Field(default=(), description="Of the error that ended it.")
    cost: float | None = None
    expected: float | None = None
    earlier: float | None = None
    failures: tuple[str, ...] | None = Field(
        default=None, description="Why batches failed as a whole, in the service's words, each cause once."
    )


class ExitLine(MachineLine):
    """The last line of `apply --json`: the exit code."""

    type: Literal["exit"] = "exit"
    code: int


class BatchField(MachineLine):
    """One batch. `adopted` if the lockfile has no line of it yet; `cost` is USD, absent if unknown."""

    batch: str
    state: str
    ended: bool
    requests: int
    completed: int
    failed: int
    round: int
    adopted: bool
    cost: float | None = None


class UsedField(MachineLine):
    """Tokens of ended batches: counted by the service, and estimated."""

    input: int
    output: int
    expected_input: int | None = None
    expected_output: int | None = None


class StatusLine(MachineLine):
    """One job and its batches. `output` is its path and state; `asked` is whether the service was asked.

    `requests`, `answered` and `failed` cover the whole output once it is written, until then the newest run. `rate` is
    in requests a minute, `left` in seconds. `tokens` and `cost` (USD) cover all batches, `expected` (USD) those with a
    cost. `error` is why the service could not be asked; `passing` if it may pass.
    """

    type: Literal["status"] = "status"
    job: str
    realm: str
    state: str
    requests: int
    answered: int
    failed: int
    rate: float | None = None
    left: float | None = None
    batches: tuple[BatchField, ...]
    output: str
    asked: bool
    tokens: UsedField | None = None
    cost: float | None = None
    expected: float | None = None
    error: str = ""
    passing: bool = False
    failures: tuple[str, ...] | None = Field(
        default=None, description="Why batches of the newest run failed as a whole, each cause once."
    )
    not_asked: str | None = Field(default=None, description="Why the service was not asked, though not `--offline`.")
    since: str | None = Field(
        default=None, description="When the newest fact here was recorded (RFC 3339), if the service was not asked."
    )


class VerifiedLine(MachineLine):
    """What matches and what does not, in sentences. The job is verified if `wrong` is empty."""

    type: Literal["verified"] = "verified"
    job: str
    verified: bool
    right: tuple[str, ...]
    wrong: tuple[str, ...]


PlanOutput = Annotated[
    VersionLine | JobLine | OrphanLine | ErrorLine | WaitingLine | NoteLine | PlanLine, Field(discriminator="type")
]
ApplyOutput = Annotated[
    VersionLine
    | JobLine
    | OrphanLine
    | ErrorLine
    | WaitingLine
    | NoteLine
    | PlanLine
    | EventLine
    | ProgressLine
    | OutcomeLine
    | ExitLine,
    Field(discriminator="type"),
]
StatusOutput = Annotated[VersionLine | StatusLine | ErrorLine, Field(discriminator="type")]
VerifyOutput = Annotated[VersionLine | VerifiedLine | ErrorLine, Field(discriminator="type")]
OUTPUTS: dict[Command, Any] = {
    "plan": PlanOutput,
    "apply": ApplyOutput,
    "status": StatusOutput,
    "verify": VerifyOutput,
}
