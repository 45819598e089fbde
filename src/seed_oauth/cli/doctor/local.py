"""What the doctor looks at on this machine: keys, the store, the metrics port."""

import os
from pathlib import Path

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.redis import check_redis
from seed_oauth.errors import StoreError
from seed_oauth.http_client.fetch import fetch
from seed_oauth.server.listener import base_url, listen
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.settings.store_url import SQLITE, is_redis
from seed_oauth.storage.open import open_stores
from seed_oauth.telemetry.contract import AUTHORIZATION_REQUESTS

_FOR_OTHERS = 0o077
_LONGEST_SCRAPE = 1 << 20  # bytes


def check_secret_keys(settings: Settings) -> Finding:
    """Whether what is sealed today can be opened tomorrow; that the keys are long enough is checked on loading."""
    if f"{PREFIX}SECRET_KEYS" in os.environ:
        return ok("secret keys", f"{len(settings.secret_keys)} of them; the first one seals")
    if settings.secret_keys:
        return warning(
            "secret keys",
            "a random one, which a restart forgets: everybody has to log in again",
            f"set {PREFIX}SECRET_KEYS to what this prints: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return skipped("secret keys", "the relay flow seals nothing")


def check_rate_limits(settings: Settings) -> Finding:
    """Whether clients can be told apart by their addresses."""
    if settings.trusted_proxies:
        return ok("rate limits", f"{len(settings.trusted_proxies)} reverse proxies are believed")
    if settings.issuer.startswith("https://"):
        # This server itself speaks plain http: somebody before it ends TLS.
        return warning(
            "rate limits",
            "a reverse proxy stands before this server, and whom it asks for is not known: there are no limits by "
            "address, or its users share one",
            f"set {PREFIX}TRUSTED_PROXIES to its addresses, such as 127.0.0.1, and have it append to X-Forwarded-For",
        )
    return ok("rate limits", "clients at public addresses have limits of their own")


async def check_store(settings: Settings) -> Finding:
    """Whether clients can be kept, and whether others can read them. A file that is not there is not made."""
    if is_redis(settings.store_url):
        return await check_redis(settings)
    path = Path(settings.store_url.removeprefix(SQLITE))
    if path.name == ":memory:":
        return warning(
            "store", "it is in memory: a restart forgets every client", f"set {PREFIX}STORE_URL to sqlite:///file"
        )
    return _not_made_yet(path) or await _not_usable(settings, path) or _open_to_others(path)


def _not_made_yet(path: Path) -> Finding | None:
    if path.exists():
        return None
    if os.access(path.parent, os.W_OK | os.X_OK):
        return ok("store", f"{path} will be made on first use")
    return failed("store", f"{path} cannot be made", f"set {PREFIX}STORE_URL to a folder that the server can write to")


async def _not_usable(settings: Settings, path: Path) -> Finding | None:
    stores = open_stores(settings)
    try:
        await stores.clients.check()
    except StoreError as failure:
        remedy = f"see that {PREFIX}STORE_URL names the right file and that the user of the server can write to it"
        return failed("store", f"{path} cannot be used ({failure})", remedy)
    finally:
        await stores.aclose()
    return None


def _open_to_others(path: Path) -> Finding:
    status = path.stat()
    if status.st_mode & _FOR_OTHERS:
        return warning("store", f"others can read or write {path}", f"chmod 600 {path}")
    if status.st_uid != os.geteuid():
        return warning(
            "store", f"{path} belongs to another user", "run this as the user of the server, who must own the file"
        )
    return ok("store", f"{path} can be read and written, by its owner only")


async def check_metrics_port(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether the metrics have a port of their own."""
    where = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        listen(settings.metrics_host, settings.metrics_port, "METRICS_PORT").close()
    except SettingsError as taken:
        if await _has_our_metrics(settings, transport):
            return ok("metrics port", f"the server that runs has its metrics at {where}")
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
    """The URL of a listener of ours, as it is reached from this machine."""
    return base_url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - asked, not bound
