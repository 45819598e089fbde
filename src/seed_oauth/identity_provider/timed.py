"""The stopwatch around the identity provider: every request to it is counted and timed here."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from seed_oauth.identity_provider.client import (
    IdentityProvider,
    IdentityProviderError,
    IdentityProviderFailure,
    TokenResponse,
)
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import Operation, UpstreamOutcome

_OUTCOMES = {
    IdentityProviderFailure.UNREACHABLE: UpstreamOutcome.CONNECT_ERROR,
    IdentityProviderFailure.TIMEOUT: UpstreamOutcome.TIMEOUT,
    IdentityProviderFailure.RATE_LIMITED: UpstreamOutcome.HTTP_4XX,
    IdentityProviderFailure.SERVER_ERROR: UpstreamOutcome.HTTP_5XX,
    IdentityProviderFailure.INVALID_RESPONSE: UpstreamOutcome.INVALID_RESPONSE,
    IdentityProviderFailure.REFUSED: UpstreamOutcome.HTTP_4XX,
}


class TimedIdentityProvider:
    """An `IdentityProvider` that records each request to another one, however it ends.

    The timer starts right before the request and is stopped on every way out, cancellation included; the
    error goes on to the caller.
    """

    def __init__(
        self, inner: IdentityProvider, telemetry: Telemetry, clock: Callable[[], float] = perf_counter
    ) -> None:
        """`clock` counts seconds and never goes back."""
        self._inner = inner
        self._telemetry = telemetry
        self._clock = clock

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token; one exchange of the specification."""
        with timed(partial(self._telemetry.record_exchange, grant_type), self._clock):
            return await self._inner.exchange(token_endpoint, grant_type, parameters)

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token."""
        with timed(partial(self._telemetry.record_upstream_request, Operation.REVOCATION), self._clock):
            await self._inner.revoke(revocation_endpoint, parameters)

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Ask about an access token."""
        with timed(partial(self._telemetry.record_upstream_request, Operation.INTROSPECTION), self._clock):
            return await self._inner.introspect(introspection_endpoint, access_token)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._inner.aclose()


@contextmanager
def timed(
    record: Callable[[UpstreamOutcome, float], None], clock: Callable[[], float] = perf_counter
) -> Iterator[None]:
    """Have `record` told how what runs inside ended, and the seconds it took."""
    outcome = UpstreamOutcome.INVALID_RESPONSE  # what an unforeseen exception amounts to
    started = clock()
    try:
        yield
        outcome = UpstreamOutcome.OK
    except IdentityProviderError as error:
        outcome = _OUTCOMES[error.failure]
        raise
    except asyncio.CancelledError:
        outcome = UpstreamOutcome.CANCELLED
        raise
    finally:
        record(outcome, clock() - started)
