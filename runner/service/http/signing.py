"""Signs and checks URLs. Each permits one method on one file until it expires."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class Signer:
    """One data folder's signer."""

    secret: bytes

    @classmethod
    def of_folder(cls, data: Path) -> Signer:
        """Return a data folder's signer. Create a missing secret."""
        path = data / "secret"
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            secret = b""
        if len(secret) < 32:
            secret = secrets.token_bytes(32)
            _write_private(path, secret.hex())
        return cls(secret)

    def query(self, method: str, path: str, expires: float, content_type: str = "") -> str:
        """Return the query that permits `method` on `path` until `expires` (Unix seconds).

        With `content_type` the client must send exactly this header.
        """
        until = f"{expires:.3f}"
        fields = {"expires": until}
        if content_type:
            fields["signed"] = "content-type"
        fields["signature"] = self._sign(method, path, until, content_type)
        return urlencode(fields)

    def allows(self, method: str, path: str, query: Mapping[str, str], content_type: str, now: float) -> bool:
        """Return whether a signature is valid. Takes the same time for any wrong one."""
        expires = query.get("expires", "")
        signed_type = content_type if query.get("signed") == "content-type" else ""
        expected = self._sign(method, path, expires, signed_type)
        genuine = hmac.compare_digest(expected.encode(), query.get("signature", "").encode("utf-8", "replace"))
        # A valid signature proves that `expires` is a number.
        return genuine and now < float(expires)

    def _sign(self, method: str, path: str, expires: str, content_type: str) -> str:
        message = f"{method}\n{path}\n{expires}\n{content_type}"
        return hmac.new(self.secret, message.encode("utf-8", "replace"), "sha256").hexdigest()


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
