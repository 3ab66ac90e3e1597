"""Cookies of the dashboard, without the token. They only allow to see an account's jobs.

Browsers send cookies to every port of a host, so to other users' servers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

LIFETIME = 12 * 3600
"""Seconds for which a browser is signed in."""


class Sessions:
    """The cookies of one data folder, valid while its secret exists."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.new(secret, b"session", "sha256").digest()
        # Cookies ignore ports, so each service on a host needs its own name.
        self._name = f"batchspec-{hashlib.sha256(self._secret).hexdigest()[:12]}"

    def start(self, request: Request, response: Response, account: str, now: float) -> None:
        """Sign a browser in."""
        expires = str(int(now) + LIFETIME)
        value = f"{account}.{expires}.{self._sign(account, expires)}"
        self._set(request, response, value, LIFETIME)

    def end(self, request: Request, response: Response) -> None:
        """Sign a browser out."""
        self._set(request, response, "", 0)

    def account(self, cookies: Mapping[str, str], now: float) -> str | None:
        """Return a signed-in browser's account."""
        for name in (self._name, self._secure_name):
            account, _, rest = cookies.get(name, "").partition(".")
            expires, _, signature = rest.partition(".")
            genuine = hmac.compare_digest(self._sign(account, expires).encode(), signature.encode("utf-8", "replace"))
            # A valid signature proves that `expires` is a number.
            if genuine and now < int(expires):
                return account
        return None

    @property
    def _secure_name(self) -> str:
        return f"__Host-{self._name}"

    def _set(self, request: Request, response: Response, value: str, age: int) -> None:
        secure = request.url.scheme == "https"
        name = self._secure_name if secure else self._name
        response.set_cookie(name, value, max_age=age, path="/", secure=secure, httponly=True, samesite="strict")

    def _sign(self, account: str, expires: str) -> str:
        return hmac.new(self._secret, f"{account}\n{expires}".encode("utf-8", "replace"), "sha256").hexdigest()
