"""Redis, by itself, behind Sentinel or as a Cluster: what several hosts share.

Imported only where the store is there: it takes 5 MB that an installation with SQLite keeps.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004 - its own
    RedisClusterException,
    RedisError,
    TimeoutError,  # noqa: A004 - the same
)

from seed_oauth.errors import StoreError
from seed_oauth.settings.store_url import RedisLocation, locate

KEY_PREFIX = "seed-oauth:"

TIMEOUT = 1.0
"""Seconds to connect, and for the answer to one command."""

_PATIENCE = 2 * TIMEOUT  # for all of it: asking Sentinels or nodes for the way, connecting, the command

BREAK = 1.0
"""Seconds for which nobody asks a Redis that was found not to answer."""

# Commands at once, and so connections to one server. One process can hardly keep so many busy; and with TLS each takes
# some ten milliseconds of the event loop to begin, because redis-py reads the trusted certificates for each.
_AT_ONCE = 8

_OUTAGES = (ConnectionError, TimeoutError, ClusterDownError, RedisClusterException, OSError)

Client = Redis | RedisCluster
Result = TypeVar("Result")


class RedisDatabase:
    """Runs commands, and fails fast while Redis is gone or paused.

    Nothing is tried twice here: whether a command whose answer is missing was carried out cannot be known. A
    connection that the server closed while nobody used it is replaced before a command is sent on it.
    """

    def __init__(self, url: str, clock: Callable[[], float] = monotonic) -> None:
        """Connect to nothing yet. `clock` counts seconds and never goes back."""
        self._client, self._sentinel = _client(locate(url))
        self._clock = clock
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._broken_until: float | None = None
        self._failure = ""

    async def command(self, *words: str | bytes | float) -> Any:  # noqa: ANN401 - each command has its own answer
        """What Redis answers to one command.

        Raises:
            StoreError: it does not answer, or refuses.
        """
        return await self.run(lambda client: client.execute_command(*words))

    async def run(self, work: Callable[[Client], Awaitable[Result]]) -> Result:
        """What `work` gets from Redis.

        Raises:
            StoreError: it does not answer, or refuses.
        """
        async with self._places:
            self._fail_if_broken()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._find_nodes()
                    result = await work(self._client)
            except _OUTAGES as failure:
                self._failure = type(failure).__name__
                self._broken_until = self._clock() + BREAK
                raise StoreError(self._failure) from failure
            except RedisError as refusal:
                raise StoreError(type(refusal).__name__) from refusal
            self._broken_until = None
            return result

    async def aclose(self) -> None:
        """Close the connections. It can be used again afterwards."""
        await self._client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def _find_nodes(self) -> None:
        """Find out who is in a Cluster, where that is not known (any more)."""
        if isinstance(self._client, RedisCluster):
            # redis-py would find it out with the first of several commands at once, and close the connections on which
            # the others are under way.
            await self._client.initialize()

    def _fail_if_broken(self) -> None:
        if self._broken_until is None:
            return
        now = self._clock()
        if now < self._broken_until:
            raise StoreError(self._failure)
        # One call finds out whether Redis is back; the others do not wait for it meanwhile.
        self._broken_until = now + BREAK


def _client(location: RedisLocation) -> tuple[Client, Sentinel | None]:
    """The client for this kind of Redis, and the Sentinels that it asks for the way."""
    options: dict[str, Any] = {
        "username": location.username,
        "password": location.password,
        "ssl": location.tls,
        **location.tls_files,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        # RESP2 needs no greeting, and nothing here needs more.
        "protocol": 2,
        "driver_info": None,
        "max_connections": 2 * _AT_ONCE,
    }
    if location.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in location.hosts]
        return RedisCluster(startup_nodes=nodes, **options), None
    if location.kind == "sentinel":
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types for it
            location.hosts, sentinel_kwargs=options, db=location.database, **options
        )
        return sentinel.master_for(location.service), sentinel
    host, port = location.hosts[0]
    return Redis(host=host, port=port, db=location.database, **options), None
