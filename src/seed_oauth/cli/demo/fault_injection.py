"""How the development identity provider misbehaves on demand."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seed_oauth.cli.demo.expiring_store import ExpiringStore
from seed_oauth.cli.demo.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one particular request is answered; by default as it deserves.

    A `status` or an `error` makes the answer an OAuth error: `server_error` where only the status is given,
    400 where only the error is. 429 and 503 come with `Retry-After`; an error with the status 200 is how
    GitHub refuses. With `html` the answer is a web page, as from a proxy in between.
    """

    latency: float | None = None
    """Seconds before the answer; the weather's when it is None."""
    status: int | None = None
    error: str | None = None
    html: bool = False

    def refusal(self) -> Refusal | None:
        """The OAuth error that is the answer, if one is."""
        if self.html or not (self.status or self.error):
            return None
        return Refusal(self.error or "server_error", "answered as told", self.status or 400)


@dataclass
class Weather:
    """How the token endpoint is doing. Change it while it runs."""

    latency: float = 0.0
    """Seconds before each answer."""
    error_rate: float = 0.0
    """The share of requests, from 0 to 1, that are answered 503."""

    def behaviour(self) -> Behaviour:
        """How the next request is answered, as far as the weather goes."""
        stormy = random.random() < self.error_rate  # noqa: S311 - no secret depends on it
        return Behaviour(status=503) if stormy else Behaviour()


class Scripts:
    """What is to happen in sessions that somebody has plans for, each found by the value it goes on with."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        """`lifetime` is in the seconds that `clock` counts."""
        self._scripts = ExpiringStore[Sequence[Behaviour]](lifetime, clock)

    def put(self, value: str, behaviours: Sequence[Behaviour]) -> None:
        """Plan the requests that come next, one by one."""
        self._scripts.put(value, behaviours)

    def next_behaviour(self, value: str, *, otherwise: Behaviour) -> Behaviour:
        """How the request that brings this value is answered; `otherwise` where there is no plan."""
        behaviour, *rest = self._scripts.take(value) or (otherwise,)
        if rest:
            self._scripts.put(value, rest)
        return behaviour

    def go_on(self, value: str, successor: str) -> None:
        """Have the rest of a plan go on with what comes after this value."""
        if rest := self._scripts.take(value):
            self._scripts.put(successor, rest)
