"""Evaluates one job: grades, compares with a baseline and checks gates. Reads files only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.base.digest import digest_json, sha256_file
from runner.context import Context
from runner.errors import BatchspecError
from runner.evaluation.baseline import Baseline, read_baseline
from runner.evaluation.expectations import columns_in
from runner.evaluation.gates import GateResult, check_gates
from runner.evaluation.graders.python_client import TRUST_PYTHON, is_trusted
from runner.evaluation.metrics import Metric, metrics_of
from runner.evaluation.scoring import OutputMismatch, ScoreTable, score_baseline, score_output
from runner.jobspec.evaluate_options import Evaluate
from runner.jobspec.loader import JobSpec
from runner.planner.render import Desired
from runner.state.lockfile_lines import PinsLine

CONTRACT = "s1"
"""Version of the grading contract; a change of any score changes it."""


_UNTRUSTED = f"it runs code of the project. If you trust it, set {TRUST_PYTHON}=1"


class NoOutput(BatchspecError):
    """There is no output to grade yet."""

    code = "BS903"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A graded output. `stale`: why it is not the final one; no gate passes then.

    `output_digest` is SHA-256; `grader_digest` identifies the graders.
    """

    job: str
    metrics: tuple[Metric, ...]
    gates: tuple[GateResult, ...]
    stale: str
    warnings: tuple[str, ...]
    output_digest: str
    grader_digest: str
    baselines: tuple[Baseline, ...] = ()
    table: ScoreTable | None = field(default=None, repr=False)

    @property
    def passes(self) -> bool:
        """Return whether no gate blocks."""
        return not any(result.blocks for result in self.gates)


def evaluate_job(
    context: Context, desired: Desired, pins: PinsLine, scratch: Path, against: str | None = None
) -> Evaluation:
    """Evaluate a rendered job that has graders. `against` replaces the spec's baseline. Raises BatchspecError."""
    spec = desired.spec
    evaluate = spec.job.evaluate
    assert evaluate is not None
    output = spec.job.output
    path = context.places.output(output.path)
    if not path.is_file():
        raise NoOutput(
            f"{context.places.shown(path)} does not exist, so there is nothing to grade",
            hint="`batchspec apply` writes it",
        )
    digest, graders = sha256_file(path), grader_digest(evaluate)
    stale, trusted = _why_stale(context, spec, pins, digest), is_trusted(context.environ)
    try:
        table = score_output(desired, path, output, trusted=trusted)
    except OutputMismatch:
        if not stale:
            raise
        gates = check_gates(spec.address, evaluate, {}, stale=stale)
        return Evaluation(spec.address, (), gates, stale, (), digest, graders)
    if table.unsettled and not stale:
        stale = f"{table.unsettled} requests have no final answer yet"
    scratch.mkdir(parents=True, exist_ok=True)
    named = [gate.against for gate in evaluate.gates if gate.against is not None]
    shown = against or evaluate.against or next(iter(named), "")
    revisions = dict.fromkeys((shown, *(gate.against or shown for gate in evaluate.gates if gate.max_drop is not None)))
    metrics: dict[str, tuple[Metric, ...]] = {}
    baselines: list[Baseline] = []
    left_out = [name for name in evaluate.graders if name not in table.graders]
    warnings = [*leaks(spec), *(f"{name} is not graded: {_UNTRUSTED}" for name in left_out)]
    seed = f"{CONTRACT} {digest} {graders}"
    for number, revision in enumerate(revisions):
        if not revision:
            metrics[revision] = metrics_of(spec.address, table, evaluate, seed)
            continue
        if not spec.job.input.id_columns:
            raise NoOutput(
                f"comparing with {revision} needs row ids",
                hint="name the column of each row's id: `id` under `input`",
                code="BS902",
            )
        folder = scratch / str(number)
        folder.mkdir(exist_ok=True)
        baseline = read_baseline(context.places.files, output, revision, folder)
        if baseline is None:
            warnings.append(f"{revision} has no earlier version of {output.path} to compare with")
            metrics[revision] = metrics_of(spec.address, table, evaluate, seed)
            continue
        baselines.append(baseline)
        before = score_baseline(desired, baseline.path, output, folder / "rows.db", trusted=trusted)
        metrics[revision] = metrics_of(spec.address, table, evaluate, seed, before, revision)
    gates = check_gates(spec.address, evaluate, metrics, stale=stale, default=shown, not_graded=left_out)
    return Evaluation(
        spec.address, metrics[shown], gates, stale, tuple(warnings), digest, graders, tuple(baselines), table
    )


def grader_digest(evaluate: Evaluate) -> str:
    """Return the digest of what determines scores, under this contract."""
    chosen = evaluate.model_dump(mode="json", by_alias=True, exclude={"gates", "against"}, exclude_defaults=True)
    return f"{CONTRACT}-{digest_json(chosen)[:16]}"


def leaks(spec: JobSpec) -> list[str]:
    """Return warnings about expectations in the prompt."""
    assert spec.job.evaluate is not None
    texts = [turn.text for turn in spec.job.prompt.turns if isinstance(turn.text, str)]
    shown = columns_in(texts) - _JINJA
    found = []
    for name, grader in spec.job.evaluate.graders.items():
        both = sorted((columns_in(getattr(grader, "expect", None)) - _JINJA) & shown)
        if both:
            found.append(f"the prompt shows the column {both[0]}, which the grader {name} expects: the answer leaks")
    return found


_JINJA = frozenset({"row", "vars", "if", "else", "endif", "for", "in", "endfor", "and", "or", "not", "is", "set"})


def _why_stale(context: Context, spec: JobSpec, pins: PinsLine, digest: str) -> str:
    lockfile = context.lockfile(spec.lock_path)
    line = lockfile.outputs.get(spec.job.output.path)
    recorded = lockfile.pins_of(spec.address)
    if line is None or recorded is None:
        return f"{spec.lock_path} does not record this output"
    if line.digest != digest:
        return f"{spec.job.output.path} is not the output that {spec.lock_path} records"
    if recorded.requests != pins.requests:
        return "requests of today's spec have no answer yet; run `batchspec apply`"
    return ""
