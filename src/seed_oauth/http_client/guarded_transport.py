"""Connections to URLs that strangers choose: public addresses only, against server-side request forgery.

The address is checked, not the name: the connector uses no resolver but the one below, once for each connection, and
connects to the addresses that it returns. So DNS rebinding gains nothing, and TLS still verifies the certificate of the
name.
"""

import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from seed_oauth.http_client.dns import DnsResolver
from seed_oauth.http_client.transport import AiohttpTransport

TIMEOUT = 5.0
"""Seconds for one whole request, from waiting for a connection to the last byte."""

_CONNECTIONS = 32
_CONNECTIONS_TO_ONE_HOST = 4  # so that this server cannot be used to flood another one

_HTTPS_PORT = 443
_LAST_PORT = 65_535

_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, and the metadata service of Oracle Cloud
        "168.63.129.16/32",  # platform services of Azure, at an address that looks public
        "192.88.99.0/24",  # 6to4 relays; like 2002::/16 they lead to any IPv4 address (RFC 7526)
        "2002::/16",
        "64:ff9b:1::/48",  # NAT64 of the local network (RFC 8215)
        "fec0::/10",  # site-local, deprecated (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637), unknown to older Pythons
        "5f00::/16",  # segment routing (RFC 9602)
    )
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052

_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The bits before the IPv4 address in an ISATAP interface identifier (RFC 5214 §6.1)."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name and port; raises OSError if there are none."""


def is_public(address: str) -> bool:
    """Whether an IP address is public, without a special use (RFC 6890)."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # Packets reach the embedded IPv4 address.
        last = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if ip.ipv4_mapped or ip in _NAT64:
            return is_public(str(last))
        before = int(ip) >> 32 & 0xFFFF_FFFF
        # NAT64 with a prefix of the local network (RFC 6052 §2.2, /96) leaves only zeros before the IPv4 address. An
        # address that ends like 0.x.y.z is a usual one: ::1.
        is_translated = before == 0 and int(last) >> 24 and not is_public(str(last))
        if before in _ISATAP or is_translated:
            return False
    special = ip.is_multicast or ip.is_reserved or ip.is_unspecified or any(ip in network for network in _NEVER)
    return ip.is_global and not special


class ForbiddenAddressError(httpx.ConnectError):
    """The transport does not connect to this address."""


class GuardedTransport(AiohttpTransport):
    """An httpx transport that connects only over https, to public addresses on port 443.

    It ignores proxies (which would resolve names themselves), keeps no cookies and follows no redirects.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Connect to nothing yet.

        Args:
            allow_loopback: allow this machine as well, on any port.
            resolve: the system's name servers by default.
            ssl_context: the trusted certificates; by default those of the system, or of SSL_CERT_FILE.
            timeout: seconds for one whole request.
        """
        self._allow_loopback = allow_loopback
        self._dns = DnsResolver()
        self._resolver = _GuardedResolver(resolve or self._dns, self._check)
        self._ssl = ssl_context or True
        super().__init__(self._new_connector, aiohttp.ClientTimeout(total=timeout))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, once.

        Raises:
            ForbiddenAddressError: not https, or a forbidden address or port.
            httpx.TransportError: see `AiohttpTransport`.
        """
        host = request.url.host
        port = _HTTPS_PORT if request.url.port is None else request.url.port
        if request.url.scheme != "https" or port > _LAST_PORT:
            raise ForbiddenAddressError("not https, or no port")
        if ":" in host or host.replace(".", "").isdigit():
            # An address: the connector does not call the resolver.
            self._check(host, port)
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await super().aclose()
        await self._dns.aclose()

    def _new_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            ssl=self._ssl,
            limit=_CONNECTIONS,
            limit_per_host=_CONNECTIONS_TO_ONE_HOST,
            force_close=True,
        )

    def _check(self, address: str, port: int) -> None:
        try:
            if port == _HTTPS_PORT and is_public(address):
                return
            if self._allow_loopback and ipaddress.ip_address(address).is_loopback:
                return
        except ValueError:
            pass  # an unusual spelling of an address, such as 2130706433
        raise ForbiddenAddressError("not a public address, or not port 443")


class _GuardedResolver(AbstractResolver):
    """Resolves a name only if every one of its addresses is allowed."""

    def __init__(self, resolve: Resolve, check: Callable[[str, int], None]) -> None:
        self._resolve = resolve
        self._check = check

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the signature of aiohttp
    ) -> list[ResolveResult]:
        """The addresses of a name, all of them checked."""
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError(f"{host} has no address")
        for address in addresses:
            self._check(address, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""
