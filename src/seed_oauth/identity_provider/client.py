"""The client of the identity provider (IdP): the requests with our credentials, and what the responses mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from math import ceil
from time import time
from types import MappingProxyType
from typing import Protocol

import httpx

from seed_oauth.http.parameters import encode_form
from seed_oauth.http_client.fetch import Response, send
from seed_oauth.outcomes import GrantType

MAXIMUM_RESPONSE = 64 * 1024
"""Bytes of a response body; the tokens of a user in hundreds of groups stay under 16 KiB."""

_LONGEST_RETRY_AFTER = 3600

_HEADERS = httpx.Headers(
    {
        "Accept": "application/json",
        # A compressed response could be far larger than the limit.
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "seed-oauth",
    }
)


class IdentityProviderFailure(Enum):
    """Why there is no token."""

    UNREACHABLE = "unreachable"
    """No response: connection refused, name not resolved, TLS failure, or a broken connection."""
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    INVALID_RESPONSE = "invalid_response"
    """A response that cannot be used: not JSON, too large, a redirect, or without a token."""
    REFUSED = "refused"
    """A definite refusal, with an `error` code of RFC 6749 §5.2."""
    CIRCUIT_OPEN = "circuit_open"
    """No request was sent, because the IdP does not respond."""
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    """No request was sent, because too many are waiting for a response."""


class IdentityProviderError(Exception):
    """A request to the IdP failed.

    The `error_description` is never kept: it may repeat secrets, and it is not ours to publish.
    """

    def __init__(
        self, failure: IdentityProviderFailure, *, error: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.error = error
        """The `error` code if it is REFUSED."""
        self.retry_after = retry_after
        """Seconds after which to try again."""

    @property
    def headers(self) -> Mapping[str, str]:
        """`Retry-After`, if it is known when to try again (RFC 9110 §10.2.3)."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful response of the token endpoint (RFC 6749 §5.1), with all members as the IdP sent them.

    Only `scope` is converted to the format of the RFC (§3.3), where the IdP is known to use another.
    """

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
        token_parameters: Mapping[str, str] = MappingProxyType({}),
        error_codes: Mapping[str, str] = MappingProxyType({}),
        scope_separator: str = " ",
    ) -> None:
        """Connect to nothing yet.

        Args:
            transport: adds the credentials that are sent in a header.
            credentials: the client credentials that are sent as parameters (RFC 6749 §2.3.1).
            token_parameters: further parameters of token requests.
            error_codes: from an `error` code of this IdP to the code of RFC 6749 §5.2.
            scope_separator: what separates the scopes in its token responses.
        """
        self._transport = transport
        self._credentials = credentials
        self._token_parameters = token_parameters
        self._error_codes = error_codes
        self._scope_separator = scope_separator

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token, with our client credentials."""
        form = {"grant_type": grant_type, **parameters, **self._token_parameters}
        response = await self._post(token_endpoint, form)
        members = response.json_object()
        if response.status == httpx.codes.OK and members is not None and "error" not in members:
            if isinstance(members.get("access_token"), str):
                return TokenResponse(self._with_spaces_in_scope(members))
            raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
        raise self._refusal(response, members or {})

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token; the body of a 200 is ignored (RFC 7009 §2.2)."""
        response = await self._post(revocation_endpoint, parameters)
        if response.status != httpx.codes.OK:
            raise self._refusal(response, response.json_object() or {})

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Introspect an access token, with our client credentials (RFC 7662 §2.1)."""
        form = {"token": access_token, "token_type_hint": "access_token"}
        response = await self._post(introspection_endpoint, form)
        members = response.json_object() or {}
        if response.status == httpx.codes.OK and isinstance(members.get("active"), bool):
            return members
        raise self._refusal(response, members)

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

    def _with_spaces_in_scope(self, members: dict[str, object]) -> dict[str, object]:
        scope = members.get("scope")
        if self._scope_separator != " " and isinstance(scope, str):
            return {**members, "scope": scope.replace(self._scope_separator, " ")}
        return members

    def _refusal(self, response: Response, members: Mapping[str, object]) -> IdentityProviderError:
        refusal = refusal_of(response.status, response.headers, members)
        refusal.error = self._error_codes.get(refusal.error or "", refusal.error)
        return refusal


@lru_cache(maxsize=16)
def _parsed(url: str) -> httpx.URL:
    # Parsed once for each of the few endpoints; httpx would parse it for each request.
    return httpx.URL(url)


def failure_of(error: httpx.TransportError) -> IdentityProviderError:
    """What a request without a usable response means."""
    if isinstance(error, httpx.TimeoutException):
        return IdentityProviderError(IdentityProviderFailure.TIMEOUT)
    if isinstance(error, httpx.RemoteProtocolError):
        return IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
    return IdentityProviderError(IdentityProviderFailure.UNREACHABLE)


def refusal_of(status: int, headers: httpx.Headers, members: Mapping[str, object]) -> IdentityProviderError:
    """What a response without a token means. GitHub answers 200 with an `error`, so the status alone does not tell."""
    retry_after = _retry_after(headers)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return IdentityProviderError(IdentityProviderFailure.RATE_LIMITED, retry_after=retry_after)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return IdentityProviderError(IdentityProviderFailure.SERVER_ERROR, retry_after=retry_after)
    error = members.get("error")
    if status == httpx.codes.UNAUTHORIZED and error == "unauthorized_client":
        # Keycloak's code for a wrong client secret; RFC 6749 §5.2 uses 401 for failed authentication only.
        error = "invalid_client"
    if isinstance(error, str) and (status == httpx.codes.OK or status >= httpx.codes.BAD_REQUEST):
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error=error)
    if status == httpx.codes.UNAUTHORIZED:
        # RFC 6749 §5.2: 401 means that client authentication failed, whatever the body is.
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error="invalid_client")
    return IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)


def _retry_after(headers: httpx.Headers) -> int | None:
    """Seconds or a date (RFC 9110 §10.2.3), as seconds from now; None if it cannot be parsed."""
    value = headers.get("retry-after", "")
    try:
        seconds = int(value) if value.isascii() and value.isdigit() else ceil(_timestamp(value) - time())
    except (ValueError, OverflowError):
        return None
    return max(0, min(seconds, _LONGEST_RETRY_AFTER))


def _timestamp(http_date: str) -> float:
    # RFC 9110 §5.6.7: it is in GMT, although one of the three formats does not say so.
    date = parsedate_to_datetime(http_date)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
