"""A plan as markdown for a pull request. Equal plans give equal text, which fits into one comment.

Names, reasons and prompts may be untrusted, so they appear in code only, where they can't mention people or add links,
pictures or headings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial

from runner.base.differences import WIDTH, differing_lines, shortened
from runner.base.humanize import counted, number, plural
from runner.base.visible import visible_line
from runner.money.estimate import Estimate, total
from runner.money.prices import usd_text
from runner.reconciler.plan.plan import Example, JobPlan, Orphan, Plan, Submit
from runner.views.plan_text import (
    action_text,
    certainty,
    closed_text,
    money,
    paid_again,
    reused_text,
    to_submit,
    waiting_lines,
)

LIMIT = 65_000
"""Most characters of the text; GitHub allows 65,536."""
MARK = "<!-- batchspec plan -->"
"""The first line, by which a bot finds its comment."""

_TABLE_SHARE = 0.6
_CELL = 160
_EXAMPLE_LINES = 60
_LINE = 2 * WIDTH
_OVER = 20


def markdown(plan: Plan) -> str:
    """Return the text, with a line end, in at most LIMIT characters. What does not fit is counted, never cut."""
    head = [MARK, f"### Batchspec plan: {_summary(plan)}", ""]
    head += [line for over in plan.over_budget[:_OVER] for line in (f"**Over budget**: {code(over)}", "")]
    head += [f"{len(plan.over_budget) - _OVER} more budgets are exceeded.", ""] if len(plan.over_budget) > _OVER else []
    if plan.offline:
        head += [f"The service was not asked: {code(plan.offline)}.", ""]
    head += [line for text in (*waiting_lines(plan), *plan.later) for line in (code(text), "")]
    head += [f"{closed_text(plan)}.", ""] if plan.closed else []
    if plan.jobs:
        head += _table(plan.jobs)
    text = "\n".join(head)
    left_out = 0
    for section in [*_errors(plan.errors), *_left(plan.orphans), *_sections(plan.jobs)]:
        # Leave room for the line that counts what was omitted; stop when the text is nearly full.
        block = section() if len(text) < LIMIT - 1_000 else ""
        if block and len(text) + len(block) + 200 <= LIMIT:
            text += block
        else:
            left_out += 1
    if left_out:
        text += f"\n{number(left_out)} more {plural(left_out, 'section')} did not fit; `batchspec plan` shows all.\n"
    return text.rstrip("\n") + "\n"


def refused(message: str) -> str:
    """Return the text for specs that can't be read."""
    lines = _fence(message.split("\n"), "text", 100)
    return "\n".join((MARK, "### Batchspec plan: none, because of errors", "", *lines, ""))


def _summary(plan: Plan) -> str:
    reused = sum(job.tally.answered for job in plan.jobs)
    facts = [*to_submit(plan, "request"), reused_text(plan, reused)]
    unknown = sum(job.tally.unknown for job in plan.jobs)
    facts += [f"{number(unknown)} unknown"] if unknown else []
    removed = sum(job.removed for job in plan.jobs)
    facts += [f"{counted(removed, 'row')} removed"] if removed else []
    unknown_count = sum(len(job.unknown_batches) for job in plan.jobs)
    unknown_batches = (
        [f"**answers of {counted(unknown_count, 'batch', 'batches')} that the service does not know**"]
        if unknown_count
        else []
    )
    facts += unknown_batches
    facts += [f"{counted(len(plan.errors), 'job')} with errors"] if plan.errors else []
    estimates = [job.estimate for job in plan.jobs if job.estimate is not None]
    if not plan.changes and not plan.errors:
        return ", ".join(("nothing to do", facts[1], *unknown_batches))
    priced = [one for one in estimates if one.price is not None]
    if priced:
        facts.append(money(total(one.expected for one in priced), total(one.ceiling for one in priced)))
    unpriced = len(estimates) - len(priced)
    if unpriced:
        facts.append(f"no price known for {counted(unpriced, 'job')}")
    return ", ".join(facts)


_ALWAYS = {"job", "rows", "new", "reused", "tokens", "cost", "why"}
_LEFT = {"job", "tokens", "cost", "why"}


def _table(jobs: Sequence[JobPlan]) -> list[str]:
    """Return the table, changed jobs first. Counts jobs that do not fit; omits empty columns."""
    ordered = sorted(jobs, key=lambda job: not job.changes)
    cells = [_cells(job) for job in ordered]
    columns = [name for name in cells[0] if name in _ALWAYS or any(row[name] for row in cells)]
    rule = "|".join("---" if name in _LEFT else "--:" for name in columns)
    head = {"cost": "cost: spent → after"} if any(job.spent is not None for job in jobs) else {}
    lines, size = [f"| {' | '.join(head.get(name, name) for name in columns)} |", f"|{rule}|"], 0
    for position, row in enumerate(cells):
        line = f"| {' | '.join(row[name] for name in columns)} |"
        size += len(line) + 1
        if size > LIMIT * _TABLE_SHARE:
            rest = ordered[position:]
            changing = sum(one.changes for one in rest)
            return [*lines, "", f"{number(len(rest))} more jobs, {number(changing)} of them with something to do.", ""]
        lines.append(line)
    return [*lines, ""]


def _cells(job: JobPlan) -> dict[str, str]:
    """Return a job's cells by column; empty for zero."""
    tally = job.tally
    rounds = [action for action in job.actions if isinstance(action, Submit)]
    counts = {
        "new": job.new,
        "reused": tally.answered,
        "retried": sum(action.requests for action in rounds if action.round > 1),
        "removed": job.removed,
        "in flight": tally.in_flight,
        "held back": job.held_back,
        "failed": tally.failed,
        "unknown": tally.unknown,
    }
    reasons = "; ".join(action.reason for action in rounds if action.round == 1) or (
        job.actions[0].reason if job.actions else ""
    )
    return {
        "job": _cell(job.address),
        "rows": _rows(job),
        **{name: number(count) if count else "" for name, count in counts.items()},
        "tokens": _tokens(job.estimate),
        "cost": _cost(job.estimate, job.spent),
        "why": _cell(reasons) if reasons else "nothing to do",
    }


def _cell(text: str) -> str:
    """Return inline code for a table. A bar ends a cell even in code, and readers disagree on escapes."""
    return code(text.replace("|", "\u00a6"))


def _rows(job: JobPlan) -> str:
    rows, before = job.tally.rows, job.rows_before
    return number(rows) if before in {None, rows} else f"{number(before or 0)} → {number(rows)}"


def _tokens(estimate: Estimate | None) -> str:
    """Return tokens in and out: `520 in (exact), 200 to 2,560 out`."""
    if estimate is None or not estimate.requests:
        return ""
    low, high = estimate.output.expected, estimate.output.high
    limit = "no limit" if high is None else f"up to {number(high)}"
    answers = (
        limit if low is None else f"{number(low)}, no limit" if high is None else f"{number(low)} to {number(high)}"
    )
    return f"{number(estimate.input.expected)} in ({estimate.input.certainty.value}), {answers} out"


def _cost(estimate: Estimate | None, spent: Decimal | None) -> str:
    """Return the cost so far and after apply: `$0.10 → $0.12, at most $0.15`."""
    if estimate is None:
        return f"{usd_text(spent)} spent" if spent is not None else ""
    if estimate.price is None:
        return "no price known"
    before = spent or Decimal(0)
    likely, most = ((None if more is None else before + more) for more in (estimate.expected, estimate.ceiling))
    shown = ("" if spent is None else f"{usd_text(before)} → ") + money(likely, most)
    return shown if estimate.price.batch else f"{shown} (no batch rate known: full price)"


Section = Callable[[], str]


def _errors(errors: Mapping[str, str]) -> list[Section]:
    def section(address: str, message: str) -> str:
        return "\n".join(("", f"Error in {code(address)}:", "", *_fence(message.split("\n"), "text", 40), ""))

    return [partial(section, address, message) for address, message in errors.items()]


def _left(orphans: Sequence[Orphan]) -> list[Section]:
    lines = []
    for orphan in orphans:
        state = f"{len(orphan.running)} running, {orphan.ended + len(orphan.over)} ended"
        ends = (
            f"; {len(orphan.cancel)} will be cancelled"
            if orphan.cancel
            else "; not cancelled"
            if orphan.running
            else ""
        )
        lines.append(f"{orphan.address} ({orphan.realm}): {state}{ends}")
    return [lambda: _folded("jobs that no spec defines any more", _fence(lines, "text", 100))] if lines else []


def _sections(jobs: Sequence[JobPlan]) -> list[Section]:
    """Yield functions that make folded sections: changed prompts, then details."""
    prompts: list[Section] = [
        partial(_prompt, job.address, example)
        for job in jobs
        for example in job.examples
        if example.before != example.after
    ]
    held = (job for job in jobs if job.actions or job.notes or job.failures or job.warnings)
    return [*prompts, *(partial(_details, job) for job in held)]


def _prompt(address: str, example: Example) -> str:
    return _folded(f"{code(address)}: prompt of row {code(example.row)}", _difference(example))


def _details(job: JobPlan) -> str:
    estimate = job.estimate
    lines = [action_text(action) for action in job.actions]
    # The service's reasons for a failed batch may quote rows.
    failed = plural(len(job.failures), "reason")
    hidden = [f"{len(job.failures)} {failed} why batches failed; `batchspec plan` shows more"] if job.failures else []
    lines += [f"warning: {warning}" for warning in job.warnings]
    lines += [f"note: {note}" for note in (*(job.failures if job.shown else hidden), *job.notes)]
    if estimate is not None:
        lines += [f"input tokens: {certainty(estimate)} ({estimate.input.basis})"] if estimate.requests else []
        lines += [f"price: {estimate.price.source}"] if estimate.price is not None else []
        lines += paid_again(estimate)
    return _folded(f"{code(job.address)}: details", _fence("\n".join(lines).split("\n"), "text", 200))


def _folded(title: str, lines: Sequence[str]) -> str:
    inner = "\n".join(lines)
    return f"\n<details><summary>{_as_html(title)}</summary>\n\n{inner}\n\n</details>\n"


def _difference(example: Example) -> list[str]:
    if example.before is None:
        lines = [f"+{shortened(line)}" for line in example.after.split("\n")]
    else:
        lines = differing_lines(example.before, example.after)
    return _fence(lines, "diff", _EXAMPLE_LINES)


def _fence(lines: Sequence[str], kind: str, most: int) -> list[str]:
    """Return lines in a fence longer than any run of backticks in them."""
    more = len(lines) - most
    lines = [shortened(line, _LINE) for line in lines[:most]] + ([f"… {more} more lines"] if more > 0 else [])
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{kind}", *lines, fence]


def code(text: str) -> str:
    """Return a text as inline code on one line, with no markup active."""
    flat = visible_line(re.sub(r"[ \t\r\n]+", " ", text).strip()).replace("`", "'")
    return f"`{flat if len(flat) <= _CELL else f'{flat[: _CELL - 1]}…'}`" if flat else ""


def _as_html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escaped)
