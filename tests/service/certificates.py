"""Certificates for tests that speak https to this machine."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificate:
    """A certificate for 127.0.0.1 and the authority that vouches for it, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.authority, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.both = folder / "both.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        self.both.write_bytes(issued.private_key_and_cert_chain_pem.bytes())

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))
