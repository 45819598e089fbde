"""Whose request it is, as far as an address tells: what limits by address are counted by.

`X-Forwarded-For` is believed of trusted proxies alone and read from the right, because everything left of what the
last trusted one wrote can be made up. `Forwarded` (RFC 7239) is not read: hardly a reverse proxy writes it by itself,
so whatever is in it would most often be the client's own word.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

import structlog
from starlette.types import Scope

_MOST_REMEMBERED = 4096  # addresses: reading one costs as much as the rest of a limit
_LONGEST = 64  # characters, with brackets, a zone and a port

# One host has all of an IPv6 /64 to itself (RFC 6177 §2): a limit by the whole address would be none.
_IPV6_NETWORK = 8  # bytes

# IPv4 clients of a server that speaks IPv6 alone (RFC 6052 §2.1): they share a /64, and are not one another.
_NAT64 = ip_network("64:ff9b::/96")


class _Hop(NamedTuple):
    """One address that a request came through."""

    key: bytes
    is_trusted: bool
    is_public: bool


class ClientAddresses:
    """Tells the clients' addresses: of IPv4 the address, of IPv6 the /64."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        self._trusted = [ip_network(proxy) for proxy in trusted_proxies]
        self._remembered = lru_cache(_MOST_REMEMBERED)(self._read)
        self._has_warned = False

    def of(self, scope: Scope) -> bytes | None:
        """The network of the client, packed; None where it is not known.

        Without trusted proxies a peer whose address is not public may be a reverse proxy, and then it stands for
        everybody: it tells nothing. Nor does a Unix socket.
        """
        client = scope.get("client")
        hop = self._hop(client[0]) if client else None
        if hop is None:
            return None
        if hop.is_trusted:
            return self._behind(hop, scope)
        if self._trusted or hop.is_public:
            return hop.key
        self._warn_of_a_proxy(scope)
        return None

    def _behind(self, proxy: _Hop, scope: Scope) -> bytes:
        """Who is behind a trusted proxy: the last that is not trusted itself, or else the last that can be read."""
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
                "a trusted proxy does not say for whom it asks: all of its users share one limit",
                "have it append the client's address to X-Forwarded-For",
            )
        return hop.key

    def _warn_of_a_proxy(self, scope: Scope) -> None:
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self._warn(
                "limits by address are off: a reverse proxy that is not trusted stands before this server",
                "set SEED_OAUTH_TRUSTED_PROXIES to its address or network",
            )

    def _warn(self, problem: str, remedy: str) -> None:
        """Tell the operator, once."""
        if not self._has_warned:
            self._has_warned = True
            structlog.get_logger("seed_oauth").warning(problem, remedy=remedy)

    def _hop(self, text: str) -> _Hop | None:
        return self._remembered(text) if len(text) <= _LONGEST else None

    def _read(self, text: str) -> _Hop | None:
        """An address as peers have it and as proxies write it, some with a port; None when it is none."""
        try:
            address = ip_address(_without_port(text))
        except ValueError:
            return None
        address = _plain(address)
        is_trusted = any(address in network for network in self._trusted)
        key = address.packed if address.version == 4 else address.packed[:_IPV6_NETWORK]  # noqa: PLR2004 - IPv4
        return _Hop(key, is_trusted, address.is_global)


def _forwarded_for(scope: Scope) -> Iterator[str]:
    """The entries of X-Forwarded-For, the last one first."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            for entry in reversed(value.split(b",")):
                yield entry.decode("latin-1").strip(" \t")


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address as such, however an IPv6 socket or a translator shows it."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address
