"""The identity provider (IdP): the one place that talks to it, and what its answers mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from math import ceil
from time import time
from typing import Protocol

import httpx
import orjson

from seed_oauth.http.parameters import encode_form
from seed_oauth.outcomes import GrantType
from seed_oauth.settings import Settings

MAXIMUM_RESPONSE = 64 * 1024
"""Bytes of an answer that are read; tokens of a user in hundreds of groups stay under 16 KiB."""

_LONGEST_RETRY_AFTER = 3600

_HEADERS = httpx.Headers(
    {
        "Accept": "application/json",
        # A compressed answer could be far larger than the cap on what is read.
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "seed-oauth",
    }
)


class IdentityProviderFailure(Enum):
    """Why there is no token."""

    UNREACHABLE = "unreachable"
    """No answer: refused, unresolvable, TLS failure, or the connection broke."""
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    INVALID_RESPONSE = "invalid_response"
    """An answer that is none: no JSON, too large, a redirect, no token."""
    REFUSED = "refused"
    """A definite no, with an `error` code of RFC 6749 §5.2."""
    CIRCUIT_OPEN = "circuit_open"
    """It was not asked, because it does not answer."""
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    """It was not asked, because as many as may are waiting for it."""


class IdentityProviderError(Exception):
    """A request to the IdP did not give what was asked for.

    The IdP's own prose is never kept: it may repeat secrets, and it is not ours to publish.
    """

    def __init__(
        self, failure: IdentityProviderFailure, *, error: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.error = error
        """The `error` code when it is REFUSED."""
        self.retry_after = retry_after
        """Seconds after which there is reason to come back."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells a client when to come back (RFC 9110 §10.2.3)."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful answer of the token endpoint (RFC 6749 §5.1), all members as the IdP sent them.

    Only `scope` is put into the form of the RFC (§3.3), where that of the IdP is known to be another.
    """

    members: Mapping[str, object]


class IdentityProvider(Protocol):
    """What the endpoints need of an IdP. Methods raise `IdentityProviderError`."""

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token for tokens (RFC 6749 §4.1.3, §6)."""
        ...

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token (RFC 7009)."""
        ...

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """What the IdP says of an access token (RFC 7662 §2.2); `active` is among it, and true or false."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class HttpIdentityProvider:
    """An `IdentityProvider` over HTTP.

    It hands httpx requests to an httpx transport without an `httpx.AsyncClient` between: no cookies, no
    redirects, no retries are wanted (a code must never be sent twice), and the client's share of the CPU
    is several times the transport's.
    """

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport) -> None:
        self._settings = settings
        self._transport = transport
        self._credentials = _credentials_in_form(settings)
        self._error_codes = settings.preset.error_codes if settings.preset else {}
        self._scope_separator = settings.preset.scope_separator if settings.preset else " "

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token, with the proxy's own client credentials."""
        form = {"grant_type": grant_type, **parameters, **self._settings.idp_token_parameters}
        status, headers, body = await self._post(token_endpoint, form)
        members = json_object(body)
        if status == httpx.codes.OK and members is not None and "error" not in members:
            if isinstance(members.get("access_token"), str):
                return TokenResponse(self._with_spaces_in_scope(members))
            raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
        raise self._refusal(status, headers, members or {})

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Pass a revocation on; RFC 7009 §2.2: any 200 will do, its body says nothing."""
        status, headers, body = await self._post(revocation_endpoint, parameters)
        if status != httpx.codes.OK:
            raise self._refusal(status, headers, json_object(body) or {})

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Ask about an access token, with the proxy's own client credentials (RFC 7662 §2.1)."""
        form = {"token": access_token, "token_type_hint": "access_token"}
        status, headers, body = await self._post(introspection_endpoint, form)
        members = json_object(body) or {}
        if status == httpx.codes.OK and isinstance(members.get("active"), bool):
            return members
        raise self._refusal(status, headers, members)

    async def aclose(self) -> None:
        """Close the connections to the IdP."""
        await self._transport.aclose()

    async def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, httpx.Headers, bytes]:
        body = encode_form({**form, **self._credentials}).encode()
        # A stream is taken as it is; for `content`, httpx builds the headers three times.
        request = httpx.Request("POST", _parsed(url), headers=_HEADERS, stream=httpx.ByteStream(body))
        return await send(self._transport, request)

    def _with_spaces_in_scope(self, members: dict[str, object]) -> dict[str, object]:
        scope = members.get("scope")
        if self._scope_separator != " " and isinstance(scope, str):
            return {**members, "scope": scope.replace(self._scope_separator, " ")}
        return members

    def _refusal(self, status: int, headers: httpx.Headers, members: Mapping[str, object]) -> IdentityProviderError:
        refusal = refusal_of(status, headers, members)
        refusal.error = self._error_codes.get(refusal.error or "", refusal.error)
        return refusal


async def send(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, limit: int = MAXIMUM_RESPONSE
) -> tuple[int, httpx.Headers, bytes]:
    """Send one request, once, without following a redirect: the answer's status, headers and body.

    Raises:
        IdentityProviderError: there is no answer, or its body has more than `limit` bytes.
    """
    try:
        response = await transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport's answer
        try:
            return response.status_code, response.headers, await _read(stream, limit)
        finally:
            await stream.aclose()
    except httpx.TimeoutException as late:
        raise IdentityProviderError(IdentityProviderFailure.TIMEOUT) from late
    except httpx.RemoteProtocolError as nonsense:
        raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE) from nonsense
    except httpx.TransportError as broken:
        raise IdentityProviderError(IdentityProviderFailure.UNREACHABLE) from broken


@lru_cache(maxsize=16)
def _parsed(url: str) -> httpx.URL:
    # The few endpoints there are, parsed once; httpx would do it for each request.
    return httpx.URL(url)


def _credentials_in_form(settings: Settings) -> dict[str, str]:
    """The part of the client authentication that is sent as parameters (RFC 6749 §2.3.1)."""
    client_id = settings.idp_client_id or ""
    if settings.idp_client_secret is None:
        return {"client_id": client_id}
    if settings.idp_token_auth_method == "client_secret_post":  # noqa: S105 - a method's name
        return {"client_id": client_id, "client_secret": settings.idp_client_secret.get_secret_value()}
    return {}


async def _read(stream: httpx.AsyncByteStream, limit: int) -> bytes:
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > limit:
            raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
    return bytes(body)


def json_object(body: bytes) -> dict[str, object] | None:
    """The JSON object in a body, or None if there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def refusal_of(status: int, headers: httpx.Headers, members: Mapping[str, object]) -> IdentityProviderError:
    """What an answer without a token means. GitHub answers 200 with an `error`, so the body counts first."""
    retry_after = _retry_after(headers)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return IdentityProviderError(IdentityProviderFailure.RATE_LIMITED, retry_after=retry_after)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return IdentityProviderError(IdentityProviderFailure.SERVER_ERROR, retry_after=retry_after)
    error = members.get("error")
    if status == httpx.codes.UNAUTHORIZED and error == "unauthorized_client":
        # Keycloak's word for a wrong client secret; RFC 6749 §5.2 has this status for failed authentication only.
        error = "invalid_client"
    if isinstance(error, str) and (status == httpx.codes.OK or status >= httpx.codes.BAD_REQUEST):
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error=error)
    if status == httpx.codes.UNAUTHORIZED:
        # RFC 6749 §5.2: this status means that client authentication failed, whatever the body is.
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error="invalid_client")
    return IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)


def _retry_after(headers: httpx.Headers) -> int | None:
    """Seconds, or a date (RFC 9110 §10.2.3), in seconds from now; None for nonsense."""
    value = headers.get("retry-after", "")
    try:
        seconds = int(value) if value.isascii() and value.isdigit() else ceil(_timestamp(value) - time())
    except (ValueError, OverflowError):
        return None
    return max(0, min(seconds, _LONGEST_RETRY_AFTER))


def _timestamp(http_date: str) -> float:
    # RFC 9110 §5.6.7: it is in GMT, and one of its three forms does not say so.
    date = parsedate_to_datetime(http_date)
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
