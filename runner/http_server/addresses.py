"""IP addresses: which are public, and which count as one peer."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24",  # IETF protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def group(address: str) -> str:
    """Return one peer: an IPv4 address, or an IPv6 address's /64 network."""
    try:
        parsed = plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def plain(address: Address) -> Address:
    """Return the IPv4 address in an IPv4-mapped one (::ffff:a.b.c.d), or the address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Return whether the internet reaches one host at this address.

    Excludes special ranges (IANA special-purpose address registries) and those with an IPv4 address: mapped,
    compatible, 6to4, Teredo and NAT64.
    """
    if any(address in network for network in _SPECIAL) or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global
