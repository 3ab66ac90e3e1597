"""Input to spool: every row of a job rendered, checked and hashed; a chunk as a pure function of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from runner.digest import digest_json
from runner.errors import InputError, Problem
from runner.planner.bodies import Bodies, compile_bodies, envelope
from runner.planner.sources import Chunk, InputFiles, Row, read_chunks, rows
from runner.planner.spool import ROW, Spool, SpoolWriter, first_doubled_id, sequence_digest
from runner.planner.templates import RowError, Templates
from runner.spec.load import JobSpec

_NOT_IN_ANSWERS = {"provider", "webhook", "shards", "retry", "max_in_flight", "tolerate", "moved"}
"""Fields that change how answers are got, and neither which nor how they are written."""

MAX_PROBLEMS = 20
"""Problems of the input that are shown; one more says how many there are beyond."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What a job's answers come from, as digests and plain facts; no prompts. Written to the lockfile.

    `templates` maps path to digest. `parameters` are the request's fields as they are sent, long values as digests.
    `requests` is the digest of the desired key sequence, over `rows` rows.
    """

    spec: str
    templates: dict[str, str]
    input_path: str
    input_digest: str
    rows: int
    requests: str
    parameters: dict[str, Any]
    model: str
    line_format: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What one job wants: its rendered requests on disk, and what they were made from."""

    spec: JobSpec
    spool: Spool
    pins: Pins


@dataclass(frozen=True, slots=True)
class Rendered:
    """One chunk, rendered: row records, bodies joined, ids as JSON lines, and what went wrong."""

    records: Any
    bodies: bytes
    ids: bytes
    problems: tuple[Problem, ...]


class Renderer:
    """Renders chunks of one job. Holds compiled templates; the rows it returns depend on nothing else."""

    def __init__(self, spec: JobSpec, root: Path) -> None:
        self.templates = Templates(root)
        self._spec = spec
        self._bodies: Bodies = compile_bodies(spec, self.templates)

    def render(self, chunk: Chunk, first_row: int) -> Rendered:
        """Render all rows of a chunk; `first_row` numbers its first row from 1, for rows without an id column."""
        records, bodies, ids, problems = [], [], [], []
        for position, row in enumerate(rows(chunk)):
            if isinstance(row, Problem):
                problems.append(row)
                continue
            try:
                identity = self._identity(row, first_row + position)
                body = self._body(row, identity)
            except _BadRow as bad:
                problems.append(bad.problem(chunk.file, row.line))
                continue
            digest = hashlib.blake2b(identity, digest_size=16).digest()
            records.append((self._bodies.digest(body), len(body), digest, row.line, chunk.file_number))
            bodies.append(body)
            ids.append(identity)
        lines = b"\n".join(ids) + b"\n" if ids else b""
        return Rendered(np.array(records, ROW), b"".join(bodies), lines, tuple(problems))

    def requests(self, chunk: Chunk, first_row: int) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(row id as JSON, key digest, body) for each row of a chunk. Raises InputError at the first bad row."""
        for position, row in enumerate(rows(chunk)):
            if isinstance(row, Problem):
                raise InputError([row])
            try:
                identity = self._identity(row, first_row + position)
                body = self._body(row, identity)
            except _BadRow as bad:
                raise InputError([bad.problem(chunk.file, row.line)]) from bad
            yield identity, self._bodies.digest(body), body

    def _identity(self, row: Row, number: int) -> bytes:
        column = self._spec.job.input.id
        if column is None:
            return b"%d" % number
        if column not in row.values:
            raise _BadRow(f"the row has no column {column}, which `input.id` names; it has: {_columns(row)}")
        value = row.values[column]
        if not isinstance(value, str) and (not isinstance(value, int) or isinstance(value, bool)):
            raise _BadRow(f"the id in column {column} must be text or a whole number")
        if value == "":
            raise _BadRow(f"the id in column {column} is empty")
        try:
            return orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise _BadRow(f"the id in column {column} is not valid Unicode") from error

    def _body(self, row: Row, identity: bytes) -> bytes:
        try:
            body = self._bodies.body(row.values)
        except RowError as error:
            raise _BadRow(f"row {identity.decode()}: {error}") from error
        except (orjson.JSONEncodeError, UnicodeError) as error:
            raise _BadRow(f"row {identity.decode()}: the rendered prompt is not valid Unicode") from error
        limit = self._spec.job.shards.max_bytes
        if len(body) + 200 > limit:
            raise _BadRow(f"row {identity.decode()}: the request has {len(body)} bytes; a file holds {limit}")
        return body


class _BadRow(Exception):
    """One row that cannot become a request."""

    def problem(self, file: str, line: int) -> Problem:
        return Problem(file, line, 0, str(self))


def desire(spec: JobSpec, root: Path, scratch: Path) -> Desired:
    """Render a whole job into `scratch`. Raises SpecError for templates and InputError for rows, all at once."""
    job = spec.job
    renderer = Renderer(spec, root)
    files = InputFiles()
    problems: list[Problem] = []
    beyond = 0
    with SpoolWriter(scratch) as writer:
        number = 1
        for chunk in read_chunks(root, job.input, spec.problem("", "input", "path"), files):
            rendered = renderer.render(chunk, number)
            number += len(rendered.records) + len(rendered.problems)
            writer.add(rendered.records, rendered.bodies, rendered.ids)
            room = MAX_PROBLEMS - len(problems)
            problems += rendered.problems[:room]
            beyond += max(0, len(rendered.problems) - room)
    if not problems:
        problems += _doubled(spec, scratch, files)
    if problems:
        if beyond:
            problems.append(Problem("~", 0, 0, f"and {beyond} more rows with problems"))
        raise InputError(problems)
    spool = Spool(scratch, writer.rows, job.replicates, job.dedupe, envelope(job))
    return Desired(spec, spool, _pins(spec, renderer.templates.used, files, spool))


def first_requests(spec: JobSpec, root: Path, count: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(row id as JSON, key digest, body) of the first `count` rows, without a spool."""
    renderer, number = Renderer(spec, root), 1
    left = count
    for chunk in read_chunks(root, spec.job.input, spec.problem("", "input", "path"), InputFiles()):
        for request in renderer.requests(chunk, number):
            if left <= 0:
                return
            left -= 1
            number += 1
            yield request


def _doubled(spec: JobSpec, scratch: Path, files: InputFiles) -> list[Problem]:
    if spec.job.input.id is None:
        return []
    pair = first_doubled_id(scratch)
    if pair is None:
        return []
    first, second = pair
    earlier = f"{files.paths[int(first['file'])]}:{int(first['line'])}"
    message = f"this row's id in column {spec.job.input.id} stands at {earlier} already; ids must be unique"
    return [Problem(files.paths[int(second["file"])], int(second["line"]), 0, message)]


def _pins(spec: JobSpec, used: dict[str, str], files: InputFiles, spool: Spool) -> Pins:
    job = spec.job
    return Pins(
        spec=digest_json(job.model_dump(mode="json", exclude=_NOT_IN_ANSWERS, exclude_defaults=True)),
        templates=dict(sorted(used.items())),
        input_path=job.input.path,
        input_digest=files.digest(),
        rows=spool.rows,
        requests=sequence_digest(spool),
        parameters={name: _short(job.parameters[name]) for name in sorted(job.parameters)},
        model=job.model,
        line_format=job.line_format,
        endpoint=job.url,
    )


def _short(value: Any) -> Any:
    """A parameter as the lockfile shows it: itself where it is short, else its digest."""
    if isinstance(value, (int, float, bool)) or value is None or (isinstance(value, str) and len(value) <= 80):
        return value
    return f"sha256:{digest_json(value)}"


def _columns(row: Row) -> str:
    names = list(row.values)
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "no columns"
