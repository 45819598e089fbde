"""A circuit breaker and a bulkhead, so that an identity provider that does not respond cannot take the door down.

A request that is refused here is never sent. So it does not count as an exchange, and the code or refresh token in it
remains valid: the client is told to try again.

Metadata and keys need neither: there is one request for them at a time, with pauses after failures (`SingleFlight`).
"""

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import ParamSpec, TypeVar

from seed_oauth.http_client.circuit import Circuit
from seed_oauth.identity_provider.client import IdentityProvider, TokenResponse
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import GrantType
from seed_oauth.telemetry.gauges import CircuitEndpoint

FAILURES = 10
"""Requests in a row without a response, after which no more are sent for a while; a few broken connections are no
outage yet."""

PAUSE = 5.0
"""Seconds between two probes, the requests that are sent to see whether the identity provider is back. Clients are told
to try again when the next one is due."""

MOST_IN_FLIGHT = 320
"""Requests in flight to each endpoint of the identity provider, for each process. Each uses two file descriptors, of
which a process usually has 1,024. With responses in 0.2 s this is about what one processor can do."""

_NO_RESPONSE = frozenset({IdentityProviderFailure.UNREACHABLE, IdentityProviderFailure.TIMEOUT})

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class EndpointCircuit:
    """The circuit of one endpoint of the identity provider, and the limit of requests in flight."""

    def __init__(self, endpoint: str, clock: Callable[[], float] = monotonic) -> None:
        """`endpoint` is for the log; `clock` counts seconds and never goes back."""
        self._circuit = Circuit(
            "identity provider",
            failures=FAILURES,
            pause=PAUSE,
            is_no_response=_is_no_response,
            refusal=_refusal,
            clock=clock,
            idp_endpoint=endpoint,
        )
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """The number of requests that wait for a response."""
        return self._in_flight

    @property
    def is_open(self) -> bool:
        """Whether only probes are sent."""
        return self._circuit.is_open

    async def send(
        self, request: Callable[Parameters, Awaitable[Result]], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """The result of `request`, called with the other arguments.

        Raises:
            IdentityProviderError: CIRCUIT_OPEN or TOO_MANY_IN_FLIGHT, if it was not called; or what it raised.
        """
        if self._in_flight >= MOST_IN_FLIGHT:
            raise IdentityProviderError(IdentityProviderFailure.TOO_MANY_IN_FLIGHT)
        self._in_flight += 1
        try:
            return await self._circuit.send(request, *args, **kwargs)
        finally:
            self._in_flight -= 1


def _is_no_response(error: Exception) -> bool:
    return isinstance(error, IdentityProviderError) and error.failure in _NO_RESPONSE


def _refusal(seconds: int) -> IdentityProviderError:
    return IdentityProviderError(IdentityProviderFailure.CIRCUIT_OPEN, retry_after=seconds)


class CircuitBreaker:
    """An `IdentityProvider` that calls another one, unless that does not respond or too many requests wait for it.

    Each endpoint has its own circuit: a broken token endpoint must not stop the checks of access tokens.
    """

    def __init__(self, inner: IdentityProvider, clock: Callable[[], float] = monotonic) -> None:
        """`clock` counts seconds and never goes back."""
        self._inner = inner
        self._token = EndpointCircuit("token", clock)
        self._revocation = EndpointCircuit("revocation", clock)
        self._introspection = EndpointCircuit("introspection", clock)
        self._userinfo = EndpointCircuit("userinfo", clock)
        self.circuits = {
            CircuitEndpoint.TOKEN: self._token,
            CircuitEndpoint.REVOCATION: self._revocation,
            CircuitEndpoint.INTROSPECTION: self._introspection,
            CircuitEndpoint.USERINFO: self._userinfo,
        }

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token."""
        return await self._token.send(self._inner.exchange, token_endpoint, grant_type, parameters)

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token."""
        await self._revocation.send(self._inner.revoke, revocation_endpoint, parameters)

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Introspect an access token."""
        return await self._introspection.send(self._inner.introspect, introspection_endpoint, access_token)

    async def look_up(self, url: str, access_token: str) -> object:
        """Look something up with a user's access token."""
        return await self._userinfo.send(self._inner.look_up, url, access_token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()
