"""A circuit breaker: a server that does not respond gets one request now and then, and the others fail at once."""

from collections.abc import Awaitable, Callable
from math import ceil
from time import monotonic
from typing import ParamSpec, TypeVar

import structlog

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Circuit:
    """It opens after so many requests in a row without a response, and any response closes it, even a refusal.

    While it is open, one request is sent in each pause.
    """

    def __init__(
        self,
        server: str,
        *,
        failures: int,
        pause: float,
        is_no_response: Callable[[Exception], bool],
        refusal: Callable[[int], Exception],
        clock: Callable[[], float] = monotonic,
        **log_fields: str,
    ) -> None:
        """`server` and `log_fields` are for the log, and `pause` is in seconds.

        `is_no_response` tells which exceptions of a request mean that the server did not respond. `refusal` makes the
        exception for a request that is not sent, of the seconds until the next one is. `clock` counts seconds and never
        goes back.
        """
        self._server = server
        self._most_failures = failures
        self._pause = pause
        self._is_no_response = is_no_response
        self._refusal = refusal
        self._clock = clock
        self._log = structlog.get_logger("seed_oauth").bind(**log_fields)
        self._responses = 0
        self._failures = 0
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only probes are sent."""
        return self._failures >= self._most_failures

    async def send(
        self, request: Callable[Parameters, Awaitable[Result]], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """The result of `request`, called with the other arguments.

        Raises:
            Exception: the refusal, if it was not called; or what it raised.
        """
        if self.is_open:
            self._wait_for_probe()
        responses_before = self._responses
        try:
            result = await request(*args, **kwargs)
        except Exception as error:
            if not self._is_no_response(error):
                self._note_response()
            elif self._responses == responses_before:
                # If a response has come since this request was sent, the outage is over.
                self._note_failure()
            raise
        self._note_response()
        return result

    def _wait_for_probe(self) -> None:
        now = self._clock()
        if now < self._next_probe:
            raise self._refusal(ceil(self._next_probe - now))
        self._next_probe = now + self._pause

    def _note_response(self) -> None:
        self._responses += 1
        if self.is_open:
            self._log.info(f"{self._server} responds again")
        self._failures = 0

    def _note_failure(self) -> None:
        self._failures += 1
        if self._failures == self._most_failures:
            self._next_probe = self._clock() + self._pause
            self._log.warning(f"{self._server} does not respond", failures=self._failures, retry_after_s=self._pause)
