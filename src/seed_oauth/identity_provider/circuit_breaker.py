"""An identity provider that does not answer must not take the door with it: a circuit breaker and a bulkhead.

What is refused here was never sent. So it is no exchange and is not counted as one, and the code or refresh token
that somebody wanted exchanged is as good as before: they are told to come back.

Metadata and keys need neither: of those there is one request at a time, and pauses after failures (`discovery.py`,
`protection/issuer_keys.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from time import monotonic
from typing import ParamSpec, TypeVar

import structlog

from seed_oauth.identity_provider.client import (
    IdentityProvider,
    IdentityProviderError,
    IdentityProviderFailure,
    TokenResponse,
)
from seed_oauth.outcomes import GrantType

FAILURES = 10
"""Requests in a row that got no answer, whoever sent them, after which no more are sent for a while: a connection that
breaks, or a few at once, are no reason yet."""

PAUSE = 5.0
"""Seconds between two requests that are let through, to see whether the identity provider is back. Clients are told to
come back when the next one is due."""

MOST_IN_FLIGHT = 320
"""Requests under way at each endpoint of the identity provider, in each process. Each holds two descriptors, of which a
process usually may have 1,024. If answers take 0.2 s, this is about what one processor can do."""

_NO_ANSWER = frozenset({IdentityProviderFailure.UNREACHABLE, IdentityProviderFailure.TIMEOUT})

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Circuit:
    """The way to one endpoint of the identity provider.

    It opens after `FAILURES` requests in a row that got no answer, and any answer closes it, a refusal too. While it is
    open, one request every `PAUSE` seconds is let through.
    """

    def __init__(self, endpoint: str, clock: Callable[[], float] = monotonic) -> None:
        """`endpoint` is for the log; `clock` counts seconds and never goes back."""
        self._clock = clock
        self._log = structlog.get_logger("seed_oauth").bind(idp_endpoint=endpoint)
        self._in_flight = 0
        self._answers = 0
        self._failures = 0
        self._next_probe = 0.0

    async def send(
        self, request: Callable[Parameters, Awaitable[Result]], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """What `request` gives, called with what follows it.

        Raises:
            IdentityProviderError: CIRCUIT_OPEN or TOO_MANY_IN_FLIGHT, and it was not called; or what it raises.
        """
        if self._in_flight >= MOST_IN_FLIGHT:
            raise IdentityProviderError(IdentityProviderFailure.TOO_MANY_IN_FLIGHT)
        if self._failures >= FAILURES:
            self._wait_for_probe()
        answers_before = self._answers
        self._in_flight += 1
        try:
            result = await request(*args, **kwargs)
        except IdentityProviderError as error:
            if error.failure not in _NO_ANSWER:
                self._note_answer()
            elif self._answers == answers_before:
                # If there was an answer since this request was sent, it tells of an outage that is over.
                self._note_failure()
            raise
        finally:
            self._in_flight -= 1
        self._note_answer()
        return result

    def _wait_for_probe(self) -> None:
        now = self._clock()
        if now < self._next_probe:
            raise IdentityProviderError(IdentityProviderFailure.CIRCUIT_OPEN, retry_after=ceil(self._next_probe - now))
        self._next_probe = now + PAUSE

    def _note_answer(self) -> None:
        self._answers += 1
        if self._failures >= FAILURES:
            self._log.info("identity provider answers again")
        self._failures = 0

    def _note_failure(self) -> None:
        self._failures += 1
        if self._failures == FAILURES:
            self._next_probe = self._clock() + PAUSE
            self._log.warning("identity provider does not answer", failures=FAILURES, retry_after_s=PAUSE)


class CircuitBreaker:
    """An `IdentityProvider` that asks another one, unless that is known not to answer or too many are waiting for it.

    Each endpoint has a circuit of its own: that nobody can log in is no reason not to check access tokens.
    """

    def __init__(self, inner: IdentityProvider, clock: Callable[[], float] = monotonic) -> None:
        """`clock` counts seconds and never goes back."""
        self._inner = inner
        self._token = Circuit("token", clock)
        self._revocation = Circuit("revocation", clock)
        self._introspection = Circuit("introspection", clock)

    async def exchange(
        self, token_endpoint: str, grant_type: GrantType, parameters: Mapping[str, str]
    ) -> TokenResponse:
        """Exchange a code or a refresh token."""
        return await self._token.send(self._inner.exchange, token_endpoint, grant_type, parameters)

    async def revoke(self, revocation_endpoint: str, parameters: Mapping[str, str]) -> None:
        """Revoke a token."""
        await self._revocation.send(self._inner.revoke, revocation_endpoint, parameters)

    async def introspect(self, introspection_endpoint: str, access_token: str) -> Mapping[str, object]:
        """Ask about an access token."""
        return await self._introspection.send(self._inner.introspect, introspection_endpoint, access_token)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._inner.aclose()
