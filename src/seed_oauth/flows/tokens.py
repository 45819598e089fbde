"""The token response of the broker flow, made of the identity provider's."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import orjson

from seed_oauth.access.identity import Identity
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import TokenMembers
from seed_oauth.flows.access_tokens import AccessTokens
from seed_oauth.flows.revoked import hashed, token_id
from seed_oauth.flows.transaction import Grant
from seed_oauth.protocol import base64url

Accepts = Callable[[Mapping[str, Any], Mapping[str, Any], str | None, str], bool]
"""Whether an access token with this header and these claims, from the identity provider with this issuer, would be
accepted for a resource."""


def claims_of(token: object) -> Mapping[str, Any]:
    """The claims of a JWT, not verified; empty if it is not a JWT."""
    return _read(_parts(token)[1])


def _parts(token: object) -> Sequence[str]:
    """Header and claims, as they are encoded; both are empty if it is not a JWT."""
    parts = token.split(".", 3) if isinstance(token, str) else []
    return parts[:2] if len(parts) == 3 else ("", "")  # noqa: PLR2004 - RFC 7515 §3.1


def _read(part: str) -> Mapping[str, Any]:
    if not part:
        return {}
    try:
        members = orjson.loads(base64url.decoded(part))
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def token_hash(members: TokenMembers) -> str | None:
    """What is stored of an access token of the identity provider that is passed on; None for our own."""
    return _hash_in(claims_of(members.get("access_token")))


@lru_cache(maxsize=16)  # an identity provider writes the same header as long as it has the same key
def _header(part: str) -> Mapping[str, Any]:
    return _read(part)


def _hash_in(claims: Mapping[str, Any]) -> str | None:
    named = token_id(claims)
    return None if named is None else hashed(named)


class TokenIssuer:
    """Makes the client's token response from the identity provider's."""

    def __init__(
        self,
        sealer: Sealer,
        own: AccessTokens,
        policy: Literal["auto", "idp", "own", "jwt"],
        seconds: int,
        accepts: Accepts,
    ) -> None:
        """`policy` decides whose access tokens clients get (the setting `access_tokens`); `own` last `seconds`.

        With `auto` clients get what whoever protects the MCP server `accepts`.
        """
        self._accepts = accepts
        self._sealer = sealer
        self._own = own
        self._policy = policy
        self._seconds = seconds

    def passes_on(self, idp: TokenMembers, resource: str, idp_issuer: str | None) -> tuple[bool, str | None]:
        """Whether the client gets the identity provider's access token: if it is meant for the MCP server.

        If so, what is stored of it, too.

        One that is opaque or meant for another audience, such as the provider's own API, is not passed on: any server
        that receives it could use it there (MCP Security Best Practices, "Token Passthrough").
        """
        if self._policy in {"own", "jwt"}:
            return False, None
        parts = _parts(idp["access_token"])
        header, claims = _header(parts[0]), _read(parts[1])
        passes = self._policy == "idp" or self._accepts(header, claims, idp_issuer, resource)
        return passes, _hash_in(claims) if passes else None

    def members(
        self, idp: TokenMembers, grant: Grant, scope: str | None, now: float, *, passed_on: bool
    ) -> TokenMembers:
        """The members of the client's token response (RFC 6749 §5.1), with a refresh token if we were given one.

        `scope` is the scope of the access token, as the client is told; `passed_on` is what `passes_on` says.

        An ID token is not passed on: its audience is this server, and an MCP client has no use for it.
        """
        members = self._access_token(idp, grant, scope, now, passed_on)
        if scope is not None:
            members["scope"] = scope
        # An identity provider that does not rotate its refresh token sends none: the old one remains valid.
        if idp.get("refresh_token"):
            grant = grant._replace(idp_refresh_token=str(idp["refresh_token"]))
        if grant.idp_refresh_token:
            members["refresh_token"] = grant.sealed(self._sealer, now)
        return members

    def _access_token(
        self, idp: TokenMembers, grant: Grant, scope: str | None, now: float, passed_on: bool
    ) -> dict[str, object]:
        """`access_token` and `expires_in`: the identity provider's token, or our own that contains it."""
        idp_token = str(idp["access_token"])
        expires_in = idp.get("expires_in")
        assert expires_in is None or isinstance(expires_in, int)  # noqa: S101 - see `read_token_response`
        if passed_on:
            lasts = {} if expires_in is None else {"expires_in": expires_in}
            return {"access_token": idp_token, **lasts}
        seconds = self._seconds if expires_in is None else min(self._seconds, expires_in)
        token = AccessToken(
            client_id=grant.client_id,
            resource=grant.resource,
            scope=scope or "",
            expires_at=int(now) + seconds,
            subject=grant.subject,
            idp_access_token=idp_token,
            grant_id=grant.grant_id,
            issued_at=round(now, 3),
            **(grant.identity or Identity(None, None)).profile,
        )
        return {"access_token": self._own.issued(token, now), "expires_in": seconds}
