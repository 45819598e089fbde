"""`/oauth/register`: dynamic client registration (RFC 7591)."""

import re
from collections.abc import Callable, Collection, Mapping
from time import time
from typing import get_args

from starlette.requests import Request

from seed_oauth import redirect_uri, scope
from seed_oauth.answer import Answer, json_response
from seed_oauth.clients import (
    Client,
    ClientStore,
    StoreError,
    TokenEndpointAuthMethod,
    hash_secret,
    new_client_id,
    new_client_secret,
)
from seed_oauth.clients.family import family_of
from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import GrantType, RegistrationOutcome
from seed_oauth.parameters import read_json
from seed_oauth.settings import Settings

MAXIMUM_REDIRECT_URIS = 32

_MAXIMUM_TEXT = 256
_HTTPS_URL = re.compile(r"https://[!#-;=?-\[\]_a-z~]{1,2040}")


class RegistrationEndpoint:
    """The registration endpoint, open to every client as MCP asks."""

    def __init__(self, settings: Settings, clients: ClientStore, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        self._clients = clients
        self._private_use_schemes = settings.private_use_schemes
        self._now = now

    async def __call__(self, request: Request) -> Answer:
        """Answer one registration request.

        Raises:
            OAuthError: any row of `RegistrationOutcome` but the successful one.
        """
        sent = await read_json(request)
        method = _auth_method(sent)
        secret = None if method == "none" else new_client_secret()
        client = Client(
            client_id=new_client_id(),
            issued_at=int(self._now()),
            redirect_uris=_redirect_uris(sent, self._private_use_schemes),
            token_endpoint_auth_method=method,
            secret_hash=hash_secret(secret) if secret else None,
            metadata=_accepted_metadata(sent),
        )
        try:
            await self._clients.add(client)
        except StoreError as failure:
            raise OAuthError(
                RegistrationOutcome.STORE_FAILED, "the registration could not be stored, try again"
            ) from failure
        response = json_response(_client_information(client, secret), 201)
        return Answer(RegistrationOutcome.REGISTERED, response, family_of(client))


def _client_information(client: Client, secret: str | None) -> dict[str, object]:
    """What the client is told (RFC 7591 §3.2.1): its metadata as accepted, and the secret this once."""
    information: dict[str, object] = {
        "client_id": client.client_id,
        "client_id_issued_at": client.issued_at,
        **client.metadata,
        "redirect_uris": client.redirect_uris,
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
    }
    if secret is not None:
        information |= {"client_secret": secret, "client_secret_expires_at": 0}
    return information


def _redirect_uris(sent: Mapping[str, object], private_use_schemes: Collection[str]) -> tuple[str, ...]:
    """The redirect URIs that may be used; RFC 7591 §2 lets the server leave out the others.

    One bad URI does not sink those beside it: clients register every form they might use at once (Cursor
    sends a private-use scheme, an https URL and a loopback one). What was left out is not in the answer.
    """
    uris = _strings(sent, "redirect_uris", RegistrationOutcome.BAD_REDIRECT_URI)
    if not uris:
        raise OAuthError(RegistrationOutcome.BAD_REDIRECT_URI, "redirect_uris is missing: send at least one")
    if len(uris) > MAXIMUM_REDIRECT_URIS:
        raise OAuthError(
            RegistrationOutcome.BAD_REDIRECT_URI,
            f"redirect_uris must not be more than {MAXIMUM_REDIRECT_URIS}",
        )
    objections = {uri: redirect_uri.unacceptable(uri, private_use_schemes) for uri in uris}
    accepted = tuple(uri for uri, objection in objections.items() if objection is None)
    if not accepted:
        raise OAuthError(
            RegistrationOutcome.BAD_REDIRECT_URI,
            f"no redirect_uri is acceptable; the first {objections[uris[0]]}",
        )
    return accepted


def _auth_method(sent: Mapping[str, object]) -> TokenEndpointAuthMethod:
    # RFC 7591 §2: client_secret_basic is what a client that says nothing gets.
    wanted = sent.get("token_endpoint_auth_method", "client_secret_basic")
    methods: tuple[TokenEndpointAuthMethod, ...] = get_args(TokenEndpointAuthMethod)
    for method in methods:
        if method == wanted:
            return method
    raise _bad_metadata(f"token_endpoint_auth_method must be one of {', '.join(methods)}")


def _accepted_metadata(sent: Mapping[str, object]) -> dict[str, object]:
    """The rest of the metadata of RFC 7591 §2, checked; unknown members are ignored as it asks."""
    accepted: dict[str, object] = {
        "grant_types": _grant_types(sent),
        "response_types": _response_types(sent),
    }
    for name in ("client_name", "software_id", "software_version", "application_type"):
        if sent.get(name) is not None:
            accepted[name] = _text(sent, name)
    for name in ("client_uri", "logo_uri", "tos_uri", "policy_uri"):
        if sent.get(name):
            accepted[name] = _https_url(sent, name)
    if contacts := _strings(sent, "contacts", RegistrationOutcome.BAD_CLIENT_METADATA):
        accepted["contacts"] = contacts
    if sent.get("scope"):
        accepted["scope"] = _scope(sent)
    return accepted


def _grant_types(sent: Mapping[str, object]) -> list[str]:
    wanted = _strings(sent, "grant_types", RegistrationOutcome.BAD_CLIENT_METADATA) or list(GrantType)
    accepted = [grant_type for grant_type in wanted if grant_type in list(GrantType)]
    if GrantType.AUTHORIZATION_CODE not in accepted:
        raise _bad_metadata("grant_types must include authorization_code")
    return accepted


def _response_types(sent: Mapping[str, object]) -> list[str]:
    if "code" not in (_strings(sent, "response_types", RegistrationOutcome.BAD_CLIENT_METADATA) or ["code"]):
        raise _bad_metadata("response_types must include code")
    return ["code"]


def _strings(sent: Mapping[str, object], name: str, outcome: RegistrationOutcome) -> list[str]:
    value = sent.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
        raise OAuthError(outcome, f"{name} must be a list of strings")
    return value


def _text(sent: Mapping[str, object], name: str) -> str:
    value = sent[name]
    if not isinstance(value, str) or len(value) > _MAXIMUM_TEXT or not value.isprintable():
        raise _bad_metadata(f"{name} must be at most {_MAXIMUM_TEXT} printable characters")
    return value


def _https_url(sent: Mapping[str, object], name: str) -> str:
    value = sent[name]
    if not isinstance(value, str) or not _HTTPS_URL.fullmatch(value):
        raise _bad_metadata(f"{name} must be an https URL")
    return value


def _scope(sent: Mapping[str, object]) -> str:
    value = sent["scope"]
    if not isinstance(value, str) or not scope.is_valid(value):
        raise _bad_metadata("scope must be a list of names with single spaces between")
    return value


def _bad_metadata(description: str) -> OAuthError:
    return OAuthError(RegistrationOutcome.BAD_CLIENT_METADATA, description)
