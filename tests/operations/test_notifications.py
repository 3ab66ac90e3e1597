"""`notify:` sends one message at the end, without prompts, answers and URLs, and never fails a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import TrustError
from runner.jobspec.trust import resolve_env, resolve_notify_url
from runner.operations.notifications import plain_address
from tests.cli_runner import run_cli
from tests.conftest import ROWS, SPEC
from tests.sampling import sampled
from tests.service.receiver import Receiver, serve_receiver

Write = Callable[..., Path]
SETTINGS = "version: 1\nproject: tests\nnotify: {{url: {{env: BATCHSPEC_NOTIFY_URL}}, on: {on}}}\n"
ALL = "[succeeded, failed, over_budget]"


@pytest.fixture
def chat() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


def settings(on: str = ALL, more: str = "") -> str:
    return SETTINGS.format(on=on) + more


def apply(root: Path, url: str | None, *options: str) -> tuple[int, str]:
    """Apply with the embedded service. Return the exit code and what people see."""
    environ = {**os.environ, **({} if url is None else {"BATCHSPEC_NOTIFY_URL": url})}
    done = run_cli(["apply", "--yes", "--provider", "local", *options], cwd=root, env=environ)
    return done.returncode, done.stdout + done.stderr


def texts(chat: Receiver) -> list[str]:
    for one in chat.received:
        assert one.event.keys() == {"text"}
        assert one.headers["content-type"] == "application/json"
    return [one.event["text"] for one in chat.received]


def test_a_job_that_succeeds_is_reported_once(project: Write, chat: Receiver) -> None:
    root = project({"batchspec.yaml": settings()})
    assert apply(root, f"{chat.url}/secret-path")[0] == 0
    [text] = texts(chat)
    assert text.startswith("Batchspec, project tests\nhello: succeeded, 3 rows, cost $")
    assert apply(root, chat.url)[0] == 0  # nothing to do
    assert len(chat.received) == 1
    assert chat.received[0].path == "/secret-path"
    for hidden in ("Say", "one", "http", "secret-path"):
        assert hidden not in text.replace("hello", "")


@pytest.mark.parametrize(("on", "count"), sampled([("[failed]", 0), ("[succeeded]", 1)], 1))
def test_only_what_is_wanted_is_reported(project: Write, chat: Receiver, on: str, count: int) -> None:
    apply(project({"batchspec.yaml": settings(on)}), chat.url)
    assert len(chat.received) == count


def test_a_job_that_cannot_be_planned_has_its_code_and_no_row(project: Write, chat: Receiver) -> None:
    root = project({"batchspec.yaml": settings(), "data/rows.jsonl": ROWS + '{"id": 1, "text": "confidential"}\n'})
    assert apply(root, chat.url)[0] == 1
    [text] = texts(chat)
    assert text == "Batchspec, project tests\nhello: error BS205"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_plan_over_budget_is_reported(project: Write, chat: Receiver, as_json: bool) -> None:
    root = project({"batchspec.yaml": settings(), "specs/hello.yaml": f"{SPEC}budget: {{max_requests: 2}}\n"})
    assert apply(root, chat.url, *(["--json"] if as_json else []))[0] == 1
    assert texts(chat) == ["Batchspec, project tests\nover budget: the plan of 1 job was not applied"]


@pytest.mark.parametrize(
    ("url", "reason"),
    sampled(
        [
            (None, "the environment variable BATCHSPEC_NOTIFY_URL is not set"),
            ("http://example.com/secret", "the value of BATCHSPEC_NOTIFY_URL is not an https URL"),
            ("no url: secret", "the value of BATCHSPEC_NOTIFY_URL is not an https URL"),
            ("http://127.0.0.1:9/secret", "no connection to the receiver (ConnectError)"),
        ],
        1,
    ),
)
def test_a_failure_is_a_warning(project: Write, url: str | None, reason: str) -> None:
    code, shown = apply(project({"batchspec.yaml": settings()}), url)
    assert code == 0
    assert f"warning: `notify` could not send its message: {reason}" in shown
    assert "secret" not in shown


@pytest.mark.parametrize("status", [302, 500])
def test_a_refusal_is_a_warning_and_no_redirect_is_followed(project: Write, status: int) -> None:
    with serve_receiver(lambda _: status) as chat:
        code, shown = apply(project({"batchspec.yaml": settings()}), chat.url)
        assert len(chat.received) == 1
    assert code == 0
    assert f"the receiver answered {status}" in shown


def test_other_variables_are_refused(project: Write) -> None:
    root = project({"batchspec.yaml": settings().replace("BATCHSPEC_NOTIFY_URL", "MODEL_ACCESS_KEY")})
    code, shown = apply(root, None)
    assert code == 1
    assert "batchspec.yaml:3" in shown
    with pytest.raises(TrustError):
        resolve_notify_url("HOME", {"HOME": "https://example.com", "BATCHSPEC_ALLOW_ENV": "HOME"})
    with pytest.raises(TrustError):
        resolve_env("BATCHSPEC_NOTIFY_URL", {"BATCHSPEC_NOTIFY_URL": "https://example.com"})


def test_an_address_is_no_link_and_no_mention() -> None:
    """A partition's value comes from a project, and a chat would make a link of it."""
    assert plain_address("job[shop=de,date=2026-11-23]") == "job[shop=de,date=2026-11-23]"
    assert plain_address("job[shop=<!channel> @here\n`x` http://e]") == "job[shop=__channel_ _here__x_ http___e]"
