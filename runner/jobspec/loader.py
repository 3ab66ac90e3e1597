"""Load specs and batchspec.yaml into frozen values, and report all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from runner.base.repository_paths import check_store
from runner.errors import BatchspecError, Problem, SpecError
from runner.jobspec.answer_schema import BadSchema, read_schema, taken_by_schema
from runner.jobspec.discovery import SETTINGS_FILES, YamlFiles, find_root, has_lockfiles, spec_files
from runner.jobspec.job_spec import JobSpec, Origin, Project, build
from runner.jobspec.lint import check_job, lint_warnings
from runner.jobspec.matrix import Scalar, Variant, address_value, variants
from runner.jobspec.models import Job
from runner.jobspec.path_template import named_in
from runner.jobspec.settings import LocalProfile, Settings
from runner.jobspec.suggest import did_you_mean
from runner.jobspec.validation_messages import MAX_PROBLEMS, problems_of
from runner.jobspec.variables import declared_axes, undeclared, vars_of
from runner.jobspec.yaml_reader import Document, Lines

__all__ = ["SETTINGS_FILE", "JobSpec", "Project", "bind", "find_root", "load_project", "load_settings"]

SETTINGS_FILE = SETTINGS_FILES[0]


@dataclass(slots=True)
class _Loading:
    """State while loading one project.

    Unless `settings_known`, batchspec.yaml is invalid, so an unknown profile may exist.
    """

    root: Path
    settings: Settings
    variables: Mapping[str, str]
    provider: str | None
    placeholders: bool
    read: YamlFiles
    problems: list[Problem]
    settings_known: bool
    declared: set[str] = dataclass_field(default_factory=set)
    partial: list[JobSpec] = dataclass_field(default_factory=list)


def load_project(
    root: Path,
    paths: Sequence[Path] = (),
    *,
    variables: Mapping[str, str],
    provider: str | None,
    environ: Mapping[str, str],
    placeholders: bool = False,
    allow_partial: bool = False,
    tolerant: bool = False,
    read: YamlFiles | None = None,
    extra_checks: Callable[[Path, Sequence[JobSpec]], Sequence[Problem]] | None = None,
) -> Project:
    """Load `paths` (files or folders), else all of `specs/`. Raises SpecError with every problem.

    `variables` set declared vars. `provider` replaces each spec's own. With `placeholders`, partitions without a value
    get one, for checks only. With `allow_partial`, they are `unbound` instead of an error, and lockfiles alone make a
    valid project. `extra_checks` returns more problems of valid jobs.
    """
    root = root.resolve()
    problems: list[Problem] = []
    read = read or YamlFiles(root)
    settings = load_settings(root, problems, read)
    settings_known = not problems
    if provider is not None and settings.profile(provider) is None and settings_known:
        raise SpecError([*problems, _no_profile(Problem(SETTINGS_FILE, 0, 0, ""), provider, settings)])
    loading = _Loading(root, settings, variables, provider, placeholders, read, problems, settings_known)
    left = allow_partial and not paths and has_lockfiles(root, settings.store, provider)
    jobs, broken = _load_files(loading, spec_files(root, paths, allow_none=left), environ)
    errors: dict[str, SpecError] = {}
    healthy = [job for job in jobs if job.file not in broken]
    # With another provider, the state's place depends on all jobs, so none may be missing.
    if tolerant and broken and healthy and settings_known and provider is None:
        errors = {file: SpecError(read.deduplicate(found)) for file, found in broken.items()}
        jobs, loading.partial = healthy, []
        problems.clear()
    if extra_checks is not None:
        reported = {(problem.file, problem.line, problem.column) for problem in problems}
        more = extra_checks(root, (*jobs, *loading.partial))
        problems += [problem for problem in more if (problem.file, problem.line, problem.column) not in reported]
    unbound = tuple(job for job in jobs if job.missing_vars)
    jobs = [job for job in jobs if not job.missing_vars]
    if not problems and not errors:
        problems += [undeclared(name, loading.declared) for name in variables if name not in loading.declared]
    if not allow_partial:
        problems += [problem for job in unbound for problem in job.missing_vars]
    if problems:
        raise SpecError(read.deduplicate(problems))
    warnings = (
        warning
        for job in jobs
        for warning in lint_warnings(
            root, job.job, job.problem, own_server=_own_server(job, settings), schema=job.schema
        )
    )
    noted = tuple(sorted(read.deduplicate(list(warnings))))
    complete = not paths and not errors
    return Project(root, settings, tuple(jobs), noted, complete, unbound, provider, dict(variables), errors)


def bind(
    project: Project,
    spec: JobSpec,
    values: Mapping[str, Scalar],
    environ: Mapping[str, str],
    *,
    recorded: bool = False,
) -> JobSpec:
    """Return the partition of `spec` with these values. Raises SpecError if the spec does not allow it.

    A `recorded` one may be before `start`, and have a fixed value no longer listed.
    """
    assert spec.origin is not None
    given = {**project.variables, **{name: address_value(value) for name, value in values.items()}}
    origin = replace(spec.origin, axes=spec.axes.allowing(values)) if recorded else spec.origin
    problems: list[Problem] = []
    made = build(origin, given, problems)
    if made is not None:
        problems += made.missing_vars
        problems += check_job(
            project.root,
            project.settings.store,
            made.job,
            made.problem,
            environ,
            own_server=_own_server(made, project.settings),
        )
    if problems or made is None:
        raise SpecError(problems)
    return made


def _load_files(
    loading: _Loading, files: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[JobSpec], dict[str, list[Problem]]]:
    """Return the jobs of these files, and the problems of each file that has some. Adds them to `loading.problems`."""
    jobs: list[JobSpec] = []
    broken: dict[str, list[Problem]] = {}
    for file in files:
        before = len(loading.problems)
        jobs += _load_file(loading, file)
        if len(loading.problems) > before:
            broken[file] = loading.problems[before:]
    wrong = [(problem.file, problem) for problem in _clashes(jobs)]
    for spec in (*jobs, *loading.partial):
        own = _own_server(spec, loading.settings)
        found = check_job(loading.root, loading.settings.store, spec.job, spec.problem, environ, own_server=own)
        wrong += [(spec.file, problem) for problem in found]
    for file, problem in wrong:
        loading.problems.append(problem)
        broken.setdefault(file, []).append(problem)
    return jobs, broken


def load_settings(root: Path, problems: list[Problem], read: YamlFiles | None = None) -> Settings:
    """Return batchspec.yaml's settings, or the defaults. Adds to `problems`."""
    file = next((name for name in SETTINGS_FILES if (root / name).is_file()), None)
    if file is None:
        settings = Settings()
        problems += _wrong_store(root, settings, partial(Problem, SETTINGS_FILE, 0, 0))
        return settings
    read = read or YamlFiles(root)
    lines, found = read(file, problems)
    if len(found) > 1:
        problems.append(
            lines.problem(found[1].place(()), "batchspec.yaml is one document; remove the `---`", code="BS103")
        )
    if not found:
        return Settings()
    try:
        settings = Settings.model_validate(found[0].value)
    except ValidationError as error:
        problems += problems_of(error, found[0], lines, Settings)
        return Settings()
    place = partial(lines.problem, found[0].place(("store",)))
    problems += read.once(f"store {settings.store}", partial(_wrong_store, root, settings, place))
    return settings


def _wrong_store(root: Path, settings: Settings, say: Callable[..., Problem]) -> Iterator[Problem]:
    try:
        check_store(root, settings.store)
    except BatchspecError as error:
        yield say(error.message, error.hint, code=error.code)
    except OSError as error:
        yield say(f"the store {settings.store} can't be read: {error.strerror or error}", code="BS411")


def _load_file(loading: _Loading, file: str) -> list[JobSpec]:
    problems = loading.problems
    before = len(problems)
    lines, found = loading.read(file, problems)
    if not found and len(problems) == before:
        problems.append(Problem(file, 0, 0, "the file is empty; a spec begins with `version: 1`", code="BS111"))
    jobs = []
    for document in found:
        made = [job for one in variants(document, lines, problems) if (job := _job(loading, one, lines)) is not None]
        problems += _shared_outputs(made)
        jobs += made
    return jobs


def _job(loading: _Loading, variant: Variant, lines: Lines) -> JobSpec | None:
    document = variant.document
    try:
        return _build_job(loading, Job.model_validate(document.value), variant, lines)
    except ValidationError as error:
        loading.problems += problems_of(error, document, lines, Job)
        rest = _salvageable(document, error)
        spec = rest and _build_job(loading, rest, variant, lines)
        if spec:
            loading.partial.append(spec)
    return None


_ANY_PROFILE = LocalProfile(kind="local")
"""Replaces an unknown profile, to find more problems of a job that is dropped then."""
_STAND_INS: dict[str, Any] = {
    "version": 1,
    "name": "job",
    "input": {"rows": [{"id": 1}], "id": "id"},
    "prompt": {"user": "Hello"},
    "output": {"path": "out/{{ address }}.jsonl"},
}
"""Replacements for required keys that are missing or wrong. Not for the model: rules depend on it."""


def _salvageable(document: Document, error: ValidationError) -> Job | None:
    if error.error_count() > MAX_PROBLEMS or not isinstance(document.value, dict):
        return None
    if type(document.value.get("version")) is int and document.value["version"] != 1:
        return None  # another version, with unknown rules
    wrong = [[part for part in details["loc"] if isinstance(part, str)] for details in error.errors(include_url=False)]
    if any(not path or path[0] in {"vars", "vars_file", "parameters", "matrix", "partition"} for path in wrong):
        return None
    less, least = document.value, document.value
    for path in wrong:
        less, least = _without(less, path), _without(least, path[:1])
    for value in (less, least):
        try:
            return Job.model_validate({**_STAND_INS, **value})
        except ValidationError:
            continue
    return None


def _without(value: Any, path: Sequence[str]) -> Any:
    if not isinstance(value, dict) or path[0] not in value:
        return value
    if len(path) > 1 and isinstance(value[path[0]], dict):
        return {**value, path[0]: _without(value[path[0]], path[1:])}
    return {key: item for key, item in value.items() if key != path[0]}


def _build_job(loading: _Loading, job: Job, variant: Variant, lines: Lines) -> JobSpec | None:
    problems, document, settings = loading.problems, variant.document, loading.settings
    before = len(problems)

    def say(message: str, *path: str | int, code: str = "") -> Problem:
        return lines.problem(document.place(path), message, code=code)

    declared = vars_of(job, document, lines, loading.read, problems)
    axes = declared_axes(job, declared, variant.matrix, say, problems)
    loading.declared |= {*declared, *axes.names}
    name = loading.provider or job.provider_name
    profile = settings.profile(name)
    if profile is None and loading.settings_known:
        problems.append(_no_profile(say("", "provider"), name, settings))
    problems += _check_partition_paths(job, axes.names, say)
    schema = _schema(loading, job, say)
    origin = Origin(job, variant, lines, declared, axes, schema, name, profile or _ANY_PROFILE)
    made = build(origin, loading.variables, problems, placeholders=loading.placeholders)
    return None if len(problems) > before or profile is None else made


def _schema(loading: _Loading, job: Job, say: Callable[..., Problem]) -> dict[str, Any] | None:
    if job.answer_schema is None:
        return None
    if (taken := taken_by_schema(job)) is not None:
        loading.problems.append(say("`schema` sets this too; remove one of them", "parameters", *taken, code="BS134"))
    try:
        return read_schema(loading.root, job.answer_schema)
    except BadSchema as error:
        loading.problems.append(say(str(error), "schema", code="BS134"))
        return None


def _check_partition_paths(job: Job, names: Sequence[str], say: Any) -> list[Problem]:
    problems = []
    for path, name in ((job.output.path, "path"), (job.output.errors, "errors")):
        named = named_in(path or "{{ address }}")
        missing = [var for var in names if f"vars.{var}" not in named and "address" not in named]
        if missing:
            message = f"one partition's output would replace another's: put {{{{ vars.{missing[0]} }}}} into the path"
            problems.append(say(message, "output", name, code="BS122"))
    return problems


def _own_server(spec: JobSpec, settings: Settings) -> bool:
    profile = settings.profile(spec.job.provider_name)
    return isinstance(profile, LocalProfile) and profile.backend == "openai"


def _shared_outputs(jobs: Sequence[JobSpec]) -> list[Problem]:
    seen: dict[PurePosixPath, JobSpec] = {}
    for spec in jobs:
        for path, name in ((spec.job.output.path, "path"), (spec.job.output.errors, "errors")):
            other = spec if path is None else seen.setdefault(PurePosixPath(path), spec)
            if other is not spec:
                message = (
                    f"{other.address} and {spec.address} would write one file: put {{{{ address }}}} into the path"
                )
                return [spec.problem(message, "output", name, code="BS122")]
    return []


def _clashes(jobs: Sequence[JobSpec]) -> list[Problem]:
    """Return duplicate addresses, outputs of two documents, and moves from existing jobs."""
    problems = []
    addresses: dict[str, JobSpec] = {}
    outputs: dict[PurePosixPath, tuple[JobSpec, str]] = {}
    for spec in jobs:
        first = addresses.setdefault(spec.address, spec)
        if first is not spec:
            other = first.problem("", "name").where()
            problems.append(spec.problem(f"another job has this name already: {other}", "name", code="BS121"))
        for path, name in ((spec.job.output.path, "path"), (spec.job.output.errors, "errors")):
            writer, its = outputs.setdefault(PurePosixPath(path), (spec, name)) if path else (spec, name)
            if writer.file != spec.file or writer.document.place(()) != spec.document.place(()):
                other = writer.problem("", "output", its).where()
                problems.append(
                    spec.problem(f"another job writes this file already: {other}", "output", name, code="BS122")
                )
    for spec in jobs:
        if spec.moved_from in addresses and spec.moved_from != spec.address:
            other = addresses[spec.moved_from].problem("", "name").where()
            message = f"there still is a job {spec.moved_from}, at {other}; its answers can't be this one's too"
            problems.append(spec.problem(message, "moved", "from", code="BS123"))
    return problems


def _no_profile(place: Problem, name: str, settings: Settings) -> Problem:
    known = sorted({"digitalocean", "local", *settings.providers})
    hint = did_you_mean(name, known) or f"known are: {', '.join(known)}"
    message = f"there is no provider {name}; profiles are in batchspec.yaml under `providers`"
    return Problem(place.file, place.line, place.column, message, hint, place.excerpt, "BS120")
