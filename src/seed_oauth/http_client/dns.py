"""Name resolution that never blocks a thread, with a deadline for each name."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import aiodns

DEADLINE = 2.0
"""Seconds for one name. The name servers of a stranger's domain may never answer."""

_TRIES = 2


class DnsResolver:
    """Looks names up in the system's hosts file and at its name servers, by c-ares.

    `getaddrinfo` blocks a thread for as long as the name servers of a domain like, far beyond the timeout of whoever
    asked: a few such names a second use up any number of threads.
    """

    def __init__(self, deadline: float = DEADLINE, **options: Any) -> None:  # noqa: ANN401 - as pycares has them
        """Look nothing up yet; `options` are those of `pycares.Channel`, for tests."""
        self._deadline = deadline
        self._options = options
        self._resolver: aiodns.DNSResolver | None = None

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name.

        Raises:
            OSError: the name has none.
            TimeoutError: no name server answered in time.
        """
        if self._resolver is None:  # which belongs to the event loop that runs now
            self._resolver = aiodns.DNSResolver(timeout=self._deadline / _TRIES, tries=_TRIES, **self._options)
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._resolver.getaddrinfo(host, port=port, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as failure:
            if failure.args[0] == aiodns.error.ARES_ETIMEOUT:
                raise TimeoutError from failure
            raise OSError(f"{host} cannot be resolved") from failure
        return [str(node.addr[0], "ascii") for node in found.nodes]

    async def aclose(self) -> None:
        """Give up what is being looked up. Names can be looked up again afterwards."""
        if self._resolver is not None:
            self._resolver.cancel()  # their callbacks need the event loop, which may end after this
            await self._resolver.close()
            self._resolver = None
