"""What the claims of an identity provider's access token mean (RFC 7519, RFC 9068, RFC 7662). Pure rules."""

from collections.abc import Collection, Mapping

from seed_oauth.access.identity import ClaimNames, Identity
from seed_oauth.flows.revoked import token_id
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.issuer import is_issuer
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS
from seed_oauth.protocol.resource import canonical
from seed_oauth.resource_server import AccessTokenError, VerifiedToken

Claims = Mapping[str, object]

CLOCK_SKEW = 60
"""Seconds that the identity provider's clock may be off (RFC 7519 §4.1.4: "usually no more than a few minutes")."""

# RFC 9068 §2.1 has the former; many identity providers write one of the latter.
_ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
_UNSPECIFIC_TYPES = ("jwt", None)

_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")  # OpenID Connect Core §2, §3.3.2.11


def is_acceptable(
    header: Claims,
    claims: Claims,
    *,
    issuer: str | None,
    resource: str,
    audiences: Collection[str],
    client_id: str | None,
    required: Collection[str],
    now: float,
) -> bool:
    """Whether a JWT would be accepted for the resource, if its signature is good.

    The same rules decide which tokens clients are given. An `issuer` that is not known is not compared.
    """
    try:
        check_header(header)
        if issuer is not None:
            check_issuer(claims, issuer)
        check_claims(header, claims, resource=resource, audiences=audiences, client_id=client_id, now=now)
    except AccessTokenError:
        return False
    return scopes_of(claims).issuperset(required)


def check_header(header: Claims) -> None:
    """Refuse a JWT that cannot be verified here.

    Raises:
        AccessTokenError: BAD_TOKEN.
    """
    # RFC 7515 §4.1.11: no extension is understood here, so any critical one is refused.
    if "crit" in header or header.get("alg") not in SIGNING_ALGORITHMS:
        raise bad_token()


def check_claims(
    header: Claims, claims: Claims, *, resource: str, audiences: Collection[str], client_id: str | None, now: float
) -> float:
    """When an access token of the right issuer expires, in seconds since the epoch.

    Raises:
        AccessTokenError: it is not an access token, not for the resource, or not valid now.
    """
    check_type(header, claims, client_id)
    check_audience(claims, resource, audiences)
    return check_times(claims, now)


def check_type(header: Claims, claims: Claims, client_id: str | None) -> None:
    """Refuse a JWT that is not an access token, above all an ID token (RFC 9068 §4).

    An ID token has the same issuer and the same keys, and reaches the client's front end, logs and analytics.

    Raises:
        AccessTokenError: NOT_AN_ACCESS_TOKEN.
    """
    kind = header.get("typ")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind in _ACCESS_TOKEN_TYPES:
        return
    if kind not in _UNSPECIFIC_TYPES or _is_id_token(claims, client_id):
        raise AccessTokenError(
            ResourceOutcome.NOT_AN_ACCESS_TOKEN,
            "this is not an access token: send the access_token of the token response",
        )


def _is_id_token(claims: Claims, client_id: str | None) -> bool:
    # Keycloak and Cognito say what the token is; Keycloak before 25 has a nonce in access tokens, too.
    said = claims.get("typ"), claims.get("token_use")
    if said in (("Bearer", None), (None, "access")):
        return False
    if said in (("ID", None), (None, "id")) or any(name in claims for name in _OF_ID_TOKENS):
        return True
    # At Entra ID an API may be its own client, so this says nothing about a token with scopes.
    return _strings(claims.get("aud")) == {client_id} and not scopes_of(claims)


def check_issuer(claims: Claims, issuer: str) -> None:
    """Refuse a token of another issuer (RFC 9068 §4), compared byte for byte.

    Raises:
        AccessTokenError: WRONG_ISSUER.
    """
    if not is_issuer(claims.get("iss"), issuer, claims.get("tid")):
        raise AccessTokenError(
            ResourceOutcome.WRONG_ISSUER,
            "another issuer issued the access token: get one from the authorization server in the resource metadata",
        )


def check_audience(claims: Claims, resource: str, others: Collection[str]) -> None:
    """Refuse a token for another audience than `resource`, in any spelling, or one of `others` (RFC 9068 §4).

    Raises:
        AccessTokenError: WRONG_AUDIENCE.
    """
    wanted = canonical(resource)
    if not any(audience in others or canonical(audience) == wanted for audience in _strings(claims.get("aud"))):
        raise wrong_audience()


def wrong_audience() -> AccessTokenError:
    """The refusal of a token for another audience (RFC 8707 §2; MCP Authorization, "Token Audience Binding")."""
    return AccessTokenError(
        ResourceOutcome.WRONG_AUDIENCE,
        "the access token is for another resource: request one with the resource of the resource metadata",
    )


def check_times(claims: Claims, now: float) -> float:
    """When the token expires, in seconds since the epoch.

    Raises:
        AccessTokenError: BAD_TOKEN without an expiry, EXPIRED_TOKEN, TOKEN_NOT_YET_VALID.
    """
    expires_at = _number(claims.get("exp"))
    if expires_at is None:
        raise bad_token()
    if expires_at <= now - CLOCK_SKEW:
        raise expired_token()
    not_before = max(_number(claims.get("nbf")) or 0, _number(claims.get("iat")) or 0)
    if not_before > now + CLOCK_SKEW:
        raise AccessTokenError(
            ResourceOutcome.TOKEN_NOT_YET_VALID, "the access token is not valid yet: a clock is wrong"
        )
    return expires_at


def expired_token() -> AccessTokenError:
    """The refusal of a token that has expired."""
    return AccessTokenError(ResourceOutcome.EXPIRED_TOKEN, "the access token has expired: use the refresh token")


def unknown_key() -> AccessTokenError:
    """The refusal of a token whose key is not, or no longer, published."""
    return AccessTokenError(
        ResourceOutcome.UNKNOWN_KEY, "the access token is signed with a key that is not in use: get a new token"
    )


def bad_token() -> AccessTokenError:
    """The refusal of a token that is malformed, or was issued by nobody known here."""
    return AccessTokenError(
        ResourceOutcome.BAD_TOKEN,
        "the access token is not valid here: get one from the authorization server in the resource metadata",
    )


def scopes_of(claims: Claims) -> frozenset[str]:
    """The scopes: `scope` (RFC 9068 §2.2.3), or `scp` as Entra (a string) and Okta (a list) write it."""
    listed = [claims.get("scope"), claims.get("scp")]
    texts = [text for one in listed for text in (one if isinstance(one, list) else [one]) if isinstance(text, str)]
    return frozenset(scope for text in texts for scope in text.split())


def token_of(claims: Claims, expires_at: float, issuer: str, claim_names: ClaimNames) -> VerifiedToken:
    """The token with these claims, once they are checked."""
    names = (claims.get(name) for name in ("client_id", "azp", "appid"))
    subject, session_id = claims.get("sub"), claims.get("sid")
    return VerifiedToken(
        subject=subject if isinstance(subject, str) else None,
        client_id=next((name for name in names if isinstance(name, str)), None),
        scopes=scopes_of(claims),
        expires_at=expires_at,
        issuer=issuer,
        claims=claims,
        **Identity.of(claims, claim_names, issuer).profile,
        issued_at=_number(claims.get("iat")) or 0.0,
        token_id=token_id(claims),
        session_id=session_id if isinstance(session_id, str) else None,
    )


def _strings(value: object) -> set[str]:
    listed = value if isinstance(value, list) else [value]
    return {one for one in listed if isinstance(one, str)}


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
