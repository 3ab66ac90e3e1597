"""A job's vars: files, the spec, the matrix and `--var`; later sources win."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import Problem
from runner.jobspec.matrix import Scalar, value_problem
from runner.jobspec.models import Job
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
    values: dict[str, Any],
    partition: tuple[str, ...],
    given: Mapping[str, str],
    say: Callable[..., Problem],
    varied: Mapping[str, Scalar],
) -> tuple[dict[str, Any], list[Problem]]:
    """Return vars with `--var` values, converted to the declared value's type, and the problems.

    Partition vars need no declaration. Vars of other specs are ignored.
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


def partition_of(
    job: Job, values: dict[str, Any], say: Callable[..., Problem]
) -> tuple[dict[str, Scalar], list[Problem], tuple[Problem, ...]]:
    """Return a partition's values, their problems, and a problem for each var without a value.

    An empty text is no value: `vars: {date: ""}` only declares the var. A missing value gets a placeholder, also in
    `values`, so that it causes no other problem.
    """
    names = partition_names(job)
    chosen: dict[str, Scalar] = {}
    problems = []
    missing: list[Problem] = []
    for number, name in enumerate(names):
        path = ("partition",) if isinstance(job.partition, str) else ("partition", number)
        if values.get(name) in (None, ""):
            values[name] = PLACEHOLDER
            missing.append(
                say(f"this job is partitioned by `{name}`: say which with --var {name}=VALUE", *path, code="BS131")
            )
        value = values[name]
        if not isinstance(value, (str, int, float)):
            problems.append(
                say(f"the var `{name}` must be text, a number or a boolean to partition by it", *path, code="BS131")
            )
        elif problem := value_problem(value):
            problems.append(say(f"the var `{name}`: {problem}", *path, code="BS131"))
        else:
            chosen[name] = value
    if len(set(names)) < len(names):
        problems.append(say("`partition` repeats a var", "partition", code="BS131"))
    return chosen, problems, tuple(missing)


def partition_names(job: Job) -> tuple[str, ...]:
    """Return a job's partition vars."""
    return () if job.partition is None else (job.partition,) if isinstance(job.partition, str) else job.partition


def undeclared(name: str, declared: set[str]) -> Problem:
    """Return the problem of a `--var` that no spec declares."""
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
