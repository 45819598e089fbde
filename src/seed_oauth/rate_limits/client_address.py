"""The client's address, by which requests are limited.

`X-Forwarded-For` is trusted only from trusted proxies, and read from the right, because anything left of the entry of
the last trusted proxy can be forged. `Forwarded` (RFC 7239) is ignored: few reverse proxies set it, so its content
would usually be the client's own.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

import structlog
from starlette.types import Scope

_MOST_REMEMBERED = 4096  # addresses: parsing one costs as much as the rest of a limit
_LONGEST = 64  # characters, with brackets, a zone and a port

# One host has a whole IPv6 /64 (RFC 6177 §2), so a limit by the full address would not limit it.
_IPV6_NETWORK = 8  # bytes

# IPv4 clients of an IPv6-only server (RFC 6052 §2.1): different clients share this /64.
_NAT64 = ip_network("64:ff9b::/96")


class _Hop(NamedTuple):
    """One address on the way of a request."""

    address: str
    key: bytes
    is_trusted: bool
    is_public: bool


class ClientAddresses:
    """Finds the address of a client: for IPv4 the address, for IPv6 its /64."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ip_network(proxy) for proxy in trusted_proxies]
        self._remembered = lru_cache(_MOST_REMEMBERED)(self._read)
        self._has_warned = False

    def of(self, scope: Scope) -> bytes | None:
        """The network of the client, packed; None if it is not known.

        Without trusted proxies, a peer with a private address may be a reverse proxy that speaks for every client, so
        its address identifies nobody. Neither does a Unix socket.
        """
        hop = self._peer(scope)
        if hop is None:
            return None
        if hop.is_trusted:
            return self._behind(hop, scope).key
        if self._trusted or hop.is_public:
            return hop.key
        self._warn_of_a_proxy(scope)
        return None

    def text_of(self, scope: Scope) -> str | None:
        """The address of the client, or of the reverse proxy that is not trusted to name it; None if it has none."""
        hop = self._peer(scope)
        if hop is not None and hop.is_trusted:
            hop = self._behind(hop, scope)
        return hop and hop.address

    def is_trusted_proxy(self, scope: Scope) -> bool:
        """Whether whoever sends the request is a trusted proxy."""
        hop = self._peer(scope)
        return hop is not None and hop.is_trusted

    def _peer(self, scope: Scope) -> _Hop | None:
        client = scope.get("client")
        return self._hop(client[0]) if client else None

    def _behind(self, proxy: _Hop, scope: Scope) -> _Hop:
        """The client behind a trusted proxy: the last untrusted address, or else the last readable one."""
        hop = proxy
        for text in _forwarded_for(scope):
            before = self._hop(text)
            if before is None:
                break
            hop = before
            if not hop.is_trusted:
                break
        if hop is proxy:
            self._warn(
                "a trusted proxy sends no X-Forwarded-For: all of its clients share one limit",
                "have it append the client's address to X-Forwarded-For",
            )
        return hop

    def _warn_of_a_proxy(self, scope: Scope) -> None:
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self._warn(
                "limits by address are off: requests come through a reverse proxy that is not trusted",
                "set SEED_OAUTH_TRUSTED_PROXIES to its address or network",
            )

    def _warn(self, problem: str, remedy: str) -> None:
        """Log it, once."""
        if not self._has_warned:
            self._has_warned = True
            structlog.get_logger("seed_oauth").warning(problem, remedy=remedy)

    def _hop(self, text: str) -> _Hop | None:
        return self._remembered(text) if len(text) <= _LONGEST else None

    def _read(self, text: str) -> _Hop | None:
        """Parse an address, which some proxies write with a port; None if it is not an address."""
        try:
            address = ip_address(_without_port(text))
        except ValueError:
            return None
        address = _plain(address)
        is_trusted = any(address in network for network in self._trusted)
        key = address.packed if address.version == 4 else address.packed[:_IPV6_NETWORK]  # noqa: PLR2004 - IPv4
        return _Hop(str(address), key, is_trusted, address.is_global)


def _forwarded_for(scope: Scope) -> Iterator[str]:
    """The entries of X-Forwarded-For, last one first."""
    fields = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for value in reversed(fields):
        for entry in reversed(value.split(b",")):
            yield entry.decode("latin-1").strip(" \t")


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address inside an IPv4-mapped or NAT64 address; any other address unchanged."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address
