"""Parse lockfiles, also with duplicates and conflict markers."""

from __future__ import annotations

import orjson
from pydantic import ValidationError

from runner.errors import LockfileError
from runner.state.lockfile import Lockfile, assemble
from runner.state.lockfile_lines import FORMAT, AnyLine, BatchLine, Header, MovedLine, OutputLine, PinsLine

_KINDS: dict[str, type[Header | AnyLine]] = {
    "lockfile": Header,
    "moved": MovedLine,
    "pins": PinsLine,
    "batch": BatchLine,
    "output": OutputLine,
}
MARKERS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")
_RESTORE = "restore it from git. batchspec finds its batches again at the service"
_UNNAMED = "default"
"""The name of a project whose batchspec.yaml sets none (runner.jobspec.settings)."""


def parse(data: bytes, file: str, project: str) -> Lockfile:
    """Parse a lockfile.

    Raises LockfileError with `file:LINE` for invalid lines, newer formats and other projects.
    """
    headers: list[Header] = []
    lines: list[AnyLine] = []
    for number, raw in enumerate(data.splitlines(), 1):
        if not raw.strip() or raw.startswith(MARKERS):
            continue
        line = parse_line(raw, f"{file}:{number}")
        if isinstance(line, Header):
            check_header(line, f"{file}:{number}", project)
            headers.append(line)
        else:
            lines.append(line)
    if data.strip() and not headers:
        raise LockfileError(f"{file}:1: this is not a lockfile: its header is missing", hint=_RESTORE)
    return assemble(project, [h.current for h in headers], lines)


def parse_line(raw: bytes, where: str) -> Header | AnyLine:
    """Parse one line. Raises LockfileError."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise LockfileError(f"{where}: not a lockfile line: {error.msg}", hint=_RESTORE) from error
    kind = next(iter(fields), None) if isinstance(fields, dict) else None
    if kind not in _KINDS:
        raise LockfileError(f"{where}: not a lockfile line", hint=_RESTORE)
    if kind == "lockfile" and isinstance(fields[kind], int) and fields[kind] > FORMAT:
        raise LockfileError(
            f"{where}: this lockfile has format {fields[kind]}; this batchspec reads up to {FORMAT}",
            hint="update batchspec; nothing was changed",
            code="BS402",
        )
    try:
        return _KINDS[kind].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind
        raise LockfileError(f"{where}: not a lockfile line: `{name}` is wrong", hint=_RESTORE) from error


def check_header(header: Header, where: str, project: str) -> None:
    """Raise LockfileError for other keys or another project."""
    if header.keys != "k1":
        raise LockfileError(
            f"{where}: the keys are {header.keys}; this batchspec knows k1",
            hint="update batchspec; nothing was changed",
            code="BS402",
        )
    if header.project != project:
        unnamed = project == _UNNAMED
        mismatch = (
            "no batchspec.yaml sets `project`, so its name is default" if unnamed else f"batchspec.yaml sets {project}"
        )
        raise LockfileError(
            f"{where}: this lockfile is of project {header.project}, but {mismatch}",
            hint=f"write `project: {header.project}` into batchspec.yaml at the project's root"
            if unnamed
            else f"put the old name back: `project: {header.project}`; the name is part of every idempotency key",
            code="BS403",
        )
