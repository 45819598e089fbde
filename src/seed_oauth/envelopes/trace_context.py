"""The trace context that envelopes carry, only while there is tracing, so that a whole login is one trace.

It stands in front of an envelope's content, in fewer bytes than JSON needs. What a request does with it is decided by
`telemetry.server_spans`, which sets the `RequestTrace`.
"""

from contextvars import ContextVar
from enum import StrEnum
from typing import Protocol

LENGTH = 25
"""Bytes of a trace context: the sampled flag (1), the trace id (16) and the span id (8)."""


class Continued(StrEnum):
    """How the request that opens an envelope goes on with the trace of the one that sealed it."""

    AS_PARENT = "as parent"
    """It is the next step of the same login."""
    AS_LINK = "as link"
    """It is a refresh, weeks later perhaps: a trace of its own, linked to that of the login."""
    UNTIL_USED = "until used"
    """It is a step of the login up to the first use of the grant."""


class RequestTrace(Protocol):
    """The trace of one request."""

    @property
    def trace_id(self) -> str:
        """The trace id, in hexadecimal."""
        ...

    def carried(self, continued: Continued) -> bytes:
        """What an envelope that is sealed now carries: `LENGTH` bytes, or none."""
        ...

    def opened(self, continued: Continued, carried: bytes) -> None:
        """Go on with what an envelope has carried."""
        ...

    def join_login(self) -> None:
        """Go on with the trace of the login that the access token came from."""
        ...

    def waited(self, since: float) -> None:
        """Tell that the user was at the identity provider `since` then, in seconds since the epoch."""
        ...


request_trace: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)
"""None outside of requests and without tracing."""


def trace_id() -> str | None:
    """The trace id of the request, in hexadecimal; None without tracing."""
    trace = request_trace.get()
    return None if trace is None else trace.trace_id


def join_login() -> None:
    """Tell that the access token of this request has not been used before."""
    if (trace := request_trace.get()) is not None:
        trace.join_login()


def waited(since: float) -> None:
    """Tell that the user was at the identity provider until this request; `since` is in seconds since the epoch."""
    if (trace := request_trace.get()) is not None:
        trace.waited(since)
