"""Sends `notify:`: one POST of a JSON object with a `text` at the end of a command. It never fails a command.

The text has addresses, counts, costs and error codes. It has no prompt, no answer, no message of a service and no URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from runner.base.humanize import counted
from runner.context import Context
from runner.errors import TrustError
from runner.executor.outcome import Outcome
from runner.jobspec.settings import Notify
from runner.jobspec.trust import resolve_notify_url
from runner.money.prices import usd_text

TIMEOUT = 5.0
"""Seconds to connect, and to wait for the answer."""
MOST = 20
"""Jobs that a text names. The others are counted."""
_NOT_PLAIN = re.compile(r"[^\w\-., =\[\]]")


def notify_end(
    context: Context,
    outcomes: Sequence[Outcome],
    changed: Collection[str],
    errors: Mapping[str, Sequence[str]],
) -> None:
    """Notify of jobs that ended. `changed` had anything to do; `errors` could not be planned, with their codes."""
    notify = context.project.settings.notify
    if notify is None:
        return
    lines = [line for outcome in outcomes if (line := _line(notify, outcome, outcome.address in changed))]
    if "failed" in notify.on:
        lines += [f"{plain_address(address)}: error {_codes(codes)}".rstrip() for address, codes in errors.items()]
    _send(context, notify, lines)


def notify_over_budget(context: Context, jobs: int) -> None:
    """Notify that nothing was submitted because the plan of so many jobs is over a budget."""
    notify = context.project.settings.notify
    if notify is not None and "over_budget" in notify.on:
        _send(context, notify, [f"over budget: the plan of {counted(jobs, 'job')} was not applied"])


def _line(notify: Notify, outcome: Outcome, changed: bool) -> str:
    """Return the line about a job; empty if nobody asked for it."""
    if outcome.end == "error" and "failed" in notify.on:
        what = f"error {_codes(outcome.codes)}".rstrip()
    elif outcome.end in {"succeeded", "failed"} and changed and outcome.end in notify.on:
        what = outcome.end
    else:
        return ""
    return f"{plain_address(outcome.address)}: {', '.join((what, *_facts(outcome)))}"


def _facts(outcome: Outcome) -> Iterator[str]:
    if outcome.plan is not None:
        tally = outcome.plan.tally
        yield counted(tally.rows, "row")
        yield from (
            f"{count:,} {what}" for count, what in ((tally.failed, "failed"), (tally.unknown, "unknown")) if count
        )
    paid = [one for one in (outcome.cost, outcome.earlier) if one is not None]
    if paid:
        yield f"cost {usd_text(sum(paid[1:], paid[0]))}"


def _codes(codes: Sequence[str]) -> str:
    return " ".join(codes)


def plain_address(text: str) -> str:
    """Return an address without characters that a chat reads as a link, a mention or formatting."""
    return _NOT_PLAIN.sub("_", text)[:200]


def _send(context: Context, notify: Notify, lines: Sequence[str]) -> None:
    """Send one message, if there is anything in it. An error is an event that people see."""
    if not lines:
        return
    more = [f"and {len(lines) - MOST:,} more"] if len(lines) > MOST else []
    head = f"Batchspec, project {plain_address(context.name)}"
    text = "\n".join([head, *lines[:MOST], *more])
    try:
        reason = _post(resolve_notify_url(notify.url.env, context.environ), text)
    except TrustError as error:
        reason = error.message
    if reason:
        context.watcher.event("notify.failed", reason=reason)


def _post(url: str, text: str) -> str:
    """Return why the message could not be sent, without the URL, which is a secret; empty if it was sent."""
    import httpx  # noqa: PLC0415  most commands notify nobody

    try:
        with httpx.stream("POST", url, json={"text": text}, timeout=TIMEOUT, follow_redirects=False) as response:
            return "" if response.is_success else f"the receiver answered {response.status_code}"
    except httpx.TimeoutException:
        return f"the receiver did not answer within {TIMEOUT:g} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return f"no connection to the receiver ({type(error).__name__})"
