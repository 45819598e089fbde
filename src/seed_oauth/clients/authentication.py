"""Client authentication at `/oauth/token` and `/oauth/revoke` (RFC 6749 §2.3, §3.2.1)."""

from base64 import b64decode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from seed_oauth.clients import (
    BadClientDocumentError,
    Client,
    ClientDocumentUnavailableError,
    ClientStore,
    TokenEndpointAuthMethod,
)
from seed_oauth.clients.assertion import ASSERTION_TYPE, BadAssertionError, ClientAssertions
from seed_oauth.clients.family import family_of
from seed_oauth.http import log_fields
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.outcomes import RevocationOutcome, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError
from seed_oauth.protocol.jwk import BadSignatureError, unverified

Outcomes = type[TokenOutcome] | type[RevocationOutcome]

CHALLENGE = {"WWW-Authenticate": 'Basic realm="seed-oauth"'}
"""RFC 6749 §5.2: required if the client used the Authorization header."""


class Credentials(NamedTuple):
    """By what a client says who it is."""

    client_id: str
    secret: str
    """The client_secret, or the client_assertion."""
    method: TokenEndpointAuthMethod


class ClientAuthentication:
    """Authenticates clients by the methods that they registered."""

    def __init__(self, clients: ClientStore, assertions: ClientAssertions) -> None:
        self._clients = clients
        self._assertions = assertions

    async def __call__(self, authorization: str | None, form: Mapping[str, str], outcomes: Outcomes) -> Client:
        """The client that sent `form` with this `Authorization` header.

        Raises:
            OAuthError: the rows UNKNOWN_CLIENT, BAD_CLIENT_AUTHENTICATION, BAD_CLIENT_DOCUMENT,
                CLIENT_DOCUMENT_UNAVAILABLE and CLIENT_LOOKUP_FAILED.
            MalformedRequestError: no client_id, or more than one authentication method (RFC 6749 §2.3).
        """
        presented = presented_in(authorization, form)
        log_fields.note(client_id=presented.client_id)
        challenge = CHALLENGE if presented.method == "client_secret_basic" else {}
        try:
            client = await self._clients.get(presented.client_id)
            if client is None:
                raise OAuthError(
                    outcomes.UNKNOWN_CLIENT,
                    "this client_id is not registered here (any more): register again and start a new authorization",
                    challenge,
                )
            log_fields.note(client_family=family_of(client))
            log_fields.fact(client_name=client.metadata.get("client_name"))
            objection = await self._objection(client, presented)
        except BadClientDocumentError as bad:
            raise OAuthError(outcomes.BAD_CLIENT_DOCUMENT, f"the document at this client_id {bad}") from bad
        except ClientDocumentUnavailableError as trouble:
            # Never invalid_client: the client would discard valid tokens.
            raise OAuthError(
                outcomes.CLIENT_DOCUMENT_UNAVAILABLE, f"the document at this client_id {trouble}, try again"
            ) from trouble
        except StoreError as failure:
            raise OAuthError(
                outcomes.CLIENT_LOOKUP_FAILED, "clients cannot be looked up at the moment, try again"
            ) from failure
        if objection is not None:
            raise OAuthError(outcomes.BAD_CLIENT_AUTHENTICATION, objection, challenge)
        return client

    async def _objection(self, client: Client, presented: Credentials) -> str | None:
        """Why the credentials do not authenticate the client, or None if they do."""
        if presented.method != client.token_endpoint_auth_method:
            return f"this client is registered with token_endpoint_auth_method {client.token_endpoint_auth_method}"
        if presented.method == "private_key_jwt":
            try:
                await self._assertions.verify(client, presented.secret)
            except BadAssertionError as bad:
                return str(bad)
        elif presented.method != "none" and not client.has_secret(presented.secret):
            return "the client_secret is wrong"
        return None


def presented_in(authorization: str | None, form: Mapping[str, str]) -> Credentials:
    """The credentials in a request, which are not checked yet.

    Raises:
        MalformedRequestError: no client_id, or more than one authentication method (RFC 6749 §2.3).
    """
    basic = _basic_credentials(authorization) if authorization is not None else None
    assertion = _assertion(form)
    client_id = form.get("client_id")
    secret = form.get("client_secret")
    if sum(tried is not None for tried in (basic, assertion, secret)) > 1:
        raise MalformedRequestError("use one authentication method: the Authorization header, a secret or an assertion")
    if basic is not None:
        if client_id not in {None, basic.client_id}:
            raise MalformedRequestError("client_id must be the one in the Authorization header")
        return basic
    if assertion is not None:
        # RFC 7521 §4.2: the client_id is optional. If present, the assertion must be about it.
        return Credentials(client_id or _subject(assertion), assertion, "private_key_jwt")
    if client_id is None:
        raise MalformedRequestError("client_id is missing")
    if secret is not None:
        return Credentials(client_id, secret, "client_secret_post")
    return Credentials(client_id, "", "none")


def _assertion(form: Mapping[str, str]) -> str | None:
    if "client_assertion" not in form and "client_assertion_type" not in form:
        return None
    if "client_assertion" not in form or form.get("client_assertion_type") != ASSERTION_TYPE:
        raise MalformedRequestError(f"a client_assertion needs the client_assertion_type {ASSERTION_TYPE}")
    return form["client_assertion"]


def _subject(assertion: str) -> str:
    """The client that the assertion is about, before it is verified."""
    try:
        _, claims = unverified(assertion)
    except BadSignatureError:
        raise MalformedRequestError("the client_assertion is not a signed JWT") from None
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise MalformedRequestError("client_id is missing, and the client_assertion has no sub")
    return subject


def _basic_credentials(authorization: str) -> Credentials:
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
    return Credentials(client_id, secret, "client_secret_basic")
