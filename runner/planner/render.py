"""Render a whole job into a spool, in this process or in workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import jinja2
import orjson

from runner.errors import InputError, NoInput, Problem, SpecError
from runner.jobspec.loader import JobSpec
from runner.planner.cache import MIN_CACHED_BYTES, CacheManifest, RenderCache
from runner.planner.input.limits import INPUT_BYTES
from runner.planner.input.parse import Chunk, RowProblem, rows
from runner.planner.input.source import hash_files, input_size, is_whole, read_chunks
from runner.planner.input.streams import InputFiles
from runner.planner.requests.layout import RequestLayout, build_layout
from runner.planner.requests.refusal_rules import Finding, Found, Limits
from runner.planner.requests.renderer import Renderer
from runner.planner.spool.pins import Pins, pins_of
from runner.planner.spool.spool import Part, Spool, SpoolWriter, duplicate_ids, sequence_digest
from runner.planner.templates.check import template_problems
from runner.planner.templates.environment import Templates

MAX_PROBLEMS = 20
"""Input problems shown; one more line counts the rest."""
SMALL_CHUNKS = 8
"""Inputs with at most this many chunks are rendered in this process: starting workers would take longer."""

Progress = Callable[[int, int], None]
"""Called with the input bytes read so far, and their total."""


@dataclass(frozen=True, slots=True)
class Desired:
    """One job's desired state: requests on disk, their origin, and findings.

    `kept_rows` has the input's rows as JSON lines, if they were kept.
    """

    spec: JobSpec
    root: Path
    spool: Spool
    pins: Pins
    findings: tuple[Finding, ...] = ()
    kept_rows: Path | None = None


def render_job(
    spec: JobSpec,
    root: Path,
    scratch: Path,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    keep_in: Path | None = None,
    limits: Limits | None = None,
    templates: Path | None = None,
) -> Desired:
    """Render a whole job into `scratch` with at most `jobs` processes (default: one per core).

    The bytes are the same for any number of processes. Loads the rendering in `keep_in` if nothing changed; lines are
    then rendered on demand. Raises SpecError for templates, InputError for rows, all problems at once, and WorkerError
    if a worker dies. Raises NoInput for a period without rows, unless `input.empty` allows it.
    """
    rendering = _Rendering(spec, root, jobs, progress, limits, templates or root)
    desired = _render(rendering, spec, root, scratch, keep_in)
    _check_rows(desired)
    return desired


def _render(rendering: _Rendering, spec: JobSpec, root: Path, scratch: Path, keep_in: Path | None) -> Desired:
    if keep_in is None:
        return rendering.render(scratch)
    settings = [spec.job.replicates, spec.job.dedupe, spec.job.input.model_dump(mode="json", exclude={"empty"})]
    cached = RenderCache(keep_in, root, rendering.layout, settings)
    size = input_size(root, spec) if is_whole(spec.job.input) and not _may_be_missing(spec) else 0
    if size >= MIN_CACHED_BYTES and cached.maybe_fresh(size):
        files = InputFiles()
        hash_files(root, spec, files)
        manifest = cached.load(files.digest(), scratch / "kept")
        if manifest is not None:
            return rendering.from_cache(manifest, scratch)
    desired = rendering.render(scratch)
    cached.store(desired.spool, rendering.templates.loaded, size, desired.pins, desired.findings)
    return desired


def _may_be_missing(spec: JobSpec) -> bool:
    """Return whether a missing input is an empty one: that of a period which may be empty."""
    return spec.axes.schedule is not None and spec.job.input.empty == "allow"


def _input_chunks(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    return _chunks_if_any(root, spec, files) if _may_be_missing(spec) else read_chunks(root, spec, files)


def _chunks_if_any(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    try:
        yield from read_chunks(root, spec, files)
    except NoInput:
        return


def _check_rows(desired: Desired) -> None:
    """Raise NoInput for an input without rows that has to have some: by `empty: error`, or of a period."""
    spec = desired.spec
    empty = spec.job.input.empty
    waits = spec.axes.schedule is not None and empty != "allow"
    if desired.spool.rows == 0 and (waits or empty == "error"):
        raise NoInput([spec.problem("the input has no rows", "input", key=True, code="BS212")])


class _Rendering:
    """One rendering. Raises SpecError if a template does not compile."""

    def __init__(
        self,
        spec: JobSpec,
        root: Path,
        jobs: int | None,
        progress: Progress | None,
        limits: Limits | None,
        templates: Path,
    ) -> None:
        self._spec = spec
        self._root = root
        self._templates_root = templates
        self._processes = cores() if jobs is None else jobs
        self._progress = progress
        self.layout = build_layout(spec, limits)
        self.templates = Templates(templates, self.layout.variables)
        self._renderer = _compiled(spec, templates, self.layout, self.templates)

    def render(self, scratch: Path) -> Desired:
        job = self._spec.job
        files = InputFiles()
        problem_list, found, rendered_bytes = ProblemList(files), Found(), 0
        with ExitStack() as stack:
            writer = stack.enter_context(SpoolWriter(scratch))
            chunks = _ReadableChunks(_input_chunks(self._root, self._spec, files))
            for part in self._parts(chunks, scratch, stack):
                writer.add(part)
                problem_list.add(part)
                rendered_bytes += sum(size for *_, size in part.spans)
                if rendered_bytes > files.limits.rendered(max(files.size, files.unpacked)):
                    raise SpecError(
                        [self._spec.problem(_TOO_LARGE.format(rendered_bytes), "prompt", key=True, code="BS206")]
                    )
                found.add(part.findings, part.seen)
                if self._progress is not None:
                    self._progress(files.size, files.total)
            spool = writer.finish(job.replicates, dedupe=job.dedupe, numbered=not job.input.id_columns)
        problems = [*problem_list.problems, *chunks.problems, *_duplicate_id_problems(self._spec, spool, files)]
        if problems:
            raise InputError(problems)
        pins = pins_of(self._spec, self.templates.used, files.digest(), spool.rows, sequence_digest(spool))
        return Desired(self._spec, self._root, spool, pins, found.all())

    def from_cache(self, manifest: CacheManifest, scratch: Path) -> Desired:
        """Return the cached rendering. Lines rendered later must have its keys."""
        job = self._spec.job
        spool = Spool(scratch / "kept", manifest.rows, job.replicates, job.dedupe, not job.input.id_columns)
        used = {path: digest for path, digest, problem in manifest.templates.values() if not problem}
        pins = pins_of(self._spec, used, manifest.input_digest, manifest.rows, manifest.requests)

        def render_now() -> Spool:
            desired = self.render(scratch / "again")
            if desired.pins != pins:
                raise InputError(
                    [
                        Problem(
                            job.input.source,
                            0,
                            0,
                            "the input or a template changed during rendering",
                            _RUN_AGAIN,
                            code="BS207",
                        )
                    ]
                )
            return desired.spool

        spool.render_when_needed(render_now)
        return Desired(self._spec, self._root, spool, pins, manifest.restore_findings())

    def _parts(self, chunks: Iterator[Chunk], scratch: Path, stack: ExitStack) -> Iterator[Part]:
        first_chunks = list(islice(chunks, SMALL_CHUNKS + 1))
        if self._processes < 2 or len(first_chunks) <= SMALL_CHUNKS:
            return _render_in_process(
                self._renderer, chain(first_chunks, chunks), stack.enter_context((scratch / "lines").open("wb"))
            )
        from runner.planner.requests.worker_pool import WorkerPool  # noqa: PLC0415  small inputs need none

        workers = WorkerPool(self._processes, self.layout, self.templates, self._templates_root, scratch)
        return stack.enter_context(workers).render(chain(first_chunks, chunks))


_TOO_LARGE = f"the requests together exceed {{}} bytes; raise the limit with the environment variable {INPUT_BYTES}"
_RUN_AGAIN = "run the command again"
_MAX_SHOWN_ID = 100
"""Longest part of an id that a message shows, in bytes."""


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def input_rows(desired: Desired) -> Iterator[dict[str, Any]]:
    """Yield the input's rows. Raises InputError if it changed."""
    if desired.kept_rows is not None:
        with desired.kept_rows.open("rb") as kept:
            yield from map(orjson.loads, kept)
        return
    files = InputFiles()
    for chunk in _input_chunks(desired.root, desired.spec, files):
        for record in rows(chunk):
            if isinstance(record, tuple):
                yield record[1]
    if files.digest() != desired.pins.input_digest:
        source = desired.spec.job.input.source
        raise InputError(
            [Problem(source, 0, 0, "the input changed during the run; run the command again", code="BS207")]
        )


def first_requests(
    spec: JobSpec, root: Path, count: int, *, rows_of: tuple[JobSpec, Path] | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (row id as JSON, line) of the first `count` rows. Raises InputError at the first bad row.

    `rows_of` takes another job's rows, given with its root.
    """
    layout = build_layout(spec)
    renderer = _compiled(spec, root, layout, Templates(root, layout.variables))
    files, number = InputFiles(), 0
    source, folder = rows_of or (spec, root)
    for chunk in read_chunks(folder, source, files):
        first = number
        for request in renderer.requests(chunk):
            if number >= count:
                return
            if isinstance(request, RowProblem):
                raise InputError([_problem(request, files.paths[chunk.file_number], first)])
            number += 1
            yield request[0] or b"%d" % number, request[1]


def _compiled(spec: JobSpec, root: Path, layout: RequestLayout, templates: Templates) -> Renderer:
    try:
        return Renderer(layout, templates)
    except jinja2.TemplateError as error:
        raise SpecError(template_problems(root, [spec])) from error


def _render_in_process(renderer: Renderer, chunks: Iterable[Chunk], lines: BinaryIO) -> Iterator[Part]:
    offset = 0
    for chunk in chunks:
        done = renderer.render(chunk)
        lines.write(done.lines)
        spans = []
        for count, size in done.spans:
            spans.append(("lines", offset, count, size))
            offset += size
        yield Part(
            chunk.file_number, done.records, done.ids, tuple(spans), done.seen, done.bad, done.problems, done.findings
        )


class _ReadableChunks:
    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self.problems: list[Problem] = []

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while len(self.problems) < MAX_PROBLEMS:
            try:
                return next(self._chunks)
            except NoInput:
                raise
            except InputError as error:
                self.problems += error.problems
        raise StopIteration


class ProblemList:
    """All parts' row problems, up to MAX_PROBLEMS."""

    def __init__(self, files: InputFiles) -> None:
        self._files = files
        self._seen = 0
        self._bad = 0
        self._problems: list[Problem] = []

    def add(self, part: Part) -> None:
        """Add the next part's problems."""
        for problem in part.problems[: MAX_PROBLEMS - len(self._problems)]:
            self._problems.append(_problem(problem, self._files.paths[part.file_number], self._seen))
        self._seen += part.seen
        self._bad += part.bad

    @property
    def problems(self) -> list[Problem]:
        """Return the problems, and a count of those beyond the limit."""
        beyond = self._bad - len(self._problems)
        more = [Problem("~", 0, 0, f"and {beyond} more rows with problems")] if beyond else []
        return self._problems + more


def _problem(problem: RowProblem, path: str, before: int) -> Problem:
    prefix = f"row {before + problem.position + 1}: " if problem.position >= 0 else ""
    return Problem(
        path, problem.line, problem.column, prefix + problem.message, code=problem.code, public=problem.public
    )


def _duplicate_id_problems(spec: JobSpec, spool: Spool, files: InputFiles) -> list[Problem]:
    if spool.numbered:
        return []
    pairs, total = duplicate_ids(spool, MAX_PROBLEMS)
    columns = " and ".join(spec.job.input.id_columns)
    problems = []
    for first, second, name in pairs:
        earlier = f"{files.paths[int(first['file'])]}:{int(first['line'])}"
        rest = f"in column {columns} is already used at {earlier}; ids must be unique"
        place = files.paths[int(second["file"])], int(second["line"]), 0
        shown = name.decode() if len(name) <= _MAX_SHOWN_ID else name[:_MAX_SHOWN_ID].decode(errors="ignore") + "…"
        problems.append(Problem(*place, f"the id {shown} {rest}", public=f"this row's id {rest}", code="BS205"))
    if total > len(pairs):
        problems.append(Problem("~", 0, 0, f"and {total - len(pairs)} more rows with a duplicate id"))
    return problems
