"""A report's facts from a project: its lockfiles, its outputs and, for a few samples, its input rendered again."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from runner.errors import BatchspecError
from runner.executor.context import Context
from runner.planner.render import first_requests
from runner.report.facts import JobFacts, OutputFacts, look, with_prompts
from runner.report.prompts import key_and_prompt
from runner.report.rows import read_rows
from runner.report.runs import runs
from runner.spec.load import JobSpec


def collect(context: Context, jobs: Sequence[JobSpec], *, prompts: bool) -> tuple[JobFacts, ...]:
    """The facts of these jobs. With `prompts`, the input is read to show sample answers beside what was asked."""
    return tuple(_job(context, spec, prompts) for spec in jobs)


def _job(context: Context, spec: JobSpec, prompts: bool) -> JobFacts:
    realm = context.realm(spec).name
    lockfile = context.lockfile(spec.lock_path)
    output = spec.job.output.path
    facts, missing = _output(context.places.output(output), context.places.shown(context.places.output(output)))
    if facts is not None and prompts:
        keys = {row.request for row in facts.samples}
        facts = with_prompts(facts, find_prompts(spec, context.project.root, keys))
    return JobFacts(
        address=spec.address,
        realm=realm,
        output_path=output,
        pins=lockfile.pins_of(spec.address),
        runs=runs(lockfile, spec.address, realm),
        output=facts,
        missing=missing,
    )


def _output(path: Path, shown: str) -> tuple[OutputFacts | None, str]:
    if path.suffix != ".jsonl":
        return None, f"{shown} is not JSON Lines, so its rows are not looked at here."
    try:
        return look(read_rows(path)), ""
    except FileNotFoundError:
        return None, f"{shown} is not written yet; `batchspec apply` writes it when nothing is in flight."
    except OSError as error:
        return None, f"{shown} cannot be read: {error.strerror or error}."


def find_prompts(spec: JobSpec, root: Path, keys: Collection[str]) -> dict[str, str]:
    """The prompts behind request keys, by rendering the input until all are found; those that are gone are left out."""
    # The second and later asks of one body have its key with an ordinal.
    wanted = {key[:43]: key for key in keys}
    found: dict[str, str] = {}
    try:
        for _, line in first_requests(spec, root, sys.maxsize):
            asked, prompt = key_and_prompt(line)
            key = wanted.get(asked)
            if key is not None:
                found[key] = prompt
                if len(found) == len(wanted):
                    break
    except BatchspecError:
        # An input that can't be rendered any more is what `validate` and `plan` are there to say.
        return found
    return found
