"""`batchspec render`: the requests that would be uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from runner.base.differences import differing_lines, windows
from runner.base.visible import visible_json
from runner.cli.loading import load_jobs
from runner.cli.options import Exclude, JobName, Paths, Provider, Select, Var
from runner.cli.terminal.printing import give, say
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec, Project

_LOOKED_AT = 1_000
"""Rows of each job that `--diff` renders both ways."""
_ALL = 1 << 62
_VALUE = 120
"""Characters of a changed field that are shown."""


def render(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    var: Var = None,
    provider: Provider = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Requests to print for each job.")] = 3,
    row: Annotated[
        list[str] | None, typer.Option("--row", metavar="ID", help="Only the row with this id. Repeatable.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--diff", metavar="REV", help="Show prompts that differ from those of a git commit.")
    ] = None,
    pretty: Annotated[bool, typer.Option("--pretty", help="Indent the JSON and show each row's id.")] = False,
) -> None:
    """Print the first requests of each job, exactly as they would be uploaded. Submits nothing.

    With --diff, also render the current rows with the spec and templates of another commit, and show differences.
    """
    import json  # noqa: PLC0415

    project, jobs = load_jobs(paths, var, job, provider, select=select, exclude=exclude)
    if revision is not None:
        say("\n".join(_differences(project, jobs, revision, limit, row)))
        return
    wanted = set(row or ())
    found: set[str] = set()
    for spec in jobs:
        for identity, line in _requests(spec, project, limit, wanted):
            found.add(_id(identity))
            if pretty:
                say(f"# {spec.address}, row {identity.decode()}")
                say(visible_json(json.dumps(json.loads(line), indent=2, ensure_ascii=False)))
            else:
                give(line.decode())
    if missing := sorted(wanted - found):
        raise BatchspecError(
            f"there is no row {missing[0]}", hint="write an id of several columns as a,b", code="BS810"
        )


def _requests(spec: JobSpec, project: Project, limit: int, wanted: set[str]) -> Iterator[tuple[bytes, bytes]]:
    from runner.planner.render import first_requests  # noqa: PLC0415

    if not wanted:
        yield from first_requests(spec, project.root, limit)
        return
    remaining = set(wanted)
    for identity, line in first_requests(spec, project.root, _ALL):
        if _id(identity) in remaining:
            remaining.discard(_id(identity))
            yield identity, line
        if not remaining:
            return


def _id(identity: bytes) -> str:
    import json  # noqa: PLC0415

    value = json.loads(identity)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _differences(
    project: Project, jobs: tuple[JobSpec, ...], revision: str, limit: int, row: list[str] | None
) -> Iterator[str]:
    import tempfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from runner.operations.earlier_spec import earlier  # noqa: PLC0415
    from runner.planner.render import first_requests  # noqa: PLC0415
    from runner.report.git import Git  # noqa: PLC0415

    commit = Git(project.root).resolve(revision)
    for spec in jobs:
        with tempfile.TemporaryDirectory(prefix="batchspec-") as folder:
            before = earlier(project, spec, commit, Path(folder))
            if before is None:
                yield f"{spec.address}: no such job at {revision}"
                continue
            old = first_requests(before, Path(folder), _LOOKED_AT, rows_of=(spec, project.root))
            new = first_requests(spec, project.root, _LOOKED_AT)
            changed, looked = 0, 0
            for (_, one), (identity, other) in zip(old, new, strict=False):
                if row and _id(identity) not in row:
                    continue
                looked += 1
                if one != other:
                    changed += 1
                    if changed <= limit:
                        yield from _difference(f"{spec.address}, row {_id(identity)}", one, other)
            yield f"{spec.address}: {changed} of the first {looked} requests differ from {revision}"


def _difference(title: str, one: bytes, other: bytes) -> Iterator[str]:
    import json  # noqa: PLC0415

    from runner.report.prompts import key_and_prompt  # noqa: PLC0415

    yield f"# {title}"
    before, after = (key_and_prompt(line)[1] for line in (one, other))
    if before != after:
        yield from (line for line in differing_lines(before, after) if not line.startswith("@@"))
    bodies = [json.loads(line) for line in (one, other)]
    fields = [body.get("body") or body["params"] for body in bodies]
    names = dict.fromkeys([*fields[0], *fields[1]])
    asked = {"messages", "input", "system", "instructions"}
    for name in names:
        if name not in asked and fields[0].get(name) != fields[1].get(name):
            old, new = windows(_text(fields[0].get(name)), _text(fields[1].get(name)), _VALUE)
            yield f"  {name}: {old} -> {new}"
    yield ""


def _text(value: object) -> str:
    import json  # noqa: PLC0415

    return "none" if value is None else json.dumps(value, ensure_ascii=False)
