"""The limits of a connection, and the responses to requests that exceed them."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth.http.answer import NO_STORE, json_response
from seed_oauth.telemetry.contract import Refusal

_HEALTH = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a connection. Times are in seconds, sizes in bytes."""

    connections: int
    """Connections at the same time."""
    head: float = 20.0
    """For the request line and header fields; the same as the default of Apache."""
    body: float = 20.0
    """For the body, and one second more for every `body_rate` bytes received."""
    body_rate: int = 1024
    idle: float = 75.0
    """Until the next request; load balancers keep connections for 60, and must close them first."""
    unread: float = 30.0
    """For a client to read what was sent."""
    early_response: float = 2.0
    """For a refused client to read the response, while what it still sends is ignored."""
    farewell: float = 0.5
    """For a request that was sent before the listener stopped: more than a round trip."""
    head_size: int = 64 * 1024
    fields: int = 100
    """Header fields of a request."""
    pipelined: int = 32
    """Requests that wait for an earlier one on the same connection."""


REFUSALS = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Refusal.HEAD_TOO_LARGE,
    HTTPStatus.REQUEST_TIMEOUT: Refusal.TIMEOUT,
    HTTPStatus.NOT_IMPLEMENTED: Refusal.NOT_IMPLEMENTED,
}
"""How a refusal is counted; any other is a bad request."""


def refusal(status: HTTPStatus, limits: Limits) -> bytes:
    """The response to a request that reaches no endpoint."""
    description = {
        HTTPStatus.REQUEST_TIMEOUT: "the request did not arrive in time: send it again, without pauses",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
            f"send at most {limits.fields} header fields, of {limits.head_size} bytes in total"
        ),
        HTTPStatus.NOT_IMPLEMENTED: "no other protocol is supported here: send the request without Upgrade",
    }.get(status, "this is not an HTTP request")
    body = orjson.dumps({"error": "invalid_request", "error_description": description})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def full(app: ASGIApp, on_refusal: Callable[[Refusal], None], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there are too many connections, except for health checks."""
    if scope["path"] not in _HEALTH:
        on_refusal(Refusal.FULL)
        content = {"error": "temporarily_unavailable", "error_description": "too many clients are connected: try again"}
        app = json_response(content, 503, {**NO_STORE, "Retry-After": "5", "Connection": "close"})
    await app(scope, receive, send)
