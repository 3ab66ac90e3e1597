"""A job's vars: files, the spec, the matrix and `--var`; later sources win."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import Problem
from runner.jobspec.matrix import Scalar, address_value, value_problem
from runner.jobspec.models import Job
from runner.jobspec.partition_options import PartitionAxes, axes_of
from runner.jobspec.periods import PeriodError, period_name
from runner.jobspec.suggest import did_you_mean
from runner.jobspec.yaml_reader import Document, Lines

ReadYaml = Callable[[str, list[Problem]], tuple[Lines, list[Document]]]
"""Reads a YAML file of the project. Its problems go to the list."""

PLACEHOLDER = "VALUE"
"""A partition's value when specs are only checked."""


def vars_of(job: Job, document: Document, lines: Lines, read: ReadYaml, problems: list[Problem]) -> dict[str, Any]:
    """Return the vars that files and the spec declare."""
    if job.vars_file is None:
        return dict(job.vars)
    values: dict[str, Any] = {}
    files = (job.vars_file,) if isinstance(job.vars_file, str) else job.vars_file
    for number, file in enumerate(files):
        place = document.place(("vars_file",) if isinstance(job.vars_file, str) else ("vars_file", number))
        if not file.endswith((".yaml", ".yml")):
            problems.append(lines.problem(place, "a file of vars ends in .yaml or .yml", code="BS132"))
            continue
        wrong: list[Problem] = []
        where, found = read(file, wrong)
        if any(problem.line == 0 for problem in wrong):
            # The file is unreadable: report it where the spec names it.
            problems += [lines.problem(place, f"{file}: {problem.message}", code=problem.code) for problem in wrong]
            continue
        problems += wrong
        for extra in found[1:]:
            problems.append(
                where.problem(extra.place(()), "a file of vars is one document; remove the `---`", code="BS132")
            )
        content = found[0].value if found else None
        if content is None:
            continue
        if not isinstance(content, dict):
            problems.append(
                where.problem(found[0].place(()), "a file of vars is a mapping: `name: value` lines", code="BS132")
            )
            continue
        values |= content
    return {**values, **job.vars}


def set_vars(
    values: Mapping[str, Any],
    partition: tuple[str, ...],
    given: Mapping[str, str],
    say: Callable[..., Problem],
    varied: Mapping[str, Scalar],
) -> tuple[dict[str, Any], list[Problem]]:
    """Return vars with `--var` values, converted to the declared value's type, and the problems.

    Partition vars need no declaration. Ignores vars of other specs.
    """
    values, problems = dict(values), []
    for name, text in given.items():
        if name in varied and name in values:
            problems.append(say(f"--var {name}: the matrix sets this var", "matrix", name, code="BS132"))
        elif name in values:
            try:
                values[name] = _converted(text, values[name])
            except ValueError as error:
                problems.append(say(f"--var {name}={text[:60]}: {error}", "vars", name, code="BS132"))
        elif name in partition:
            values[name] = text
    return values, problems


@dataclass(frozen=True, slots=True)
class PartitionValues:
    """Values of a partition, and a problem for each `missing` or `wrong` one."""

    chosen: dict[str, Scalar]
    problems: list[Problem]
    missing: list[Problem]
    wrong: list[Problem]


def declared_axes(
    job: Job,
    declared: Mapping[str, Any],
    varied: Mapping[str, Scalar],
    say: Callable[..., Problem],
    problems: list[Problem],
) -> PartitionAxes:
    """Return a job's partition vars. Adds contradictions with vars and matrix to `problems`."""
    try:
        axes = axes_of(job.partition)
    except PeriodError as error:
        problems.append(say(str(error), "partition", code="BS136"))
        return PartitionAxes()
    if len(set(axes.names)) < len(axes.names):
        problems.append(say("`partition` repeats a var", "partition", code="BS131"))
    for name in () if axes.free == axes.names else axes.names:
        if name in varied:
            problems.append(say(f"the matrix sets `{name}` too", "partition", name, code="BS136"))
        elif declared.get(name) not in (None, ""):
            message = f"`vars` sets `{name}` too; the partition gives it its values"
            problems.append(say(message, "partition", name, code="BS136"))
    if axes.period and f"{axes.period}_end" in declared:
        message = f"the var `{axes.period}_end` is the end of `{axes.period}` in SQL; choose another name"
        problems.append(say(message, "vars", f"{axes.period}_end", code="BS136"))
    for name, fixed in axes.fixed.items():
        seen: set[str] = set()
        for number, value in enumerate(fixed):
            text = address_value(value)
            problem = value_problem(value) or (f"the value {text} is repeated" if text in seen else "")
            if problem:
                problems.append(say(problem, "partition", name, number, code="BS136"))
            seen.add(text)
    return axes


def partition_of(job: Job, axes: PartitionAxes, values: dict[str, Any], say: Callable[..., Problem]) -> PartitionValues:
    """Return a partition's values and their problems.

    An empty text is no value: `vars: {date: ""}` only declares the var. A missing or wrong value gets a placeholder,
    also in `values`, to cause no other problem.
    """
    found = PartitionValues({}, [], [], [])
    for number, name in enumerate(axes.names):
        path: tuple[str | int, ...] = ("partition",)
        if not isinstance(job.partition, str):
            path = ("partition", number if isinstance(job.partition, tuple) else name)
        if values.get(name) in (None, ""):
            message = f"this job is partitioned by `{name}`: say which with --var {name}=VALUE"
            found.missing.append(say(message, *path, code="BS131"))
            values[name] = _placeholder(axes, name)
        elif (name == axes.period or name in axes.fixed) and (problem := _not_allowed(axes, name, values)):
            found.wrong.append(say(f"{name}={address_value(values[name])[:60]}: {problem}", *path, code="BS135"))
            values[name] = _placeholder(axes, name)
        value = values[name]
        if not isinstance(value, (str, int, float)):
            message = f"the var `{name}` must be text, a number or a boolean to partition by it"
            found.problems.append(say(message, *path, code="BS131"))
        elif problem := value_problem(value):
            found.problems.append(say(f"the var `{name}`: {problem}", *path, code="BS131"))
        else:
            found.chosen[name] = value
    return found


def _placeholder(axes: PartitionAxes, name: str) -> Scalar:
    if axes.schedule is not None and name == axes.period:
        return period_name(axes.schedule.every, axes.schedule.first)
    return axes.fixed[name][0] if name in axes.fixed else PLACEHOLDER


def _not_allowed(axes: PartitionAxes, name: str, values: dict[str, Any]) -> str:
    """Return why a partition var can't have its value; empty if it can. A fixed value gets the type in the spec."""
    value = values[name]
    if axes.schedule is not None and name == axes.period:
        try:
            axes.schedule.period(str(value))
        except PeriodError as error:
            return str(error)
        return ""
    known: dict[str, Scalar] = {}
    for one in axes.fixed[name]:
        known.setdefault(address_value(one), one)
    text = address_value(value)
    if text in known:
        values[name] = known[text]
        return ""
    return f"the values of `{name}` are {', '.join(list(known)[:20])}"


def undeclared(name: str, declared: set[str]) -> Problem:
    """Return the problem of an undeclared `--var`."""
    hint = did_you_mean(name, declared) or f"the specs declare: {', '.join(sorted(declared)) or 'no vars'}"
    return Problem(f"--var {name}", 0, 0, "no spec declares such a var", hint, code="BS132")


def _converted(text: str, declared: Any) -> Any:
    if isinstance(declared, bool):
        if text not in {"true", "false"}:
            raise ValueError("the declared value is a boolean: use true or false")
        return text == "true"
    if isinstance(declared, int):
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise ValueError("the declared value is a whole number")
        return int(text)
    if isinstance(declared, float):
        if not re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?", text):
            raise ValueError("the declared value is a number")
        return float(text)
    if declared is not None and not isinstance(declared, str):
        raise ValueError("only text, numbers and booleans can be set on the command line")
    return text
