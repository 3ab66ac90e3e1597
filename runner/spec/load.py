"""Specs and batchspec.yaml, from files to frozen values: everything that is wrong with all of them comes at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.errors import Problem, SpecError, TrustError
from runner.spec.checks import check_job
from runner.spec.models import DigitalOceanProfile, Job, LocalProfile, Settings
from runner.spec.trust import inside
from runner.spec.words import did_you_mean, problems_of
from runner.spec.yaml import Document, Lines, documents, read_text

SETTINGS_FILE = "batchspec.yaml"
_SETTINGS_FILES = (SETTINGS_FILE, "batchspec.yml")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job as it stands in a spec file, with all that other layers need to know of where it came from.

    `lock_path` is its lockfile's path in the project. `own_provider` is False where `--provider` names another one.
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

    def problem(self, message: str, *path: str | int) -> Problem:
        """A problem at the value that stands under `path` in the spec."""
        return self.lines.problem(self.document.place(path), message)


@dataclass(frozen=True, slots=True)
class Project:
    """A project's root, its settings and its jobs, in order of files and documents.

    `whole` is whether all of `specs/` was read, so that a job that is not here has left.
    """

    root: Path
    settings: Settings
    jobs: tuple[JobSpec, ...]
    whole: bool = True


def find_root(start: Path) -> Path:
    """The project's root: the nearest folder upward with batchspec.yaml, else with .git, else `start`."""
    start = start.resolve()
    folders = (start, *start.parents)
    for folder in folders:
        if any((folder / name).is_file() for name in _SETTINGS_FILES):
            return folder
    return next((folder for folder in folders if (folder / ".git").exists()), start)


def load_project(
    root: Path,
    paths: Sequence[Path] = (),
    *,
    variables: Mapping[str, str],
    provider: str | None,
    environ: Mapping[str, str],
) -> Project:
    """Load specs: `paths` (files or folders), else all of `specs/`. Raises SpecError with every problem there is.

    `variables` set declared vars; `provider` names a profile to use in place of each spec's own.
    """
    root = root.resolve()
    problems: list[Problem] = []
    settings = load_settings(root, problems)
    if provider is not None and settings.profile(provider) is None:
        raise SpecError([_no_profile(Problem(SETTINGS_FILE, 0, 0, ""), provider, settings)])
    jobs: list[JobSpec] = []
    for file in _spec_files(root, paths):
        jobs += _load_file(root, file, settings, variables, provider, problems)
    problems += _clashes(jobs)
    for spec in jobs:
        problems += check_job(root, settings.store, spec.job, spec.problem, environ)
    if problems:
        raise SpecError(problems)
    return Project(root, settings, tuple(jobs), whole=not paths)


def load_settings(root: Path, problems: list[Problem]) -> Settings:
    """batchspec.yaml, or its defaults where there is none; what is wrong goes into `problems`."""
    file = next((name for name in _SETTINGS_FILES if (root / name).is_file()), None)
    if file is None:
        return Settings()
    lines, found = _read(root, file, problems)
    if len(found) > 1:
        problems.append(lines.problem(found[1].place(()), "batchspec.yaml is one document; remove the `---`"))
    if not found:
        return Settings()
    try:
        settings = Settings.model_validate(found[0].value)
    except ValidationError as error:
        problems += problems_of(error, found[0], lines, Settings)
        return Settings()
    try:
        inside(root, settings.store)
    except TrustError as error:
        problems.append(lines.problem(found[0].place(("store",)), error.message))
    return settings


def _spec_files(root: Path, paths: Sequence[Path]) -> list[str]:
    """Spec files relative to the root, sorted, each once. Raises SpecError."""
    found: dict[str, None] = {}
    for path in paths or [root / "specs"]:
        shown = str(path)
        absolute = path if path.is_absolute() else Path.cwd() / path
        try:
            relative = absolute.resolve().relative_to(root)
        except ValueError:
            raise SpecError([Problem(shown, 0, 0, f"it is outside the project at {root}")]) from None
        if absolute.is_dir():
            files = sorted(p for p in absolute.resolve().rglob("*") if p.suffix in {".yaml", ".yml"} and p.is_file())
            for file in files:
                found[file.relative_to(root).as_posix()] = None
            if not files:
                raise SpecError([Problem(shown if paths else "specs", 0, 0, "there is no spec in this folder", _INIT)])
        elif absolute.is_file():
            found[relative.as_posix()] = None
        else:
            shown = shown if paths else "specs"
            raise SpecError([Problem(shown, 0, 0, "there is no such file or folder", _INIT)])
    return list(found)


_INIT = "`batchspec init` writes a first spec"


def _read(root: Path, file: str, problems: list[Problem]) -> tuple[Lines, list[Document]]:
    try:
        data = inside(root, file).read_bytes()
    except (OSError, TrustError) as error:
        reason = error.message if isinstance(error, TrustError) else (error.strerror or str(error))
        problems.append(Problem(file, 0, 0, f"cannot be read: {reason}"))
        return Lines(file, ""), []
    text, unreadable = read_text(file, data)
    lines = Lines(file, text)
    if unreadable:
        problems += unreadable
        return lines, []
    found, wrong = documents(lines, text)
    problems += wrong
    return lines, found


def _load_file(
    root: Path,
    file: str,
    settings: Settings,
    variables: Mapping[str, str],
    provider: str | None,
    problems: list[Problem],
) -> list[JobSpec]:
    before = len(problems)
    lines, found = _read(root, file, problems)
    if not found and len(problems) == before:
        problems.append(Problem(file, 0, 0, "the file is empty; a spec begins with `version: 1`"))
    jobs = []
    for document in found:
        try:
            job = Job.model_validate(document.value)
        except ValidationError as error:
            problems += problems_of(error, document, lines, Job)
            continue
        job, wrong = _with_variables(job, variables, document, lines)
        problems += wrong
        name = provider or job.provider_name
        profile = settings.profile(name)
        if profile is None:
            problems.append(_no_profile(lines.problem(document.place(("provider",)), ""), name, settings))
            continue
        lock = re.sub(r"\.ya?ml$", "", file) + ".lock"
        own = name == job.provider_name
        jobs.append(JobSpec(job, file, job.name, lock, name, profile, own, document, lines))
    return jobs


def _with_variables(
    job: Job, variables: Mapping[str, str], document: Document, lines: Lines
) -> tuple[Job, list[Problem]]:
    """The job with `--var` values in place of declared ones, each of the declared value's type."""
    values: dict[str, Any] = dict(job.vars)
    problems = []
    for name, text in variables.items():
        place = document.place(("vars",), key=True)
        if name not in values:
            hint = did_you_mean(name, values) or f"`vars` declares: {', '.join(values) or 'nothing'}"
            problems.append(lines.problem(place, f"--var {name}: this spec declares no such var", hint))
            continue
        try:
            values[name] = _converted(text, values[name])
        except ValueError as error:
            problems.append(lines.problem(document.place(("vars", name)), f"--var {name}={text}: {error}"))
    return job.model_copy(update={"vars": values}), problems


def _converted(text: str, declared: Any) -> Any:
    if isinstance(declared, bool):
        if text not in {"true", "false"}:
            raise ValueError("the declared value is a boolean: say true or false")
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


def _clashes(jobs: Sequence[JobSpec]) -> list[Problem]:
    """Two jobs with one address or one output."""
    problems = []
    addresses: dict[str, JobSpec] = {}
    outputs: dict[str, JobSpec] = {}
    for spec in jobs:
        for seen, value, what, path in (
            (addresses, spec.address, "name", ("name",)),
            (outputs, str(Path(spec.job.output.path)), "output path", ("output", "path")),
        ):
            if value in seen:
                other = seen[value].problem("", *path).where()
                problems.append(spec.problem(f"another job has this {what} already: {other}", *path))
            else:
                seen[value] = spec
    return problems


def _no_profile(place: Problem, name: str, settings: Settings) -> Problem:
    known = sorted({"digitalocean", "local", *settings.providers})
    hint = did_you_mean(name, known) or f"known are: {', '.join(known)}"
    message = f"there is no provider {name}; profiles stand in batchspec.yaml under `providers`"
    return Problem(place.file, place.line, place.column, message, hint, place.excerpt)
