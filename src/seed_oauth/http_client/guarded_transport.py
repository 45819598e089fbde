"""The way to documents whose URLs strangers choose: to public addresses only (server-side request forgery).

What is checked is the address that is connected to, not the name: the resolver below is the only one that
the connector asks, once for each connection, and what it gives is what is dialled. A name that means something
else a moment later (DNS rebinding) therefore gains nothing, and TLS still verifies the certificate of the name.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult

from seed_oauth.http_client.transport import AiohttpTransport

TIMEOUT = 5.0
"""Seconds for one whole request, from waiting for a connection to the last byte."""

_CONNECTIONS = 32
_CONNECTIONS_TO_ONE_HOST = 4  # nobody is to be flooded by way of this server
_RESOLVER_THREADS = 8

_HTTPS_PORT = 443
_LAST_PORT = 65_535

_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, and what Oracle gives its machines
        "168.63.129.16/32",  # what Azure gives its machines: a public address that is not
        "192.88.99.0/24",  # 6to4 relays, with 2002::/16: whatever IPv4 address lies within (RFC 7526)
        "2002::/16",
        "64:ff9b:1::/48",  # NAT64 of the local network (RFC 8215)
        "fec0::/10",  # site-local, of old (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637), which older Pythons do not know
        "5f00::/16",  # segment routing (RFC 9602)
    )
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host name and a port to addresses; raises OSError when there are none."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet's, and none that has a special use (RFC 6890)."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        # The address within is the one that is reached.
        within = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None)
        if within is not None:
            return is_public(str(within))
    special = ip.is_multicast or ip.is_reserved or ip.is_unspecified or any(ip in network for network in _NEVER)
    return ip.is_global and not special


class ForbiddenAddressError(httpx.ConnectError):
    """The transport will not connect there."""


class GuardedTransport(AiohttpTransport):
    """An httpx transport that connects by https to public addresses on port 443, and nowhere else.

    It goes around proxies (which would do the resolving), keeps no cookies and follows no redirects.
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
            allow_loopback: this machine may be connected to as well, on any port.
            resolve: the system's resolver by default.
            ssl_context: whom TLS trusts; by default whom the system trusts, or SSL_CERT_FILE.
            timeout: seconds for one whole request.
        """
        self._allow_loopback = allow_loopback
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")
        self._resolver = _GuardedResolver(resolve or self._system_resolve, self._check)
        self._ssl = ssl_context or True
        super().__init__(self._new_connector, aiohttp.ClientTimeout(total=timeout))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, once.

        Raises:
            ForbiddenAddressError: not https, or an address or port that nothing is sent to.
            httpx.TransportError: as `AiohttpTransport` has it.
        """
        host = request.url.host
        port = _HTTPS_PORT if request.url.port is None else request.url.port
        if request.url.scheme != "https" or port > _LAST_PORT:
            raise ForbiddenAddressError("not https, or no port")
        if ":" in host or host.replace(".", "").isdigit():
            # It is an address already, so no resolver will be asked.
            self._check(host, port)
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await super().aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

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
            pass  # another spelling of an address, such as 2130706433
        raise ForbiddenAddressError("not a public address, or not port 443")

    async def _system_resolve(self, host: str, port: int) -> Sequence[str]:
        # In threads of its own: names that take for ever must not keep the identity provider's name waiting.
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


class _GuardedResolver(AbstractResolver):
    """Gives an address only when every address of the name may be connected to."""

    def __init__(self, resolve: Resolve, check: Callable[[str, int], None]) -> None:
        self._resolve = resolve
        self._check = check

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - of whichever family they are
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
