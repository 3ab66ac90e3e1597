"""`batchspec log`: the history of a job, from its lockfile in git."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.base.humanize import counted
from runner.cli.completion import complete_jobs
from runner.cli.loading import load_jobs
from runner.cli.options import Provider
from runner.cli.terminal.printing import give, say
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.report.history import Entry


def log(
    address: Annotated[
        str, typer.Argument(autocompletion=complete_jobs, metavar="JOB", help="The job.", show_default=False)
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of lockfile commits to read.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Write a JSON list, for programs.")] = False,
    provider: Provider = None,
) -> None:
    """Show when a job ran, who committed it, which model answered, what changed and what it cost. Newest first.

    A name that several jobs share shows all of them. For a partitioned job, shows the partitions in its lockfile.
    """
    from runner.report.history import history  # noqa: PLC0415

    project, jobs = load_jobs(None, None, [address], provider, recorded=True)
    if not all(spec.own_provider for spec in jobs):
        raise BatchspecError(
            f"a run with --provider {provider} is not recorded in git, so it has no history",
            hint="see those runs with `batchspec report`",
            code="BS804",
        )
    together: dict[str, list[str]] = {}
    for spec in jobs:
        together.setdefault(spec.lock_path, []).append(spec.address)
    name = project.settings.project
    by_path = {path: history(project.root, path, name, addresses, limit) for path, addresses in together.items()}
    found = [(spec, by_path[spec.lock_path][spec.address]) for spec in jobs]
    if json:
        import orjson  # noqa: PLC0415

        fields = [{"job": spec.address, **_fields(entry)} for spec, entries in found for entry in entries]
        give(orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return
    for spec, entries in found:
        if len(found) > 1:
            say(f"{spec.address}\n")
        for entry in entries:
            say("\n".join(_lines(entry)) + "\n")
        if not entries:
            say(f"{spec.lock_path} has no entry for {spec.address} yet; `batchspec apply` creates it.")


def _lines(entry: Entry) -> list[str]:
    from runner.money.prices import usd_text  # noqa: PLC0415

    commit = entry.commit
    lines = [
        f"{commit.hash[:10]}  {commit.time[:16].replace('T', ' ')}  {commit.author}" if commit else "not committed"
    ]
    if commit:
        lines.append(f"    {commit.subject}")
    if entry.trouble:
        lines.append(f"    ! {entry.trouble}")
    if entry.changed:
        lines.append(f"    {entry.model}: {entry.changed}")
    for sign, verb, batches in (("+", "submitted", entry.submitted), ("=", "imported", entry.imported)):
        if batches:
            requests = counted(sum(batch.requests for batch in batches), "request")
            lines.append(f"    {sign} {verb} {requests} in {counted(len(batches), 'batch', 'batches')}")
    if entry.ended:
        ended = counted(len(entry.ended), "batch", "batches")
        counts = [batch.counts for batch in entry.ended if batch.counts]
        failed = sum(one.failed for one in counts)
        cost = f", {usd_text(entry.cost)}" if entry.cost is not None else ""
        states = ", ".join(sorted({batch.state for batch in entry.ended}))
        lines.append(
            f"    < {ended} ended ({states}): {sum(one.completed for one in counts):,} answered"
            + (f", {failed:,} failed" if failed else "")
            + cost
        )
    lines += [f"    > wrote {counted(output.rows, 'row')} to {output.output}" for output in entry.outputs]
    return lines


def _fields(entry: Entry) -> dict[str, Any]:
    commit = entry.commit
    counts = [batch.counts for batch in entry.ended if batch.counts]
    return {
        "commit": commit.hash if commit else None,
        "time": commit.time if commit else None,
        "author": commit.author if commit else None,
        "subject": commit.subject if commit else None,
        "model": entry.model,
        "changed": entry.changed,
        "submitted": {batch.batch: batch.requests for batch in entry.submitted},
        "imported": {batch.batch: batch.requests for batch in entry.imported},
        "ended": {batch.batch: batch.state for batch in entry.ended},
        "completed": sum(one.completed for one in counts),
        "failed": sum(one.failed for one in counts),
        "cost_usd": None if entry.cost is None else float(entry.cost),
        "rows": entry.rows,
        "outputs": {output.output: output.rows for output in entry.outputs},
        "trouble": entry.trouble,
    }
