"""The stopwatch around the identity provider: every request to it is counted and timed here."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from seed_oauth.identity_provider import (
    IdentityProvider,
    IdentityProviderError,
    IdentityProviderFailure,
    TokenResponse,
)
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import UpstreamOutcome

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

    async def exchange(self, grant_type: GrantType, parameters: Mapping[str, str]) -> TokenResponse:
        """Exchange a code or a refresh token; one exchange of the specification."""
        with self._timed(partial(self._telemetry.record_exchange, grant_type)):
            return await self._inner.exchange(grant_type, parameters)

    async def revoke(self, parameters: Mapping[str, str]) -> None:
        """Revoke a token."""
        with self._timed(self._telemetry.record_revocation):
            await self._inner.revoke(parameters)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._inner.aclose()

    @contextmanager
    def _timed(self, record: Callable[[UpstreamOutcome, float], None]) -> Iterator[None]:
        outcome = UpstreamOutcome.INVALID_RESPONSE  # what an unforeseen exception amounts to
        started = self._clock()
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
            record(outcome, self._clock() - started)
