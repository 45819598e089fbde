"""The client of the identity provider (IdP): the requests with our credentials, and what the responses mean."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Protocol

import httpx

from seed_oauth.http.parameters import encode_form
from seed_oauth.http_client.fetch import Response, send
from seed_oauth.identity_provider.failures import (
    IdentityProviderError,
    failure_of,
    look_up_failure,
    refusal_of,
    said_in,
)
from seed_oauth.identity_provider.token_response import read_token_response, why_no_token
from seed_oauth.outcomes import GrantType

MAXIMUM_RESPONSE = 64 * 1024
"""Bytes of a response body; the tokens of a user in hundreds of groups stay under 16 KiB."""

_MAXIMUM_LOOK_UP = 1024 * 1024
"""Bytes of a response about a user; GitHub describes each of 100 teams in about 3 KiB."""

# Parameters whose values the IdP may repeat in its own words, which are logged.
_SECRET_PARAMETERS = ("code", "code_verifier", "refresh_token", "token", "client_secret")

_HEADERS = httpx.Headers(
    {
        "Accept": "application/json",
        # A compressed response could be far larger than the limit.
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "seed-oauth",
    }
)


class TokenResponse(NamedTuple):
    """A successful response of the token endpoint, with its members in the form of RFC 6749 §5.1."""

    members: Mapping[str, object]


class IdentityProvider(Protocol):
    """The requests to an IdP. Every method raises `IdentityProviderError`."""

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token for tokens (RFC 6749 §4.1.3, §6)."""
        ...

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token (RFC 7009)."""
        ...

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """The introspection response for an access token (RFC 7662 §2.2); `active` is in it, a boolean."""
        ...

    async def look_up(self, url: str, access_token: str) -> object:
        """The JSON at `url`, an object or a list, for which a user's access token is needed (RFC 6750 §2.1).

        It never fails with REFUSED: whatever keeps it from answering may pass.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class HttpIdentityProvider:
    """An `IdentityProvider` over HTTP.

    It passes httpx requests to an httpx transport, without an `httpx.AsyncClient`: it needs no cookies, redirects or
    retries (a code must never be sent twice), and the client would cost several times the CPU of the transport.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        credentials: Mapping[str, str],
        *,
        public: httpx.AsyncBaseTransport | None = None,
        token_parameters: Mapping[str, str] = MappingProxyType({}),
        error_codes: Mapping[str, str] = MappingProxyType({}),
        scope_separator: str = " ",
        secret: str = "",
    ) -> None:
        """Connect to nothing yet.

        Args:
            transport: adds the credentials that are sent in a header.
            credentials: the client credentials that are sent as parameters (RFC 6749 §2.3.1).
            public: adds no credentials; `transport` by default.
            token_parameters: further parameters of token requests.
            error_codes: from an `error` code of this IdP to the code of RFC 6749 §5.2.
            scope_separator: what separates the scopes in its token responses.
            secret: the client secret, which is kept out of what is logged of its responses.
        """
        self._transport = transport
        self._credentials = credentials
        self._public = public or transport
        self._token_parameters = token_parameters
        self._error_codes = error_codes
        self._scope_separator = scope_separator
        self._secret = secret

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token, with our client credentials."""
        form = {"grant_type": grant_type, **parameters, **self._token_parameters}
        response = await self._post(token_endpoint, form)
        read = read_token_response(response, self._scope_separator)
        if read is None:
            raise self._refusal(response, form)
        return TokenResponse(read)

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token; the body of a 200 is ignored (RFC 7009 §2.2)."""
        response = await self._post(revocation_endpoint, parameters)
        if response.status != httpx.codes.OK:
            raise self._refusal(response, parameters)

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Introspect an access token, with our client credentials (RFC 7662 §2.1)."""
        form = {"token": access_token, "token_type_hint": "access_token"}
        response = await self._post(introspection_endpoint, form)
        members = response.json_object() or {}
        if response.status == httpx.codes.OK and isinstance(members.get("active"), bool):
            return members
        raise self._refusal(response, form)

    async def look_up(self, url: str, access_token: str) -> object:
        """Look something up with a user's access token, and without our client credentials."""
        headers = {**_HEADERS, "Authorization": f"Bearer {access_token}"}
        del headers["content-type"]
        try:
            response = await send(self._public, httpx.Request("GET", url, headers=headers), limit=_MAXIMUM_LOOK_UP)
        except httpx.TransportError as error:
            raise failure_of(error) from error
        document = response.json() if response.status == httpx.codes.OK else None
        if isinstance(document, dict | list):
            return document
        raise look_up_failure(response, access_token)

    async def aclose(self) -> None:
        """Close the connections to the IdP."""
        await self._transport.aclose()

    async def _post(self, url: str, form: Mapping[str, str]) -> Response:
        body = encode_form({**form, **self._credentials}).encode()
        # With `content` instead of a stream, httpx would build the headers three times.
        request = httpx.Request("POST", _parsed(url), headers=_HEADERS, stream=httpx.ByteStream(body))
        try:
            return await send(self._transport, request, limit=MAXIMUM_RESPONSE)
        except httpx.TransportError as error:
            raise failure_of(error) from error

    def _refusal(self, response: Response, form: Mapping[str, str]) -> IdentityProviderError:
        members = response.json_object()
        if response.status == httpx.codes.OK and members is not None and not members.get("error"):
            refusal = why_no_token(members)
        else:
            refusal = refusal_of(response.status, response.headers, members or {})
        refusal.error = self._error_codes.get(refusal.error or "", refusal.error)
        secrets = [self._secret, *(form.get(name, "") for name in _SECRET_PARAMETERS)]
        refusal.said = said_in(members or {}, status=response.status, secrets=secrets)
        return refusal


@lru_cache(maxsize=16)
def _parsed(url: str) -> httpx.URL:
    # Parsed once for each of the few endpoints; httpx would parse it for each request.
    return httpx.URL(url)
