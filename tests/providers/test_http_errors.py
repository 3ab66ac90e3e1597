"""Every exception that httpx can raise is one of ours, decided once."""

from __future__ import annotations

import inspect

import httpx
import pytest

from runner.errors import Malformed, ProviderError, Unreachable
from runner.providers.http_errors import HTTPX_ERRORS, map_httpx_errors
from runner.providers.redact import redacted

EXCEPTIONS = sorted(
    (kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)
REQUEST = httpx.Request("GET", "http://127.0.0.1/")


def made(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        return kind("told", request=REQUEST, response=httpx.Response(500, request=REQUEST))
    if kind in {httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead, httpx.RequestNotRead}:
        return kind()
    return kind("told")


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_no_exception_of_httpx_is_unmapped(kind: type[Exception]) -> None:
    with pytest.raises(ProviderError, match="upload to x: ") as caught, map_httpx_errors("upload to x"):
        raise made(kind)
    assert caught.value.__cause__ is not None
    assert kind.__name__ in caught.value.message


def test_there_are_such_exceptions() -> None:
    """So that the table above is not empty by mistake; the numbers are those of httpx 0.28."""
    assert len(EXCEPTIONS) >= 20
    assert {httpx.ConnectTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.InvalidURL} <= set(EXCEPTIONS)


@pytest.mark.parametrize(
    "kind", [k for k in EXCEPTIONS if issubclass(k, httpx.TransportError)], ids=lambda k: k.__name__
)
def test_a_broken_transport_says_nothing_about_the_effect(kind: type[Exception]) -> None:
    """So it is Unreachable, but where nothing can have been sent."""
    ours = next(ours for foreign, ours in HTTPX_ERRORS if issubclass(kind, foreign))
    assert ours is (Malformed if kind is httpx.UnsupportedProtocol else Unreachable)


def test_others_go_through() -> None:
    with pytest.raises(KeyboardInterrupt), map_httpx_errors("x"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), map_httpx_errors("x"):
        raise ZeroDivisionError


def test_the_reason_holds_no_presigned_query() -> None:
    with pytest.raises(Unreachable) as caught, map_httpx_errors("upload to x"):
        raise httpx.ConnectError("no route to https://s3.example/a?X-Amz-Signature=abc#d") from None
    assert "abc" not in caught.value.message
    assert "s3.example/a?[hidden]" in caught.value.message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\r\nc\x00\u202ed", "a [31mb  c  d"),
        ("the key abcdef is wrong", "the key [hidden] is wrong"),
        ("HTTP://X/y?z=1 and https://h/p#frag.", "HTTP://X/y?[hidden] and https://h/p?[hidden]"),
    ],
)
def test_what_is_shown_of_a_stranger_s_text(text: str, shown: str) -> None:
    assert redacted(text, ("abcdef", "")) == shown


def test_what_is_shown_is_short() -> None:
    assert len(redacted("x" * 1_000_000)) == 500
