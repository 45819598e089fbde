"""Which names a connection on loopback is answered under, against DNS rebinding.

A page of evil.example becomes same-origin with a local server once its name resolves to 127.0.0.1. Its requests have
that name in Host. A tunnel, such as that of `kubectl port-forward`, connects on loopback, too, wherever the listener is
bound.
"""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth.http.answer import json_response
from seed_oauth.settings import Settings

_MISDIRECTED = 421  # RFC 9110 §15.5.20


def public_hosts(settings: Settings) -> frozenset[str]:
    """The host names by which reverse proxies and clients know this server."""
    return frozenset(urlsplit(url).hostname or "" for url in (settings.issuer, *settings.protected_resources))


class KnownHosts:
    """ASGI middleware that refuses requests for other names on connections on loopback.

    Addresses and names without a dot are never rebound.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """`hosts` are names in lower case."""
        self._app = app
        self.answer_to(hosts)

    def answer_to(self, hosts: Collection[str]) -> None:
        """Answer to these names from now on, instead of those before."""
        self._hosts = hosts
        self._is_known = lru_cache(256)(self._look_up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if (
            scope["type"] == "http"
            and _is_loopback(scope["server"][0])
            and not all(self._is_known(value) for name, value in scope["headers"] if name == b"host")
        ):
            description = "this server does not answer to the name in Host: use its issuer or an address"
            app: ASGIApp = json_response({"error": "invalid_request", "error_description": description}, _MISDIRECTED)
        else:
            app = self._app
        await app(scope, receive, send)

    def _look_up(self, value: bytes) -> bool:
        try:
            host = urlsplit(f"//{value.decode('ascii').lower()}").hostname or ""
        except ValueError:
            return False
        return "." not in host or host in self._hosts or host.endswith(".localhost") or _is_address(host)


@lru_cache(256)
def _is_loopback(address: str) -> bool:
    # A socket of IPv6 has connections of IPv4, too (RFC 4291 §2.5.5.2).
    return ip_address(address.removeprefix("::ffff:")).is_loopback


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
