"""A job made from one document of a spec and the values of its vars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import BatchspecError, Problem
from runner.jobspec.answer_schema import with_schema
from runner.jobspec.matrix import Scalar, Variant, address_of, split_address
from runner.jobspec.models import Job
from runner.jobspec.moved import moved_from
from runner.jobspec.partition_options import PartitionAxes
from runner.jobspec.path_template import fill, path_names
from runner.jobspec.settings import DigitalOceanProfile, LocalProfile, Settings
from runner.jobspec.variables import partition_of, set_vars
from runner.jobspec.yaml_reader import Document, Lines


@dataclass(frozen=True, slots=True)
class Origin:
    """What each partition of a job is made from."""

    job: Job
    variant: Variant
    lines: Lines
    declared: Mapping[str, Any]
    axes: PartitionAxes
    schema: Mapping[str, Any] | None
    profile_name: str
    profile: DigitalOceanProfile | LocalProfile


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job of a spec file, and where it came from.

    `job` has vars, matrix values and paths filled in. `own_provider` is False if `--provider` names another one.
    `moved_from` is the former address, or empty. `missing_vars` has a problem for each partition var without an allowed
    value; such a job only makes others (`runner.jobspec.loader.bind`).
    """

    job: Job
    file: str
    address: str
    lock_path: str
    profile_name: str
    profile: DigitalOceanProfile | LocalProfile
    own_provider: bool
    document: Document
    lines: Lines
    moved_from: str = ""
    schema: Mapping[str, Any] | None = None
    partition: tuple[str, ...] = ()
    missing_vars: tuple[Problem, ...] = ()
    axes: PartitionAxes = field(default_factory=PartitionAxes)
    values: Mapping[str, Scalar] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def family(self) -> str:
        """Return what all partitions of a job share: its address without their values."""
        if not self.partition or self.origin is None:
            return self.address
        return address_of(self.job.name, self.origin.variant.address)

    def is_sibling(self, address: str) -> bool:
        """Return whether an address is this job's, or another partition of it."""
        if address == self.address or not self.partition:
            return address == self.address
        name, values = split_address(address)
        rest = {axis: value for axis, value in values.items() if axis not in self.partition}
        return values.keys() >= set(self.partition) and address_of(name, rest) == self.family

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the request's parameters, including the job's schema."""
        return with_schema(self.job, self.schema)

    def problem(self, message: str, *path: str | int, key: bool = False, code: str = "") -> Problem:
        """Return a problem at the value, or its key, under `path`."""
        return self.lines.problem(self.document.place(path, key=key), message, code=code)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's settings and jobs, ordered by file, document and combination.

    `unbound` are jobs whose partition has no value yet; they can't be planned. `provider` replaces each spec's own.
    `complete`: all of `specs/` was read, so a job missing here has no spec any more.
    """

    root: Path
    settings: Settings
    jobs: tuple[JobSpec, ...]
    warnings: tuple[Problem, ...] = ()
    complete: bool = True
    unbound: tuple[JobSpec, ...] = ()
    provider: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, BatchspecError] = field(default_factory=dict)

    @property
    def isolated_provider(self) -> str | None:
        """Return the provider with its own state folder, if `--provider` names one."""
        jobs = (*self.jobs, *self.unbound)
        own = jobs and all(job.own_provider for job in jobs)
        return None if own else self.provider

    @property
    def partitioned(self) -> frozenset[str]:
        """Return the names of partitioned jobs, with or without a value."""
        return frozenset(job.job.name for job in (*self.jobs, *self.unbound) if job.partition)


def build(
    origin: Origin, variables: Mapping[str, str], problems: list[Problem], *, placeholders: bool = False
) -> JobSpec | None:
    """Return the job that these values of `--var` make, or None after adding to `problems`.

    With `placeholders`, partition vars without a value get one, for checks only.
    """
    job, variant, lines, axes = origin.job, origin.variant, origin.lines, origin.axes
    before = len(problems)

    def say(message: str, *path: str | int, code: str = "") -> Problem:
        return lines.problem(variant.document.place(path), message, code=code)

    values, wrong = set_vars(origin.declared, axes.names, variables, say, variant.matrix)
    problems += wrong
    found = partition_of(job, axes, values, say)
    problems += [*found.problems, *(found.wrong if placeholders else ())]
    address = address_of(job.name, {**variant.address, **found.chosen})
    paths = _filled_paths(job, address, values, variant.matrix, found.chosen, say, problems)
    if len(problems) > before:
        return None
    moved = moved_from(job, address, {**variant.address, **found.chosen}, say, problems)
    return JobSpec(
        job=job.model_copy(update={"vars": values, **paths, **dict.fromkeys(Job.SPREAD)}),
        file=lines.file,
        address=address,
        lock_path=re.sub(r"\.ya?ml$", "", lines.file) + ".lock",
        profile_name=origin.profile_name,
        profile=origin.profile,
        own_provider=origin.profile_name == job.provider_name,
        document=variant.document,
        lines=lines,
        moved_from=moved,
        schema=origin.schema,
        partition=axes.names,
        missing_vars=() if placeholders else (*found.wrong, *found.missing),
        axes=axes,
        values=found.chosen,
        origin=origin,
    )


def _filled_paths(
    job: Job,
    address: str,
    values: Mapping[str, Any],
    matrix: Mapping[str, Scalar],
    partition: Mapping[str, Scalar],
    say: Any,
    problems: list[Problem],
) -> dict[str, Any]:
    names = {
        part: path_names(job.name, address, job.model, values, matrix, partition_values)
        for part, partition_values in (("input", {}), ("output", partition))
    }
    paths: dict[str, Any] = {}
    for part, name in (("input", "path"), ("input", "text"), ("output", "path"), ("output", "errors")):
        model = paths.get(part) or getattr(job, part)
        if getattr(model, name) is None:
            continue
        try:
            paths[part] = model.model_copy(update={name: fill(getattr(model, name), names[part])})
        except ValueError as error:
            problems.append(say(str(error), part, name, code="BS125"))
    return paths
