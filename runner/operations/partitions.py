"""Turns the partitions that lockfiles record into jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from runner.context import Context
from runner.errors import Problem, SpecError
from runner.jobspec.discovery import YamlFiles
from runner.jobspec.loader import JobSpec, Project, load_project
from runner.state.project_paths import ProjectPaths


def with_partitions(project: Project, variables: Mapping[str, str], environ: Mapping[str, str]) -> Project:
    """Add recorded partitions to the project, for jobs whose partition `variables` do not name.

    They follow the project's own jobs. Unbound jobs without a recorded partition stay unbound. A partition that the
    spec no longer allows is a warning.
    """
    places = ProjectPaths.for_provider(project.root, project.settings.store, project.isolated_provider)
    context = Context(project, places)
    addresses = {address for path in context.lock_paths() for address in context.lockfile(path).addresses()}
    read = YamlFiles(project.root)
    found: dict[str, JobSpec] = {}
    waiting: list[JobSpec] = []
    warnings: list[Problem] = []
    known = {job.address for job in project.jobs}
    for job in (*project.unbound, *(job for job in project.jobs if job.partition)):
        recorded = dict(_recorded(job, addresses - known, variables))
        if job.missing_vars and not recorded:
            waiting.append(job)
        for address, values in sorted(recorded.items()):
            given = {name: value for name, value in variables.items() if name in job.job.vars} | values
            try:
                one = load_project(
                    project.root,
                    [project.root / job.file],
                    variables=given,
                    provider=project.provider,
                    environ=environ,
                    allow_partial=True,
                    read=read,
                )
            except SpecError as error:
                warnings += [replace(problem, message=f"{address}: {problem.message}") for problem in error.problems]
                continue
            found |= {spec.address: spec for spec in one.jobs if spec.address == address}
    return replace(
        project,
        jobs=(*project.jobs, *(found[address] for address in sorted(found))),
        warnings=(*project.warnings, *warnings),
        unbound=tuple(waiting),
    )


def _recorded(
    job: JobSpec, addresses: Collection[str], variables: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield recorded addresses that differ only in partition values not given, with those values."""
    name, axes = _axes(job.address)
    free = {axis for axis in job.partition if not variables.get(axis)}
    for address in addresses:
        base, values = _axes(address)
        if base == name and values.keys() == axes.keys() and all(values[a] == axes[a] for a in axes.keys() - free):
            yield address, {axis: values[axis] for axis in free}


def _axes(address: str) -> tuple[str, dict[str, str]]:
    """Split an address into name and axes. Values contain no comma, bracket or equals sign."""
    name, _, inside = address.partition("[")
    pairs = (axis.partition("=") for axis in inside.rstrip("]").split(",") if axis)
    return name, {axis: value for axis, _, value in pairs}
