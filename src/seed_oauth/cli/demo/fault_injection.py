"""Fault injection for the development identity provider."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seed_oauth.cli.demo.expiring_store import ExpiringStore
from seed_oauth.cli.demo.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """The response to one request; by default a correct one.

    With a `status` or an `error` the response is an OAuth error; the defaults are `server_error` and 400. 429 and 503
    have a `Retry-After` header, and an error with status 200 is like GitHub's. With `html` the response is a web page,
    as from a proxy.
    """

    latency: float | None = None
    """Seconds until the response; None means that of `Faults`."""
    status: int | None = None
    error: str | None = None
    html: bool = False

    def refusal(self) -> Refusal | None:
        """The OAuth error, if the response is one."""
        if self.html or not (self.status or self.error):
            return None
        return Refusal(self.error or "server_error", "injected error", self.status or 400)


@dataclass
class Faults:
    """Faults of the token endpoint. They may be changed at any time."""

    latency: float = 0.0
    """Seconds until each response."""
    error_rate: float = 0.0
    """Share of requests, from 0 to 1, that get a 503."""

    def behaviour(self) -> Behaviour:
        """The response to the next request without a script."""
        fails = random.random() < self.error_rate  # noqa: S311 - not a secret
        return Behaviour(status=503) if fails else Behaviour()


class Scripts:
    """Scripted responses, by the value that identifies a session in its next request."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        """`lifetime` is in seconds of `clock`."""
        self._scripts = ExpiringStore[Sequence[Behaviour]](lifetime, clock)

    def put(self, value: str, behaviours: Sequence[Behaviour]) -> None:
        """Script the next requests of a session, in this order."""
        self._scripts.put(value, behaviours)

    def next_behaviour(self, value: str, *, otherwise: Behaviour) -> Behaviour:
        """The response to a request with this value; `otherwise` if it is not scripted."""
        behaviour, *rest = self._scripts.take(value) or (otherwise,)
        if rest:
            self._scripts.put(value, rest)
        return behaviour

    def carry_over(self, value: str, successor: str) -> None:
        """Continue the script of a session under its next value."""
        if rest := self._scripts.take(value):
            self._scripts.put(successor, rest)
