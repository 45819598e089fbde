"""The stores that the settings name, in SQLite or Redis."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from seed_oauth.clients import RegisteredClients
from seed_oauth.clients.archive import DocumentStore
from seed_oauth.clients.assertion import UsedAssertions
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.held_responses import HeldResponseStore
from seed_oauth.flows.revoked import RevocationStore
from seed_oauth.settings import Settings
from seed_oauth.settings.store_url import is_redis
from seed_oauth.storage.sqlite.assertions import SqliteUsedAssertions
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.documents import SqliteDocumentStore
from seed_oauth.storage.sqlite.grants import SqliteGrantStore
from seed_oauth.storage.sqlite.held_responses import SqliteHeldResponseStore
from seed_oauth.storage.sqlite.revocations import SqliteRevocationStore


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores of one database."""

    clients: RegisteredClients
    grants: GrantStore
    assertions: UsedAssertions
    revocations: RevocationStore
    held: HeldResponseStore
    documents: DocumentStore
    aclose: Callable[[], Coroutine[Any, Any, None]]
    """Closes the connections. The stores can be used again afterwards."""


def open_stores(settings: Settings) -> Stores:
    """The stores at `settings.store_url`. Nothing is opened or connected to yet."""
    if is_redis(settings.store_url):
        return _in_redis(settings)
    database = Database(settings.store_url)
    return Stores(
        SqliteClientStore(database, settings.client_days, settings.client_quota, settings.clients_per_subject),
        SqliteGrantStore(database),
        SqliteUsedAssertions(database),
        SqliteRevocationStore(database),
        SqliteHeldResponseStore(database),
        SqliteDocumentStore(database),
        database.aclose,
    )


def _in_redis(settings: Settings) -> Stores:
    # Imported here: with SQLite the library would only cost memory and start-up time.
    from seed_oauth.storage.redis.assertions import RedisUsedAssertions  # noqa: PLC0415
    from seed_oauth.storage.redis.clients import RedisClientStore  # noqa: PLC0415
    from seed_oauth.storage.redis.database import RedisDatabase  # noqa: PLC0415
    from seed_oauth.storage.redis.documents import RedisDocumentStore  # noqa: PLC0415
    from seed_oauth.storage.redis.grants import RedisGrantStore  # noqa: PLC0415
    from seed_oauth.storage.redis.held_responses import RedisHeldResponseStore  # noqa: PLC0415
    from seed_oauth.storage.redis.revocations import RedisRevocationStore  # noqa: PLC0415

    database = RedisDatabase(settings.store_url)
    return Stores(
        RedisClientStore(database, settings.client_days, settings.client_quota, settings.clients_per_subject),
        RedisGrantStore(database),
        RedisUsedAssertions(database),
        RedisRevocationStore(database),
        RedisHeldResponseStore(database),
        RedisDocumentStore(database),
        database.aclose,
    )
