"""What the tests of fresh checkouts, renames and saved plans share."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.executor.conftest import Team

Make = Callable[..., Team]


def asked(team: Team) -> int:
    return sum(batch["request_counts"]["total"] for batch in team.remote())


def forget_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answers 404 where results are asked for, as it does once it has deleted them."""
    send = httpx.Client.send

    def forgetful(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        if request.url.path.endswith("/results"):
            return httpx.Response(404, json={"id": "not_found", "message": "gone"}, request=request)
        return send(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", forgetful)
