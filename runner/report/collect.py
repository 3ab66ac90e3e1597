"""Collects a report's facts from a project."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path

from runner.context import Context
from runner.errors import BatchspecError, StoreError
from runner.jobspec.loader import JobSpec
from runner.jobspec.output_options import Output
from runner.outputs.failure_counts import failed_of
from runner.planner.render import first_requests
from runner.report.facts import JobFacts, OutputFacts, look, with_prompts
from runner.report.prompts import key_and_prompt
from runner.report.rows import READABLE, read_rows
from runner.report.runs import runs


def collect(context: Context, jobs: Sequence[JobSpec], *, prompts: bool) -> tuple[JobFacts, ...]:
    """Return the facts of jobs. With `prompts`, render the input for samples' prompts."""
    return tuple(_job(context, spec, prompts) for spec in jobs)


def _job(context: Context, spec: JobSpec, prompts: bool) -> JobFacts:
    realm = context.realm(spec).name
    lockfile = context.lockfile(spec.lock_path)
    output = spec.job.output.path
    facts, missing = _output(context, spec.job.output)
    if facts is not None and prompts:
        keys = {row.request for row in facts.samples}
        facts = with_prompts(facts, find_prompts(spec, context.project.root, keys))
    return JobFacts(
        address=spec.address,
        realm=realm,
        output_path=output,
        pins=lockfile.pins_of(spec.address),
        runs=runs(lockfile, spec.address, realm, _invalid(context, spec)),
        output=facts,
        missing=missing,
    )


def _invalid(context: Context, spec: JobSpec) -> Mapping[str, int] | None:
    path = context.places.output(spec.job.output.path)
    errors_path = None if spec.job.output.errors is None else context.places.output(spec.job.output.errors)
    if not path.is_file() or (errors_path is not None and not errors_path.is_file()):
        return None
    try:
        found = failed_of(spec, path, errors_path)
    except StoreError:
        return None
    return found.invalid if found.known else None


def _output(context: Context, output: Output) -> tuple[OutputFacts | None, str]:
    path = context.places.output(output.path)
    shown = context.places.shown(path)
    if output.kind not in READABLE:
        return None, f"{shown} is {output.kind}; the report shows its runs and costs, but not its rows."
    failed = None if output.errors is None else context.places.output(output.errors)
    try:
        rows = read_rows(path, output.kind)
        return look(chain(rows, read_rows(failed)) if failed is not None and failed.is_file() else rows), ""
    except FileNotFoundError:
        return None, f"{shown} does not exist yet; apply writes it when all batches have ended."
    except OSError as error:
        return None, f"{shown} cannot be read: {error.strerror or error}."


def find_prompts(spec: JobSpec, root: Path, keys: Collection[str]) -> dict[str, str]:
    """Return the prompts of request keys, rendering the input until all are found."""
    # Equal bodies share a key, with an ordinal.
    wanted: dict[str, list[str]] = {}
    for key in keys:
        wanted.setdefault(key[:43], []).append(key)
    found: dict[str, str] = {}
    try:
        for _, line in first_requests(spec, root, sys.maxsize):
            asked, prompt = key_and_prompt(line)
            found |= dict.fromkeys(wanted.get(asked, ()), prompt)
            if len(found) == len(keys):
                break
    except BatchspecError:
        # `validate` and `plan` report an input that can't be rendered.
        return found
    return found
