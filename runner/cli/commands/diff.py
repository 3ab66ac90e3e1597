"""`batchspec diff`: the answers that differ between two versions of a job's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runner.base.differences import differing_lines, windows
from runner.base.humanize import counted
from runner.base.visible import visible_line
from runner.cli.completion import complete_jobs
from runner.cli.loading import only_job
from runner.cli.options import Provider
from runner.cli.terminal.printing import give, say
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from pathlib import Path

    from runner.api import Session
    from runner.evaluation.flips import Flips
    from runner.jobspec.loader import JobSpec
    from runner.report.compare import Comparison


def diff(
    revisions: Annotated[
        str,
        typer.Argument(metavar="REV..REV", help="Two commits. `REV` or `REV..` compares with the files here."),
    ],
    address: Annotated[
        str, typer.Argument(autocompletion=complete_jobs, metavar="JOB", help="The job.", show_default=False)
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Changed rows to show.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
    provider: Provider = None,
) -> None:
    """Show which answers changed between two commits, by row id and, for structured answers, by field.

    Reads the committed outputs, so outputs must be in git.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from runner.api import open_project  # noqa: PLC0415
    from runner.report.compare import compare  # noqa: PLC0415
    from runner.report.rows import READABLE, plain  # noqa: PLC0415

    project, spec = only_job(address, provider)
    path = spec.job.output.path
    if not spec.own_provider:
        raise BatchspecError(
            f"a run with --provider {provider} is not recorded in git",
            hint="leave out --provider",
            code="BS804",
        )
    kind = spec.job.output.kind
    if kind not in READABLE:
        raise BatchspecError(
            f"cannot compare {path}: it is {kind}", hint="only JSON Lines and CSV outputs can be compared", code="BS804"
        )
    older, dots, newer = revisions.partition("..")
    with open_project(project, reads=True) as opened, opened.context.places.scratch(read_only=True) as scratch:
        before = _version(project.root, path, older or "HEAD", scratch / "before")
        after = project.root / path if not dots or not newer else _version(project.root, path, newer, scratch / "after")
        if not after.is_file():
            raise BatchspecError(f"{path} does not exist", hint="write it with `batchspec apply`", code="BS804")
        before, after = (
            plain(version, kind, path, scratch / f"{side}.jsonl") for side, version in (("old", before), ("new", after))
        )
        found = compare(before, after, scratch, limit)
        scores = _scores(opened, spec, before, after, scratch, limit)
    if json:
        import orjson  # noqa: PLC0415

        document = asdict(found) | ({} if scores is None else {"scores": asdict(scores)})
        give(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return
    say("\n".join([*_lines(found, limit), *(() if scores is None else _score_lines(scores))]))


def _scores(opened: Session, spec: JobSpec, before: Path, after: Path, scratch: Path, limit: int) -> Flips | None:
    """Return how scores changed; None for a job without graders. Raises BatchspecError."""
    if spec.job.evaluate is None:
        return None
    from runner.evaluation.flips import score_changes  # noqa: PLC0415

    prepared, errors = opened.prepare([spec])
    for error in errors.values():
        raise error
    return score_changes(prepared[0].desired, before, after, scratch, limit)


def _score_lines(scores: Flips) -> list[str]:
    lines = ["", "Scores, with today's graders:"]
    lines += [f"  {visible_line(one.id)}  {one.grader}: {one.before:g} -> {one.after:g}" for one in scores.rows]
    lines += [f"  {name}: {scores.worse[name]:,} worse, {scores.better[name]:,} better" for name in scores.worse]
    return lines


def _version(root: Path, path: str, revision: str, target: Path) -> Path:
    from runner.report.git import Git  # noqa: PLC0415

    git = Git(root)
    commit = git.resolve(revision)
    if not git.copy(commit, path, target):
        raise BatchspecError(
            f"{path} is not in commit {commit[:10]} ({revision})",
            hint="diff reads outputs from git. Commit the output, or name a commit that contains it",
            code="BS804",
        )
    return target


def _lines(found: Comparison, limit: int) -> list[str]:
    lines: list[str] = []
    for change in found.changes:
        names = f"  ({', '.join(change.fields)})" if change.fields else ""
        lines += [f"{visible_line(change.id)}{names}", *_difference(change.before, change.after), ""]
    if limit and found.changed > len(found.changes):
        lines += [f"… and {found.changed - len(found.changes):,} more changed rows; use `--limit` to show more", ""]
    if found.compared_fields:
        lines.append(f"Fields, over {found.compared_fields:,} changed rows with structured answers:")
        for one in found.fields:
            lines.append(f"  {one.name}: {one.rows:,} changed")
            lines += [f"      {count:>7,}  {before} -> {after}" for before, after, count in one.values]
        lines.append("")
    total = found.same + found.changed
    share = f" ({found.changed / total:.1%})" if total else ""
    facts = [f"{found.changed:,} of {total:,} answers changed{share}"]
    facts += [f"{counted(found.added, 'row')} added"] if found.added else []
    facts += [f"{counted(found.removed, 'row')} removed"] if found.removed else []
    facts += [f"{found.now_failed:,} now failed"] if found.now_failed else []
    facts += [f"{found.now_answered:,} now answered"] if found.now_answered else []
    return [*lines, ", ".join(facts) + "."]


def _difference(before: str, after: str, most: int = 24) -> list[str]:
    if "\n" not in before + after:
        lines = [f"{mark}{text}" for mark, text in zip("-+", windows(before, after), strict=True)]
    else:
        lines = differing_lines(before, after)
    more = [f"  \u2026 {len(lines) - most:,} more lines"] if len(lines) > most else []
    return [*(f"  {line[:1]} {line[1:]}".rstrip() for line in lines[:most] if line[:2] != "@@"), *more]
