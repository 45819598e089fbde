"""The doctor's check of a store in Redis."""

from seed_oauth.cli.doctor.finding import Finding, failed, ok, warning
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import shown


async def check_redis(settings: Settings) -> Finding:
    """Whether Redis can be used, and whether it is configured to keep its data."""
    from seed_oauth.storage.redis.clients import RedisClientStore  # noqa: PLC0415 - see `store`
    from seed_oauth.storage.redis.database import RedisDatabase  # noqa: PLC0415 - the same

    where = shown(settings.store_url)
    database = RedisDatabase(settings.store_url)
    try:
        await RedisClientStore(database).check()
        info = await database.command("INFO", "everything")
    except StoreError as failure:
        remedy = f"check that Redis is running and that the user in {PREFIX}STORE_URL may write to it and run INFO"
        return failed("store", f"{where} cannot be used ({failure})", remedy)
    finally:
        await database.aclose()
    return _volatile(where, info) or ok("store", f"{where} can be read and written, and is durable")


def _volatile(where: str, info: dict[str, object]) -> Finding | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return warning(
            "store",
            f"{where} evicts clients and used refresh tokens when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy noeviction in Redis",
        )
    if not info.get("aof_enabled", 1):
        return warning("store", f"{where} loses its latest writes when it restarts", "set appendonly yes in Redis")
    return None
