"""The server's TLS context, checked before the service listens."""

from __future__ import annotations

import ssl
from pathlib import Path

from runner.errors import ServiceError


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and newer. Raises ServiceError with the invalid file.

    `certificate` is PEM with its chain and, without `key`, its key.
    """
    for what, path in (("certificate", certificate), ("key", key)):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                raise ServiceError(
                    f"the TLS {what} {path} cannot be read: {error.strerror or error}", code="BS704"
                ) from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL would ask on the terminal. An empty one fits no key.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ServiceError(
                f"the TLS key {key or certificate} is not that of the certificate {certificate}",
                code="BS704",
            ) from error
        raise ServiceError(
            f"the TLS certificate {certificate} or its key {key or '(in the same file)'} cannot be used",
            hint="both have to be PEM, the key without a password; the key may be in the certificate's file",
            code="BS704",
        ) from error
    return context
