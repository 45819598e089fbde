"""What one client may take of a listener, and what one hears that takes more."""

from dataclasses import dataclass
from http import HTTPStatus

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth.http.answer import NO_STORE, json_response

_HEALTH = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client may take. Times are in seconds, sizes in bytes."""

    connections: int
    """Open at once."""
    head: float = 20.0
    """For a request's line and header fields; Apache's default is the same."""
    body: float = 20.0
    """For its body, and one more for each `body_rate` that have come."""
    body_rate: int = 1024
    idle: float = 75.0
    """Until the next request; load balancers keep theirs for 60, and must be the first to close."""
    unread: float = 30.0
    """For a client to take what was sent."""
    early_response: float = 2.0
    """For a client to read why it was refused, while what it still sends is dropped."""
    farewell: float = 0.5
    """For a request that was on its way when the listener was told to stop: more than a round trip."""
    head_size: int = 64 * 1024
    fields: int = 100
    """Header fields of a request."""
    pipelined: int = 32
    """Requests that wait for an earlier one of their connection."""


def refusal(status: HTTPStatus, limits: Limits) -> bytes:
    """The answer to what is no request to any endpoint."""
    description = {
        HTTPStatus.REQUEST_TIMEOUT: "the request did not come in time: send it again, at once",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
            f"send at most {limits.fields} header fields, and {limits.head_size} bytes of them"
        ),
        HTTPStatus.NOT_IMPLEMENTED: "there is no other protocol here: send the request without Upgrade",
    }.get(status, "this is no HTTP request")
    body = orjson.dumps({"error": "invalid_request", "error_description": description})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def full(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Say that there are too many connections; whether the process lives can be asked all the same."""
    if scope["path"] not in _HEALTH:
        content = {"error": "temporarily_unavailable", "error_description": "too many are connected: try again"}
        app = json_response(content, 503, {**NO_STORE, "Retry-After": "5", "Connection": "close"})
    await app(scope, receive, send)
