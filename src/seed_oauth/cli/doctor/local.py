"""The doctor's checks of this machine: secret keys, rate limits, store and metrics port."""

import os
from pathlib import Path

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.redis import check_redis
from seed_oauth.http_client.fetch import fetch
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.server.listener import base_url, listen
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.settings.store_url import SQLITE, default_store_url, is_redis, overlooked
from seed_oauth.storage.open import open_stores
from seed_oauth.telemetry.contract import AUTHORIZATION_REQUESTS

_FOR_OTHERS = 0o077
_LONGEST_SCRAPE = 1 << 20  # bytes


def check_secret_keys(settings: Settings) -> Finding:
    """Whether the keys survive a restart. Their length is checked when the settings are loaded."""
    if "secret_keys" in Settings.origins():
        return ok("secret keys", f"{len(settings.secret_keys)} set; the first one encrypts")
    if settings.secret_keys:
        return warning(
            "secret keys",
            "the key is random and lost at restart, so everybody has to log in again",
            f'set {PREFIX}SECRET_KEYS to the output of python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return skipped("secret keys", "not used in the relay flow")


def check_rate_limits(settings: Settings) -> Finding:
    """Whether clients can be distinguished by address."""
    if settings.trusted_proxies:
        return ok("rate limits", f"trusted reverse proxies: {len(settings.trusted_proxies)}")
    if settings.issuer.startswith("https://"):
        # This server speaks plain http, so a reverse proxy must terminate TLS.
        return warning(
            "rate limits",
            "the reverse proxy hides the client addresses: there are no limits per address, or all clients share one",
            f"set {PREFIX}TRUSTED_PROXIES to its addresses, such as 127.0.0.1, and let it append to X-Forwarded-For",
        )
    return ok("rate limits", "limits apply per public client address")


async def check_store(settings: Settings) -> Finding:
    """Whether the store can be used, and only by its owner. A missing file is not created."""
    if is_redis(settings.store_url):
        return await check_redis(settings)
    path = Path(settings.store_url.removeprefix(SQLITE))
    if path.name == ":memory:":
        return warning(
            "store",
            "the store is in memory, so a restart loses every client",
            f"set {PREFIX}STORE_URL to sqlite:///file",
        )
    if former := overlooked(settings.store_url):
        remedy = f"set {PREFIX}STORE_URL={SQLITE}{former} to keep its clients, or delete it"
        return warning("store", f"{former}, the store of an earlier version, is not used", remedy)
    return _missing(path) or await _not_usable(settings, path) or _permissions(path)


def _missing(path: Path) -> Finding | None:
    if path.exists():
        return None
    folder = path.parent
    if str(path) == default_store_url().removeprefix(SQLITE):
        # The folder of the default store is created, too.
        folder = next(parent for parent in path.parents if parent.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return ok("store", f"{path} will be created on first use")
    return failed("store", f"{path} cannot be created", f"set {PREFIX}STORE_URL to a file in a writable folder")


async def _not_usable(settings: Settings, path: Path) -> Finding | None:
    stores = open_stores(settings)
    try:
        await stores.clients.check()
    except StoreError as failure:
        remedy = f"check that {PREFIX}STORE_URL names the right file and that the user of the server can write to it"
        return failed("store", f"{path} cannot be used ({failure})", remedy)
    finally:
        await stores.aclose()
    return None


def _permissions(path: Path) -> Finding:
    status = path.stat()
    if status.st_mode & _FOR_OTHERS:
        return warning("store", f"other users can read or write {path}", f"chmod 600 {path}")
    if status.st_uid != os.geteuid():
        return warning(
            "store", f"{path} belongs to another user", "run this as the user of the server, who must own the file"
        )
    return ok("store", f"{path} can be read and written by its owner only")


async def check_metrics_port(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether the metrics port is free or in use by this server."""
    where = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        listen(settings.metrics_host, settings.metrics_port, "METRICS_PORT").close()
    except SettingsError as taken:
        if await _has_our_metrics(settings, transport):
            return ok("metrics port", f"the running server has its metrics at {where}")
        problem, _, remedy = str(taken).partition(": ")
        return failed("metrics port", problem, remedy)
    return ok("metrics port", f"{where} is free")


async def _has_our_metrics(settings: Settings, transport: httpx.AsyncBaseTransport) -> bool:
    url = local_url(settings.metrics_host, settings.metrics_port)
    try:
        response = await fetch(transport, f"{url}/metrics", limit=_LONGEST_SCRAPE, accept="text/plain")
    except httpx.TransportError:
        return False
    return AUTHORIZATION_REQUESTS.name.encode() in response.body


def local_url(host: str, port: int) -> str:
    """The URL of a listener, for requests from this machine."""
    return base_url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - compared, not bound
