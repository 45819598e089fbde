"""`GET /oauth/verify`: a reverse proxy asks whether a request may pass to the MCP server (forward authentication).

For nginx `auth_request`, Caddy `forward_auth`, Traefik ForwardAuth, Envoy `ext_authz` and HAProxy. The reverse proxy
sends no bodies here, so what single tools need cannot be told: a token must have the scopes of all of them.
"""

from collections.abc import Callable, Collection, Mapping
from time import time

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.http.answer import Answer
from seed_oauth.http.original_request import AmbiguousRequestError, OriginalRequest, original_request
from seed_oauth.http.scope_keys import RESOURCE
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.protocol.resource import canonical
from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import identity_headers
from seed_oauth.resource_server.reverse_proxy import METHODS

MAX_AGE = 5
"""Seconds for which a reverse proxy may cache that a request may pass, and for which it may miss a revocation."""

# RFC 9111 §4.1: a cache gives no client the answer to another, even if its key has no token.
_VARY = "Authorization, X-Original-URI, X-Forwarded-URI, X-Original-Method, X-Forwarded-Method, X-Forwarded-Host"


class VerifyEndpoint:
    """Says who sent the request that a trusted proxy asks about, in the header fields that `ReverseProxy` sends on."""

    def __init__(
        self,
        guards: Mapping[str, Guard],
        addresses: ClientAddresses,
        issuer: str,
        *,
        names: Mapping[str, str],
        sends_token_for: Collection[str],
        now: Callable[[], float] = time,
    ) -> None:
        """`guards` are those of the protected resources, by URL, and `names` their names in the metrics.

        `addresses` knows the trusted proxies; `sends_token_for` are the resources for which the identity provider's
        access token is told, too; `now` counts seconds since the epoch.
        """
        self._guards = {
            canonical(url) or "": (guard, names.get(url, ""), url in sends_token_for) for url, guard in guards.items()
        }
        self._parts = max(url.count("/") for url in self._guards) + 1
        self._addresses = addresses
        self._issuer = issuer
        self._now = now

    async def __call__(self, request: Request) -> Answer:
        """200 with the identity header fields.

        Raises:
            OAuthError: the peer is not trusted, nothing is protected at the URL, or the token is not valid there.
        """
        if not self._addresses.is_trusted_proxy(request.scope):
            raise OAuthError(
                ResourceOutcome.UNTRUSTED_PROXY,
                "only trusted proxies may ask this: the operator can add one to SEED_OAUTH_TRUSTED_PROXIES",
            )
        try:
            original = original_request(request)
        except AmbiguousRequestError as ambiguous:
            raise OAuthError(ResourceOutcome.NOT_A_RESOURCE, str(ambiguous)) from ambiguous
        guard, name, sends_token = self._guard_of(original)
        request.scope[RESOURCE] = name
        if original.method not in METHODS:
            allowed = {"Allow": ", ".join(METHODS)}
            raise OAuthError(ResourceOutcome.METHOD_NOT_ALLOWED, f"use {' or '.join(METHODS)}", allowed)
        token = await guard.check(Request({**request.scope, "query_string": original.query}))
        said = identity_headers(token, self._issuer, send_token=sends_token)
        seconds = max(min(MAX_AGE, int(token.expires_at - self._now())), 0)
        headers = {
            # All of them, because a reverse proxy that copies them replaces only what there is.
            **{name: value or "" for name, value in said.items()},
            "Cache-Control": f"private, max-age={seconds}",
            # nginx caches nothing that is private, unless this tells it to.
            "X-Accel-Expires": str(seconds),
            "Vary": _VARY,
        }
        return await guard.allowed(request, token, Response(headers=headers))

    def _guard_of(self, original: OriginalRequest) -> tuple[Guard, str, bool]:
        # Of two resources that contain a URL, the inner one is meant, so the longest part of the URL comes first.
        parts = (canonical(original.url) or "").split("/", self._parts)[: self._parts]
        for length in range(len(parts), 0, -1):
            if found := self._guards.get("/".join(parts[:length])):
                return found
        raise OAuthError(
            ResourceOutcome.NOT_A_RESOURCE,
            "nothing is protected at this URL: the operator can add it to SEED_OAUTH_RESOURCES",
        )
