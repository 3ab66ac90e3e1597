"""The read-only web page: an account's jobs, their logs and links to their results.

It works without JavaScript. Templates escape all text of users, and a content security policy allows only `live.js`.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from runner.service.config import ServiceConfig
from runner.service.dashboard.job_summary import job_summary, last_failures, metadata_of, reasons_of
from runner.service.dashboard.sessions import LIFETIME, Sessions
from runner.service.db.batches import STATUS_ORDER, STATUSES, TERMINAL, Batch, Batches
from runner.service.db.outbox import Outbox
from runner.service.db.storage import Storage
from runner.service.http.middleware import Accounts, HttpError, Methods, is_same_origin, peer, uuid_of
from runner.service.http.presigned import Transfers
from runner.service.http.responses import timestamp
from runner.service.jobs.journal import ERRORS
from runner.service.webhooks.payload import redacted_url

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = 50
"""Jobs on a page."""

FAILURES = 20
"""Failed requests shown of a job."""

_FOLDER = Path(__file__).parent / "pages"
_PATHS = frozenset({"/", "/login", "/logout"})
_FOLDERS = ("/jobs/", "/page/")
_MAX_FORM = 10_000

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    # Not no-referrer: browsers then send no usable Origin with the form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def is_page(path: str) -> bool:
    """Return whether a path belongs to the dashboard."""
    return path in _PATHS or path.startswith(_FOLDERS)


class Dashboard:
    """The routes of the dashboard and their handlers."""

    def __init__(
        self,
        config: ServiceConfig,
        batches: Batches,
        outbox: Outbox,
        storage: Storage,
        *,
        transfers: Transfers,
        accounts: Accounts,
    ) -> None:
        self._config = config
        self._batches = batches
        self._outbox = outbox
        self._storage = storage
        self._transfers = transfers
        self._accounts = accounts
        self._sessions = Sessions(transfers.secret)

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/", Methods(GET=self.jobs)),
            Route("/jobs/{batch_id}", Methods(GET=self.job)),
            Route("/jobs/{batch_id}/output", Methods(GET=self.download)),
            Route("/jobs/{batch_id}/errors", Methods(GET=self.download)),
            Route("/login", Methods(GET=self.login, POST=self.sign_in)),
            Route("/logout", Methods(POST=self.sign_out)),
            Mount("/page", _Static(directory=_FOLDER / "static")),
        ]

    def visitor(self, headers: Headers, address: str) -> str:
        """Return the account of a request; empty without a valid cookie or token."""
        cookies = cookie_parser(headers.get("cookie", ""))
        account = self._sessions.account(cookies, time.time())
        if account is None or not self._accounts.known(account):
            account = self._accounts.authenticate(headers.get("authorization", ""), address)
        return account or ""

    async def jobs(self, request: Request) -> Response:
        """Handle GET /: show a page of jobs, newest first."""
        account = request.state.account
        if not account:
            return _redirect("/login")
        query = request.query_params
        status = query.get("status", "")
        if status and status not in STATUSES:
            return self._missing("There is no such state of a job.")
        after = self._batches.get(uuid_of(query.get("after", "")) or "", account)
        if "after" in query and after is None:
            return self._missing("There is no such job.")
        before = after.seq if after else None
        found = self._batches.page(account, before=before, status=status or None, limit=PAGE + 1)
        now = time.time()
        counts = self._batches.counts(account)
        return self._show(
            "jobs.html.j2",
            rows=[job_summary(batch, self._storage.job(batch.id), now) for batch in found[:PAGE]],
            counts=counts,
            statuses=STATUS_ORDER,
            status=status,
            after=after,
            older=found[PAGE - 1].id if len(found) > PAGE else None,
            # New jobs appear on the first page only; other pages change only while one of their jobs runs.
            moving=after is None or any(not batch.ended for batch in found),
        )

    async def job(self, request: Request) -> Response:
        """Handle GET /jobs/{id}: show a job and its log."""
        if not request.state.account:
            return _redirect("/login")
        batch = self._requested(request)
        if batch is None:
            return self._missing("There is no such job.")
        delivery, attempts = self._outbox.history(batch.id)
        folder = self._storage.job(batch.id)
        return self._show(
            "job.html.j2",
            batch=batch,
            row=job_summary(batch, folder, time.time()),
            metadata=metadata_of(batch),
            errors=reasons_of(batch),
            failures=last_failures(folder / ERRORS, FAILURES) if batch.failed else [],
            webhook=redacted_url(orjson.loads(batch.webhook)["url"]) if batch.webhook else None,
            delivery=delivery,
            attempts=attempts,
            moving=batch.status not in TERMINAL or (delivery is not None and delivery.due_at is not None),
        )

    async def download(self, request: Request) -> Response:
        """Handle GET /jobs/{id}/output and /errors: redirect to a fresh URL."""
        if not request.state.account:
            return _redirect("/login")
        batch = self._requested(request)
        file_id = None
        if batch and batch.ended and not batch.results_deleted:
            file_id = batch.output_file_id if request.url.path.endswith("/output") else batch.error_file_id
        if file_id is None:
            return self._missing("There is no such file, or it was deleted at the end of its time.")
        expires = time.time() + self._config.lasting(self._config.url_ttl)
        return _redirect(self._transfers.download_url(request, file_id, expires))

    async def login(self, request: Request) -> Response:
        """Handle GET /login: show the form."""
        if self._accounts.open or request.state.account:
            return _redirect("/")
        return self._show("login.html.j2", refused=False, hours=LIFETIME // 3600)

    async def sign_in(self, request: Request) -> Response:
        """Handle POST /login: exchange a token for a cookie."""
        _refuse_other_sites(request)
        form = parse_qs((await _body(request)).decode("utf-8", "replace"))
        account = self._accounts.authenticate_token(form.get("token", [""])[0].strip().encode(), peer(request.scope))
        if account is None:
            return self._show("login.html.j2", http_status=401, refused=True, hours=LIFETIME // 3600)
        response = _redirect("/")
        self._sessions.start(request, response, account, time.time())
        return response

    async def sign_out(self, request: Request) -> Response:
        """Handle POST /logout: delete the cookie."""
        _refuse_other_sites(request)
        response = _redirect("/login")
        self._sessions.end(request, response)
        return response

    def _requested(self, request: Request) -> Batch | None:
        batch_id = uuid_of(request.path_params["batch_id"])
        return self._batches.get(batch_id, request.state.account) if batch_id else None

    def _missing(self, message: str) -> Response:
        return self._show("missing.html.j2", http_status=404, message=message)

    def _show(self, template: str, *, http_status: int = 200, moving: bool = False, **values: Any) -> Response:
        text = self._templates.get_template(template).render(
            **values,
            moving=moving,
            backend=self._config.backend,
            signed_in=not self._accounts.open and template != "login.html.j2",
        )
        return HTMLResponse(text, http_status, _HEADERS)

    @cached_property
    def _templates(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - only if a page is shown

        environment = Environment(
            loader=FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "number": _number,
            "duration": _duration,
            "shortened": _shortened,
            "stamp": timestamp,
            "clock": _clock,
        }
        return environment


class _Static(StaticFiles):
    """Static files that browsers revalidate, because new versions keep their address."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, _HEADERS)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            raise HttpError(413, f"The form may hold at most {_MAX_FORM} bytes.")
    return bytes(body)


def _refuse_other_sites(request: Request) -> None:
    """Refuse forms of other sites, by their Origin header. Raises HttpError."""
    origin = request.headers.get("origin")
    if origin is not None and not is_same_origin(origin, request.headers["host"]):
        raise HttpError(403, "This form was sent from another site.")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}\u2026"


def _clock(seconds: float) -> str:
    return (timestamp(seconds) or "").replace("T", " ").removesuffix("Z")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f}\u202fs"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}\u202fs"
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60}\u202fs"
    return f"{whole // 3600}\u202fh {whole % 3600 // 60}\u202fmin"
