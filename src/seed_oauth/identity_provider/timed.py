"""The timer around the identity provider, where every request to it is counted and timed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from seed_oauth.identity_provider.client import IdentityProvider, TokenResponse
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import IdpOutcome, Operation

_OUTCOMES = {
    IdentityProviderFailure.UNREACHABLE: IdpOutcome.CONNECT_ERROR,
    IdentityProviderFailure.TIMEOUT: IdpOutcome.TIMEOUT,
    IdentityProviderFailure.RATE_LIMITED: IdpOutcome.HTTP_4XX,
    IdentityProviderFailure.SERVER_ERROR: IdpOutcome.HTTP_5XX,
    IdentityProviderFailure.REFUSED: IdpOutcome.HTTP_4XX,
}
"""Any other failure is a response that cannot be used."""


class TimedIdentityProvider:
    """An `IdentityProvider` that records every request to another one, however it ends.

    The timer starts right before the request and is stopped in any case, cancellation included; errors are raised to
    the caller.
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
        """Exchange a code or a refresh token; one exchange in the metrics."""
        with timed(partial(self._telemetry.record_exchange, grant_type), self._clock):
            return await self._inner.exchange(token_endpoint, grant_type, parameters)

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token."""
        with timed(partial(self._telemetry.record_idp_request, Operation.REVOCATION), self._clock):
            await self._inner.revoke(revocation_endpoint, parameters)

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Introspect an access token."""
        with timed(partial(self._telemetry.record_idp_request, Operation.INTROSPECTION), self._clock):
            return await self._inner.introspect(introspection_endpoint, access_token)

    async def look_up(self, url: str, access_token: str) -> object:
        """Look something up with a user's access token."""
        with timed(partial(self._telemetry.record_idp_request, Operation.USERINFO), self._clock):
            return await self._inner.look_up(url, access_token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


@contextmanager
def timed(record: Callable[[IdpOutcome, float], None], clock: Callable[[], float] = perf_counter) -> Iterator[None]:
    """Call `record` with the outcome of the block and the seconds that it took."""
    outcome = IdpOutcome.INVALID_RESPONSE  # also for an unexpected exception
    started = clock()
    try:
        yield
        outcome = IdpOutcome.OK
    except IdentityProviderError as error:
        outcome = _OUTCOMES.get(error.failure, IdpOutcome.INVALID_RESPONSE)
        raise
    except asyncio.CancelledError:
        outcome = IdpOutcome.CANCELLED
        raise
    finally:
        record(outcome, clock() - started)
