"""Where things are remembered: the one place that goes by the store's URL."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from seed_oauth.clients import RegisteredClients
from seed_oauth.clients.assertions import SqliteUsedAssertions, UsedAssertions
from seed_oauth.clients.sqlite import SqliteClientStore
from seed_oauth.database import Database
from seed_oauth.grants import GrantStore
from seed_oauth.grants.sqlite import SqliteGrantStore
from seed_oauth.settings import Settings
from seed_oauth.settings.store import is_redis


@dataclass(frozen=True, slots=True)
class Stores:
    """All that is remembered, in one place."""

    clients: RegisteredClients
    grants: GrantStore
    assertions: UsedAssertions
    aclose: Callable[[], Coroutine[Any, Any, None]]
    """Lets go of connections. They can be used again afterwards."""


def open_stores(settings: Settings) -> Stores:
    """The stores of `settings.store_url`. Nothing is opened or connected to yet."""
    if is_redis(settings.store_url):
        return _in_redis(settings)
    database = Database(settings.store_url)
    return Stores(
        SqliteClientStore(database, settings.client_days, settings.client_quota),
        SqliteGrantStore(database),
        SqliteUsedAssertions(database),
        database.aclose,
    )


def _in_redis(settings: Settings) -> Stores:
    # Who keeps things in SQLite does not pay for the library, in memory or at start.
    from seed_oauth.clients.redis import RedisClientStore, RedisUsedAssertions  # noqa: PLC0415
    from seed_oauth.grants.redis import RedisGrantStore  # noqa: PLC0415
    from seed_oauth.redis_database import RedisDatabase  # noqa: PLC0415

    database = RedisDatabase(settings.store_url)
    return Stores(
        RedisClientStore(database, settings.client_days, settings.client_quota),
        RedisGrantStore(database),
        RedisUsedAssertions(database),
        database.aclose,
    )
