"""Connections to one server, kept between requests."""

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import aiohappyeyeballs

from seed_oauth.http_client.exchange import Connection, Exchange

_PORTS = {"http": 80, "https": 443}
_NEXT_ADDRESS = 0.25  # seconds until a connection to another address of the server is tried, too (RFC 8305 §5)


class ConnectionPool:
    """The connections to the server of a URL: as many as there are exchanges at a time, and without a proxy."""

    def __init__(self, url: str, *, connect_timeout: float, keepalive: float) -> None:
        """Both in seconds; `keepalive` is how long a connection is kept that nobody uses."""
        parts = urlsplit(url)
        assert parts.hostname is not None  # noqa: S101 - the settings make sure
        self._host, self._port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._is_encrypted = parts.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._free: dict[Connection, float] = {}
        """And when each is closed, the first one first."""
        self._timer: asyncio.TimerHandle | None = None

    async def exchange(self) -> Exchange:
        """Begin an exchange, on a connection that is free or else on a new one.

        Raises:
            OSError: no connection can be made; a `TimeoutError` if it takes too long.
        """
        while self._free:
            connection, _ = self._free.popitem()
            if not connection.transport.is_closing():
                return Exchange(connection, is_first=False)
        return Exchange(await self._connect(), is_first=True)

    async def aclose(self) -> None:
        """Close the connections that are free; those that become free later are closed then."""
        self._keepalive = 0
        self._close_idle()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._is_encrypted and self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        async with asyncio.timeout(self._connect_timeout):
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            # The event loop would try one address after the other, each for as long as it takes.
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS)
            _, connection = await loop.create_connection(
                lambda: Connection(self._keep),
                sock=connected,
                ssl=self._tls,
                server_hostname=self._host if self._is_encrypted else None,
            )
        return connection

    def _keep(self, connection: Connection) -> None:
        self._free[connection] = asyncio.get_running_loop().time() + self._keepalive
        if self._timer is None:
            self._close_idle()

    def _close_idle(self) -> None:
        """Close the connections whose time is over, and come back for the next one."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection, end in list(self._free.items()):
            if self._keepalive and end > loop.time():
                self._timer = loop.call_at(end, self._close_idle)
                break
            del self._free[connection]
            connection.transport.close()
