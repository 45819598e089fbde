"""Why a request to the identity provider failed, what its responses mean, and what is logged of its own words."""

from collections.abc import Collection, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from math import ceil
from time import time
from types import MappingProxyType

import httpx

from seed_oauth.http_client.fetch import ConnectionFailedError, Response, TooLargeError
from seed_oauth.identity_provider.quotation import quotation

_LONGEST_RETRY_AFTER = 3600


class IdentityProviderFailure(Enum):
    """Why there is no token."""

    UNREACHABLE = "unreachable"
    """No response: connection refused, name not resolved, TLS failure, or a broken connection."""
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    INVALID_RESPONSE = "invalid_response"
    """A response that cannot be used: not HTTP, not JSON, too large."""
    UNEXPECTED_STATUS = "unexpected_status"
    """A status that no token response has, and no `error` code: 201, a redirect, 404."""
    NO_ACCESS_TOKEN = "no_access_token"  # noqa: S105 - the name of a failure, as below
    ID_TOKEN_ALONE = "id_token_alone"  # noqa: S105
    NESTED_TOKEN = "nested_token"  # noqa: S105
    """The access token is inside another member, as in Slack's `authed_user`."""
    BAD_ID_TOKEN = "bad_id_token"  # noqa: S105
    """The ID token is not one for this server and this login (OpenID Connect Core §3.1.3.7)."""
    WRONG_SUBJECT = "wrong_subject"
    """It speaks of another user than the one who has logged in (OpenID Connect Core §5.3.2, §12.2)."""
    REFUSED = "refused"
    """A definite refusal, with an `error` code of RFC 6749 §5.2."""
    CIRCUIT_OPEN = "circuit_open"
    """No request was sent, because the IdP does not respond."""
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    """No request was sent, because too many are waiting for a response."""


class IdentityProviderError(Exception):
    """A request to the IdP failed; the message names the problem.

    What the IdP says in its own words is for the log alone, quoted without secrets: it is not ours to publish.
    """

    def __init__(
        self,
        failure: IdentityProviderFailure,
        problem: str | None = None,
        *,
        error: str | None = None,
        retry_after: int | None = None,
        said: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(problem or failure.value)
        self.failure = failure
        self.error = error
        """The `error` code if it is REFUSED."""
        self.retry_after = retry_after
        """Seconds after which to try again."""
        self.said = said
        """The status, the code and the words of the response, for the log."""

    @property
    def headers(self) -> Mapping[str, str]:
        """`Retry-After`, if it is known when to try again (RFC 9110 §10.2.3)."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def log_fields(self) -> Mapping[str, object]:
        """What the log says of it."""
        return {"idp_problem": str(self), **self.said}


def said_in(
    members: Mapping[str, object], *, status: int | None = None, secrets: Collection[str] = ()
) -> dict[str, object]:
    """What a response says of its error in its own words: RFC 6749's, Okta's and Google's members."""
    error = members.get("error")
    nested = error if isinstance(error, dict) else {}
    words = (
        members.get("error_description"),
        members.get("errorSummary"),
        members.get("message"),
        nested.get("message"),
    )
    codes = (error, members.get("errorCode"), nested.get("status"))
    said = {
        "idp_status": status,
        "idp_error": next(filter(None, (quotation(code, secrets) for code in codes)), None),
        "idp_said": next(filter(None, (quotation(one, secrets) for one in words)), None),
    }
    return {name: value for name, value in said.items() if value is not None}


def failure_of(error: httpx.TransportError) -> IdentityProviderError:
    """What a request without a usable response means."""
    failure = IdentityProviderFailure.UNREACHABLE
    if isinstance(error, httpx.TimeoutException):
        failure = IdentityProviderFailure.TIMEOUT
    elif isinstance(error, httpx.RemoteProtocolError):
        failure = IdentityProviderFailure.INVALID_RESPONSE
    # Any other message may be about the request, and repeat what is in it.
    is_named = isinstance(error, ConnectionFailedError | TooLargeError)
    return IdentityProviderError(failure, str(error) if is_named else None)


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
    if isinstance(error, str) and error and (status == httpx.codes.OK or status >= httpx.codes.BAD_REQUEST):
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error=error)
    if status == httpx.codes.UNAUTHORIZED:
        # RFC 6749 §5.2: 401 means that client authentication failed, whatever the body is.
        return IdentityProviderError(IdentityProviderFailure.REFUSED, error="invalid_client")
    if status == httpx.codes.OK:
        return IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
    return IdentityProviderError(IdentityProviderFailure.UNEXPECTED_STATUS, f"status {status}")


def look_up_failure(response: Response, access_token: str) -> IdentityProviderError:
    """What a response means that does not say who a user is."""
    failure = refusal_of(response.status, response.headers, {})
    # GitHub's rate limits have status 403, too:
    # https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    is_limit = response.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in response.headers
    if response.status == httpx.codes.FORBIDDEN and is_limit:
        failure = IdentityProviderError(
            IdentityProviderFailure.RATE_LIMITED, retry_after=_retry_after(response.headers)
        )
    elif failure.failure is IdentityProviderFailure.REFUSED:
        failure = IdentityProviderError(IdentityProviderFailure.UNEXPECTED_STATUS, f"status {response.status}")
    failure.args = (f"the look-up of the user: {failure}",)
    failure.said = said_in(response.json_object() or {}, status=response.status, secrets=[access_token])
    return failure


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
