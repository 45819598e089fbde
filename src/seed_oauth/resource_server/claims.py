"""What the claims of an identity provider's access token mean (RFC 7519, RFC 9068, RFC 7662). Pure rules."""

from collections.abc import Collection, Mapping

from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.resource import canonical
from seed_oauth.resource_server import VerifiedToken

Claims = Mapping[str, object]

CLOCK_SKEW = 60
"""Seconds that the identity provider's clock may be off (RFC 7519 §4.1.4: "usually no more than a few minutes")."""

# RFC 9068 §2.1 has the former; many identity providers write one of the latter.
_ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
_UNSPECIFIC_TYPES = ("jwt", None)

_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")  # OpenID Connect Core §2, §3.3.2.11


def check_type(header: Claims, claims: Claims, client_id: str | None) -> None:
    """Refuse a JWT that is something else than an access token, an ID token above all (RFC 9068 §4).

    It has the same issuer and the same keys, and is shown to the client's front end, to logs and to analytics.

    Raises:
        OAuthError: NOT_AN_ACCESS_TOKEN.
    """
    kind = header.get("typ")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind in _ACCESS_TOKEN_TYPES:
        return
    if kind not in _UNSPECIFIC_TYPES or _is_id_token(claims, client_id):
        raise OAuthError(
            ResourceOutcome.NOT_AN_ACCESS_TOKEN, "this is no access token: send the access_token of the token response"
        )


def _is_id_token(claims: Claims, client_id: str | None) -> bool:
    # Keycloak and Cognito say what it is; Keycloak before 25 has a nonce in access tokens, too.
    said = claims.get("typ"), claims.get("token_use")
    if said in (("Bearer", None), (None, "access")):
        return False
    if said in (("ID", None), (None, "id")) or any(name in claims for name in _OF_ID_TOKENS):
        return True
    # At Entra an API may be its own client, so that this alone says nothing where there is a scope.
    return _strings(claims.get("aud")) == {client_id} and not scopes_of(claims)


def check_issuer(claims: Claims, issuer: str) -> None:
    """Refuse a token of another issuer (RFC 9068 §4), compared byte for byte.

    Raises:
        OAuthError: WRONG_ISSUER.
    """
    # Entra's issuer for several tenants is a template, and its tokens say which tenant it is:
    # https://learn.microsoft.com/entra/identity-platform/access-tokens#multitenant-applications
    expected = issuer.replace("{tenantid}", str(claims.get("tid")))
    if claims.get("iss") != expected:
        raise OAuthError(
            ResourceOutcome.WRONG_ISSUER,
            "the access token is of another issuer: get one from the authorization server in the resource metadata",
        )


def check_audience(claims: Claims, resource: str, others: Collection[str]) -> None:
    """Refuse a token that is for somebody else: its audience must be `resource` in any spelling, or one of `others`.

    Raises:
        OAuthError: WRONG_AUDIENCE.
    """
    wanted = canonical(resource)
    if not any(audience in others or canonical(audience) == wanted for audience in _strings(claims.get("aud"))):
        raise wrong_audience()


def wrong_audience() -> OAuthError:
    """The refusal of a token that is for somebody else (RFC 8707 §2; MCP Authorization, "Token Audience Binding")."""
    return OAuthError(
        ResourceOutcome.WRONG_AUDIENCE,
        "the access token is for another resource: ask for one with the resource parameter of the metadata",
    )


def check_times(claims: Claims, now: float) -> float:
    """When the token expires, in seconds since the epoch.

    Raises:
        OAuthError: BAD_TOKEN without an expiry, EXPIRED_TOKEN, TOKEN_NOT_YET_VALID.
    """
    expires_at = _number(claims.get("exp"))
    if expires_at is None:
        raise bad_token()
    if expires_at <= now - CLOCK_SKEW:
        raise expired_token()
    not_before = max(_number(claims.get("nbf")) or 0, _number(claims.get("iat")) or 0)
    if not_before > now + CLOCK_SKEW:
        raise OAuthError(ResourceOutcome.TOKEN_NOT_YET_VALID, "the access token is not valid yet: a clock is wrong")
    return expires_at


def expired_token() -> OAuthError:
    """The refusal of a token that was good, some time ago."""
    return OAuthError(ResourceOutcome.EXPIRED_TOKEN, "the access token has expired: use the refresh token")


def bad_token() -> OAuthError:
    """The refusal of what is no token, or of nobody that is known here."""
    return OAuthError(
        ResourceOutcome.BAD_TOKEN,
        "the access token is none that can be used here: get one from the authorization server in the metadata",
    )


def scopes_of(claims: Claims) -> frozenset[str]:
    """The scopes: `scope` (RFC 9068 §2.2.3), or `scp` as Entra (a string) and Okta (a list) write it."""
    listed = [claims.get("scope"), claims.get("scp")]
    texts = [text for one in listed for text in (one if isinstance(one, list) else [one]) if isinstance(text, str)]
    return frozenset(scope for text in texts for scope in text.split())


def token_of(claims: Claims, expires_at: float, issuer: str) -> VerifiedToken:
    """What the claims of a good token say."""
    names = (claims.get(name) for name in ("client_id", "azp", "appid"))
    subject = claims.get("sub")
    return VerifiedToken(
        subject=subject if isinstance(subject, str) else None,
        client_id=next((name for name in names if isinstance(name, str)), None),
        scopes=scopes_of(claims),
        expires_at=expires_at,
        issuer=issuer,
        claims=claims,
    )


def _strings(value: object) -> set[str]:
    listed = value if isinstance(value, list) else [value]
    return {one for one in listed if isinstance(one, str)}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
