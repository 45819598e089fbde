"""Who is asking at `/oauth/token` and `/oauth/revoke`: client authentication (RFC 6749 §2.3, §3.2.1)."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from seed_oauth.clients import Client, ClientStore, StoreError, TokenEndpointAuthMethod
from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import RevocationOutcome, TokenOutcome
from seed_oauth.parameters import MalformedRequestError

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="seed-oauth"'}


@dataclass(frozen=True, slots=True)
class _Credentials:
    client_id: str
    secret: str
    method: TokenEndpointAuthMethod


async def authenticate_client(
    authorization: str | None,
    form: Mapping[str, str],
    clients: ClientStore,
    outcomes: type[TokenOutcome] | type[RevocationOutcome],
) -> Client:
    """The client that sent `form` with this `Authorization` header, by the method it registered.

    Raises:
        OAuthError: the rows UNKNOWN_CLIENT, BAD_CLIENT_AUTHENTICATION and CLIENT_LOOKUP_FAILED.
        MalformedRequestError: no client_id, or two ways of authenticating at once (RFC 6749 §2.3).
    """
    presented = _presented(authorization, form)
    # RFC 6749 §5.2: the challenge is owed to whoever tried the Authorization header.
    challenge = _CHALLENGE if presented.method == "client_secret_basic" else {}
    try:
        client = await clients.get(presented.client_id)
    except StoreError as failure:
        raise OAuthError(
            outcomes.CLIENT_LOOKUP_FAILED, "clients cannot be looked up at the moment, try again"
        ) from failure
    if client is None:
        raise OAuthError(
            outcomes.UNKNOWN_CLIENT,
            "this client_id is not registered here (any more): register again and start a new authorization",
            challenge,
        )
    if presented.method != client.token_endpoint_auth_method:
        raise OAuthError(
            outcomes.BAD_CLIENT_AUTHENTICATION,
            f"this client is registered with token_endpoint_auth_method {client.token_endpoint_auth_method}",
            challenge,
        )
    if presented.method != "none" and not client.has_secret(presented.secret):
        raise OAuthError(outcomes.BAD_CLIENT_AUTHENTICATION, "the client_secret is wrong", challenge)
    return client


def _presented(authorization: str | None, form: Mapping[str, str]) -> _Credentials:
    basic = _basic_credentials(authorization) if authorization is not None else None
    client_id = form.get("client_id")
    secret = form.get("client_secret")
    if basic is not None:
        if secret is not None or client_id not in {None, basic.client_id}:
            raise MalformedRequestError("authenticate either by the Authorization header or by the body")
        return basic
    if client_id is None:
        raise MalformedRequestError("client_id is missing")
    if secret is not None:
        return _Credentials(client_id, secret, "client_secret_post")
    return _Credentials(client_id, "", "none")


def _basic_credentials(authorization: str) -> _Credentials:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise MalformedRequestError("the Authorization header must use the Basic scheme")
    try:
        client_id, colon, secret = b64decode(encoded, validate=True).decode("utf-8").partition(":")
        # RFC 6749 §2.3.1: both are form-encoded before they are joined.
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        colon = ""
    if not colon or not client_id or not client_id.isprintable():
        raise MalformedRequestError("the Authorization header cannot be read")
    return _Credentials(client_id, secret, "client_secret_basic")
