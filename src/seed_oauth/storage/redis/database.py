"""Redis, standalone, with Sentinel or as a Cluster, shared by several hosts.

Imported only where the store is in Redis, because it takes 5 MB of memory.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - the one of redis-py
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - the same
)

from seed_oauth.outcomes.errors import StoreError, in_words
from seed_oauth.settings.store_url import RedisLocation, locate

KEY_PREFIX = "seed-oauth:"

TIMEOUT = 1.0
"""Seconds to connect, and for the reply to one command."""

_PATIENCE = 2 * TIMEOUT  # for everything: asking Sentinels or nodes, connecting, the command

BREAK = 1.0
"""Seconds for which no command is sent to a Redis that did not reply."""

# Commands at the same time, and so connections to one server. One process can hardly keep that many busy, and with TLS
# each new one blocks the event loop for about ten milliseconds, because redis-py reads the trusted certificates.
_AT_ONCE = 8

_OUTAGES = (ConnectionError, TimeoutError, ClusterDownError, RedisClusterException, OSError)

_WORDS: dict[type[Exception], str] = {
    TimeoutError: "no answer in time",
    AuthenticationError: "the user or the password is wrong",
    NoPermissionError: "this user may not run a command that is needed",
    ReadOnlyError: "it is a replica, which cannot be written to",
    OutOfMemoryError: "its memory is full",
    BusyLoadingError: "it is still loading its data",
    MasterNotFoundError: "the Sentinels know no primary of this name",
    RedisClusterException: "no node of a Redis Cluster answers",
    ClusterDownError: "the Redis Cluster is down",
    ResponseError: "it refuses a command",
}

Client = Redis | RedisCluster
Result = TypeVar("Result")


class RedisDatabase:
    """Runs commands, and fails fast while Redis is down or paused.

    Commands are not retried, because a command without a reply may have been executed. A connection that the server
    has closed is replaced before a command is sent on it.
    """

    def __init__(self, url: str, clock: Callable[[], float] = monotonic) -> None:
        """Connect to nothing yet. `clock` counts seconds and never goes back."""
        self._client, self._sentinel = _client(locate(url))
        self._clock = clock
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._broken_until: float | None = None
        self._failure = ""

    async def command(self, *words: str | bytes | float) -> Any:  # noqa: ANN401 - each command has its own reply
        """The reply to one command.

        Raises:
            StoreError: there is no reply, or it is an error.
        """
        return await self.run(lambda client: client.execute_command(*words))

    async def run(self, work: Callable[[Client], Awaitable[Result]]) -> Result:
        """The result of `work`, which sends commands.

        Raises:
            StoreError: there is no reply, or it is an error.
        """
        async with self._slots:
            self._fail_if_broken()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._find_nodes()
                    result = await work(self._client)
            except _OUTAGES as failure:
                self._failure = _why(failure)
                self._broken_until = self._clock() + BREAK
                raise StoreError(self._failure) from failure
            except RedisError as refusal:
                raise StoreError(_why(refusal)) from refusal
            self._broken_until = None
            return result

    async def aclose(self) -> None:
        """Close the connections. The database can be used again afterwards."""
        await self._client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    async def _find_nodes(self) -> None:
        """Learn the nodes of a Cluster, if they are not known (any more)."""
        if isinstance(self._client, RedisCluster):
            # redis-py would do it with the first of several concurrent commands, and close the connections of the rest.
            await self._client.initialize()

    def _fail_if_broken(self) -> None:
        if self._broken_until is None:
            return
        now = self._clock()
        if now < self._broken_until:
            raise StoreError(self._failure)
        # This call finds out whether Redis is back; until then the others fail fast.
        self._broken_until = now + BREAK


def _why(failure: Exception) -> str:
    return next((words for kind, words in _WORDS.items() if isinstance(failure, kind)), None) or in_words(failure)


def _client(location: RedisLocation) -> tuple[Client, Sentinel | None]:
    """The client for this kind of Redis, and the Sentinels that it asks."""
    options: dict[str, Any] = {
        "username": location.username,
        "password": location.password,
        "ssl": location.tls,
        **location.tls_files,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        # RESP2 needs no handshake, and nothing here needs RESP3.
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
