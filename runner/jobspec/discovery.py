"""Find spec files, and read a project's YAML files within limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from runner.base.repository_paths import TooLarge, read_inside
from runner.errors import Problem, SpecError, TrustError
from runner.jobspec.suggest import did_you_mean
from runner.jobspec.yaml_reader import MAX_BYTES, Document, Lines, documents, read_text

SETTINGS_FILES = ("batchspec.yaml", "batchspec.yml")
_SUFFIXES = {".yaml", ".yml"}
_JOB = re.compile(r"[\w-]+(\[.*\])?")
"""Matches a possible job address, which is not a path."""
MAX_SPECS = 5_000
"""Spec files that one command reads."""
MAX_TOTAL = 20_000_000
"""Characters of YAML that one command reads, over all files."""
_FEWER = "name the specs that you want; a `matrix` makes many jobs of one"
_INIT = "`batchspec init` writes a first spec"


def find_root(start: Path) -> Path:
    """Return the nearest folder upward with batchspec.yaml, else with .git, else `start`."""
    start = start.resolve()
    folders = (start, *start.parents)
    for folder in folders:
        if any((folder / name).is_file() for name in SETTINGS_FILES):
            return folder
    return next((folder for folder in folders if (folder / ".git").exists()), start)


def has_lockfiles(root: Path, store: str, provider: str | None) -> bool:
    """Return whether lockfiles exist next to the specs, or in the isolated realm of `provider`."""
    folders = [root / "specs", *([root / store / "realms" / provider / "specs"] if provider else [])]
    return any(path.is_file() for folder in folders for path in folder.rglob("*.lock"))


def spec_files(root: Path, paths: Sequence[Path], *, allow_none: bool = False) -> list[str]:
    """Return spec files relative to the root, sorted within each folder.

    Raises SpecError with all problems. With `allow_none`, `specs/` may be empty.
    """
    if allow_none and not paths and not _specs_in(root / "specs"):
        return []
    found: dict[str, None] = {}
    problems = []
    for path in paths or [root / "specs"]:
        shown = str(path) if paths else "specs"
        absolute = path if path.is_absolute() else Path.cwd() / path
        try:
            relative = absolute.resolve().relative_to(root)
        except (ValueError, OSError, RuntimeError):
            problems.append(Problem(shown, 0, 0, f"it is outside the project {root}", code="BS301"))
            continue
        if absolute.is_dir():
            files = _specs_in(absolute.resolve())
            found.update((file.relative_to(root).as_posix(), None) for file in files)
            if not files:
                problems.append(Problem(shown, 0, 0, "there is no spec in this folder", _INIT, code="BS106"))
        elif not absolute.exists():
            specs = [path.relative_to(root).as_posix() for path in _specs_in(root / "specs")]
            hint = did_you_mean(shown, specs) or (f"the specs are: {', '.join(specs[:20])}" if specs else _INIT)
            hint += f"; a job is named by `--job {shown}`" if paths and _JOB.fullmatch(shown) else ""
            problems.append(Problem(shown, 0, 0, "there is no such file or folder", hint, code="BS106"))
        elif absolute.suffix not in _SUFFIXES:
            problems.append(Problem(shown, 0, 0, "this is not a spec: specs end in .yaml or .yml", code="BS106"))
        else:
            found[relative.as_posix()] = None
    if len(found) > MAX_SPECS:
        message = f"there are more than {MAX_SPECS} specs; at most {MAX_SPECS} are read at once"
        problems.append(Problem("specs", 0, 0, message, _FEWER, code="BS105"))
    if problems:
        raise SpecError(problems)
    return list(found)


def _specs_in(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and not path.is_dir())
    return sorted(islice(found, MAX_SPECS + 1))


class YamlFiles:
    """Reads a project's YAML files, each once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[str, tuple[Lines, list[Document], list[Problem]]] = {}
        self._remaining = MAX_TOTAL
        self._checked: dict[str, list[Problem]] = {}

    def once(self, what: str, check: Callable[[], Iterable[Problem]]) -> list[Problem]:
        """Return the problems of a check of the project, made once."""
        if what not in self._checked:
            self._checked[what] = list(check())
        return self._checked[what]

    def __call__(self, file: str, problems: list[Problem]) -> tuple[Lines, list[Document]]:
        """Return a file's lines and documents. Add its problems to `problems`."""
        if file not in self._read:
            self._read[file] = _read(self._root, file) if self._remaining > 0 else _over_the_limit(file)
            self._remaining -= self._read[file][0].size
        lines, found, wrong = self._read[file]
        problems += wrong
        return lines, found

    def deduplicate(self, problems: list[Problem]) -> list[Problem]:
        """Return each problem once, without those that follow from a YAML problem at the same place.

        Hides lines that may contain a secret.
        """
        first = {(p.file, p.line, p.column): p for _, _, wrong in self._read.values() for p in wrong}
        private = {(lines.file, line) for lines, _, _ in self._read.values() for line in lines.private}
        kept = (p for p in dict.fromkeys(problems) if first.get((p.file, p.line, p.column), p) == p)
        return [replace(p, excerpt="") if (p.file, p.line) in private else p for p in kept]


def _over_the_limit(file: str) -> tuple[Lines, list[Document], list[Problem]]:
    message = f"the files before it have {MAX_TOTAL} characters together; no more are read at once"
    return Lines(file, ""), [], [Problem(file, 0, 0, message, _FEWER, code="BS105")]


def _read(root: Path, file: str) -> tuple[Lines, list[Document], list[Problem]]:
    nothing = Lines(file, "")
    try:
        data = read_inside(root, file, MAX_BYTES)
    except TooLarge as error:
        message = f"the file has {error.size} bytes; at most {MAX_BYTES} are read"
        return nothing, [], [Problem(file, 0, 0, message, "rows belong into an input file", code="BS105")]
    except (OSError, TrustError, ValueError) as error:
        reason = error.message if isinstance(error, TrustError) else (getattr(error, "strerror", "") or str(error))
        return nothing, [], [Problem(file, 0, 0, f"cannot be read: {reason}", code=getattr(error, "code", "BS106"))]
    text, unreadable = read_text(file, data)
    if unreadable:
        return nothing, [], unreadable
    lines = Lines(file, text)
    found, wrong = documents(lines, text)
    return lines, found, wrong
