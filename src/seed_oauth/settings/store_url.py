"""Validation of the setting `store_url`: a SQLite file, Redis, Redis Sentinel or Redis Cluster.

The URL forms are those of redis-py. Errors never repeat a URL, because it may contain a password.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field

from seed_oauth.settings.mcp_server import is_private

SQLITE = "sqlite:///"
IN_MEMORY = f"{SQLITE}:memory:"

_FOLDER = Path("/var/lib/seed-oauth")
_FORMER = Path("seed-oauth.db")  # the default of earlier versions, in the current folder

_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})

_FORMS = (
    "must be sqlite:///file, sqlite:////absolute/file, sqlite:///:memory:, rediss://user:password@host:port/db, "
    "rediss+sentinel://host:port,host:port/service or rediss+cluster://host:port,host:port"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisLocation:
    """The addresses and credentials of Redis."""

    kind: Literal["single", "sentinel", "cluster"]
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Host and port of Redis, of the Sentinels, or of Cluster nodes from which the others are discovered."""
    username: str | None
    password: str | None = field(repr=False)
    """Used for Redis and for the Sentinels."""
    service: str = ""
    """The service name of Redis at the Sentinels."""
    database: int = 0
    tls_files: dict[str, str] = field(default_factory=dict)
    """Paths by redis-py's names: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`."""


def default_store_url() -> str:
    """The URL of the default store, which does not depend on the current folder; empty if the user has no home."""
    folder = _FOLDER
    if not os.access(folder, os.W_OK | os.X_OK):
        # XDG Base Directory Specification: relative paths are ignored.
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        try:
            folder = (state if state.is_absolute() else Path.home() / ".local/state") / "seed-oauth"
        except RuntimeError:
            return ""
    return f"{SQLITE}{folder / 'clients.db'}"


def overlooked(url: str) -> Path | None:
    """The default store of earlier versions, if it is in the current folder and not used any more."""
    former = _FORMER.absolute()
    return former if former.exists() and url == default_store_url() else None


def is_redis(url: str) -> bool:
    """Whether the URL is of Redis in any form."""
    return url.startswith("redis")


def shown(url: str) -> str:
    """The URL without user, password and query, for output."""
    if not is_redis(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def place(url: str) -> str:
    """Where the store is: the path of the file, or the URL without user, password and query."""
    path = url.removeprefix(SQLITE)
    return shown(url) if is_redis(url) or url == IN_MEMORY else str(Path(path).absolute())


def locate(url: str) -> RedisLocation:
    """Parse the URL of Redis.

    Raises:
        ValueError: it is invalid; says what to write.
    """
    try:
        parts = urlsplit(url)
        userinfo, _, netloc = parts.netloc.rpartition("@")
        transport, _, kind = parts.scheme.partition("+")
        hosts = _hosts(netloc, _SENTINEL_PORT if kind == "sentinel" else _REDIS_PORT)
    except ValueError:
        # The parser's message would repeat the URL.
        raise ValueError("has an invalid host or port: write redis://127.0.0.1:6379") from None
    if transport not in {"redis", "rediss"} or kind not in {"", "sentinel", "cluster"}:
        raise ValueError(_FORMS)
    if parts.fragment or "#" in url:
        raise ValueError("must not contain #: write %23 in a password")
    tls = transport == "rediss"
    if not tls and not all(is_private(host) for host, _ in hosts):
        # Otherwise the password and the stored grants would cross the network in plain text.
        raise ValueError("must use rediss (redis without TLS is for loopback and private addresses only)")
    if len(hosts) > 1 and not kind:
        raise ValueError("has several hosts: write redis+sentinel:// or redis+cluster://")
    username, _, password = userinfo.partition(":")
    service, database = _path(kind, parts.path.strip("/"))
    return RedisLocation(
        kind=kind or "single",  # type: ignore[arg-type]  # checked above
        tls=tls,
        hosts=hosts,
        username=unquote(username) or None,
        password=unquote(password) or None,
        service=service,
        database=database,
        tls_files=_files(parts, tls=tls),
    )


def _hosts(netloc: str, default_port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for one in netloc.split(","):
        place = urlsplit(f"//{one}")
        if not place.hostname:
            raise ValueError
        found.append((place.hostname, default_port if place.port is None else place.port))
    return tuple(found)


def _path(kind: str, path: str) -> tuple[str, int]:
    """The service name and the database number."""
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("must have the service name of the Sentinels: redis+sentinel://host:26379/mymaster")
    if not path:
        return service, 0
    if kind == "cluster" or not path.isdecimal():
        raise ValueError(
            "must have no path: a Cluster has one database"
            if kind == "cluster"
            else "must have a database number as its path, such as /0, or no path"
        )
    return service, int(path)


def _files(parts: SplitResult, *, tls: bool) -> dict[str, str]:
    # The other options of redis-py are either set by this project (timeouts) or unsafe (ssl_cert_reqs=none).
    files = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not files.keys() <= _TLS_FILES:
        raise ValueError(f"must have only these in its query: {', '.join(sorted(_TLS_FILES))}")
    if files and not tls:
        raise ValueError("must use rediss if it names certificates")
    return files


def _store_url(value: str) -> str:
    if is_redis(value):
        for name, file in locate(value).tls_files.items():
            if not Path(file).is_file():
                raise ValueError(f"names a file in {name} that does not exist")
    elif not value.startswith(SQLITE) or value == SQLITE:
        raise ValueError(_FORMS)
    return value


StoreUrl = Annotated[str, AfterValidator(_store_url), Field(repr=False)]
