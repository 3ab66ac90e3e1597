"""Where webhooks may be sent: to public addresses, and to what the operator allows."""

from __future__ import annotations

import ipaddress
import re
import socket

from runner.errors import ServiceError
from runner.http_server.addresses import Address, Network, is_public, plain

_NAMED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*")


class Targets:
    """Addresses and hosts that an operator allows in addition.

    `allow` holds host names, addresses, networks (CIDR), `loopback` and `private`. Raises ServiceError.
    """

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for text in allow:
            self._add(text.strip())

    def _add(self, text: str) -> None:
        try:
            self._networks += [ipaddress.ip_network(one, strict=False) for one in _NAMED.get(text, (text,))]
        except ValueError:
            host = _folded(text)
            # A number with dots that is no address is a mistake, not a name.
            if not _HOST.fullmatch(host) or host.replace(".", "").isdigit():
                raise ServiceError(
                    f"webhooks can't be allowed to {text!r}: that is no host, address or network",
                    hint="write a host name, an address, a network such as 10.1.0.0/16, loopback or private",
                    code="BS704",
                ) from None
            self._hosts.add(host)

    def permits(self, host: str, address: Address) -> bool:
        """Return whether webhooks to `host` may use its `address`."""
        bare = plain(address)
        if _folded(host) in self._hosts or any(bare in network for network in self._networks):
            return True
        return is_public(address) and not is_this_machine(address)

    def refusal(self, host: str) -> str:
        """Return why a host's name alone forbids webhooks, if so."""
        name = _folded(host)
        if name == "localhost" or name.endswith(".localhost"):
            addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
        else:
            try:
                addresses = [ipaddress.ip_address(name)]
            except ValueError:
                return "an IPv4 address is written as four decimal numbers" if _is_odd_address(name) else ""
        if any(self.permits(name, address) for address in addresses):
            return ""
        return f"{host} is not a public address, and the operator of this service has not allowed it"


def is_this_machine(address: Address) -> bool:
    """Return whether this machine can bind to an address."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _folded(host: str) -> str:
    return host.strip("[]").lower().rstrip(".")


def _is_odd_address(name: str) -> bool:
    """Return whether resolvers take a name for an IPv4 address: 127.1, 0x7f000001."""
    try:
        socket.inet_aton(name)
    except (OSError, ValueError):
        return False
    return True
