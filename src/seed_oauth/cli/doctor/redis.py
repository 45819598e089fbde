"""What the doctor looks at in a Redis that keeps clients."""

from seed_oauth.cli.doctor.finding import Finding, failed, ok, warning
from seed_oauth.errors import StoreError
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.store_url import shown


async def check_redis(settings: Settings) -> Finding:
    """Whether clients can be kept there, and whether it keeps them."""
    from seed_oauth.storage.redis.clients import RedisClientStore  # noqa: PLC0415 - see `store`
    from seed_oauth.storage.redis.database import RedisDatabase  # noqa: PLC0415 - the same

    where = shown(settings.store_url)
    database = RedisDatabase(settings.store_url)
    try:
        await RedisClientStore(database).check()
        told = await database.command("INFO", "everything")
    except StoreError as failure:
        remedy = (
            f"see that it answers, and that {PREFIX}STORE_URL names it with a user that may write there and ask INFO"
        )
        return failed("store", f"{where} cannot be used ({failure})", remedy)
    finally:
        await database.aclose()
    return _forgetful(where, told) or ok("store", f"{where} can be read and written, and keeps what it is given")


def _forgetful(where: str, told: dict[str, object]) -> Finding | None:
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return warning(
            "store",
            f"{where} forgets clients and used refresh tokens when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy noeviction there",
        )
    if not told.get("aof_enabled", 1):
        return warning("store", f"{where} forgets what it was told last when it restarts", "set appendonly yes there")
    return None
