"""The connections of a listener, with limits for clients that are slow, silent, or too many.

uvicorn waits for a client without a deadline, and accepts any number of them. Here every wait for a client has a
deadline, requests have a maximum size, and connections have a maximum number, at which the connection that has been
waited for longest is closed. So a slow client loses its own connection, and nobody else's.

Requests refused here have no outcome, because no endpoint has seen them: they have a counter of their own. A client
that stops in the middle of a body counts as gone, in the endpoint's row `cancelled`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from seed_oauth.http.scope_keys import HALF_CLOSED
from seed_oauth.server.connection_limits import REFUSALS, Limits, full, refusal
from seed_oauth.server.connection_state import TRANSITIONS, Event, State
from seed_oauth.server.flow_control import ReadingFlow
from seed_oauth.server.http_1_0 import until_closed
from seed_oauth.telemetry.contract import Refusal
from seed_oauth.telemetry.gauges import ConnectionState


class Connections(ServerState):
    """All connections of one listener."""

    def __init__(self, limits: Limits, on_refusal: Callable[[Refusal], None] = lambda _: None) -> None:
        """`on_refusal` is told of each request that no endpoint sees."""
        super().__init__()
        self.on_refusal = on_refusal
        self.limits = limits
        self.draining = asyncio.Event()
        self.awaited: dict[Connection, float] = {}
        """The connections that wait for their client, and since when, the longest first."""

    async def watch(self, interval: float = 1.0) -> None:
        """Check the deadlines of all connections every `interval` seconds."""
        while True:
            await asyncio.sleep(interval)
            now = monotonic()
            for connection in list(self.connections):
                assert isinstance(connection, Connection)  # noqa: S101 - the listener makes no others
                connection.check(now)

    def states(self) -> dict[str, float]:
        """The number of connections in each state; safe in any thread."""
        now = list(self.connections)
        active = sum(connection.is_answering() for connection in now if isinstance(connection, Connection))
        return {ConnectionState.ACTIVE.value: active, ConnectionState.IDLE.value: len(now) - active}

    def make_room(self) -> bool:
        """Close the connection that has waited for its client longest; False if none waits."""
        if not self.awaited:
            return False
        longest = next(iter(self.awaited))
        del self.awaited[longest]
        longest.cut_off()
        return True


class Connection(HttpToolsProtocol):
    """A connection with deadlines and limits."""

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._pool = server_state
        self._limits = server_state.limits
        self._awaited = server_state.awaited
        self.headers = []
        self._state: State = "idle"
        self._received = 0  # bytes of the current request
        self._besides_body = 0  # of them, since the last piece of a body
        self._fault = HTTPStatus.BAD_REQUEST  # the status if the parser stops
        self._is_leaving = False
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = ReadingFlow(transport, self.pipeline)
        if len(self.connections) > self._limits.connections and not self._pool.make_room():
            self.app = partial(full, self.app, self._pool.on_refusal)
        self._awaited[self] = monotonic()
        if self._pool.draining.is_set():
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaited.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._state == "deaf":
            return
        if self._state == "idle":
            self._awaited.pop(self, None)  # a new request has a new deadline
        self._happens("data")
        self._received += len(data)
        self._besides_body += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        self._wait_for_rest()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to keep our side open
        if not self._owes_answers():
            return False
        # The client may be gone, or wait for the response: only a write tells.
        self.cycle.keep_alive = False
        self.cycle.scope[HALF_CLOSED] = partial(self._give_up, self.cycle)  # type: ignore[literal-required]  # ASGI lets servers add keys
        self.cycle.message_event.set()
        return True

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_again_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._fault)

    def _parse_again_without_upgrade(self, rest: bytes) -> None:
        """Ignore the Upgrade field of a request (RFC 9110 §7.8): Java's HTTP client sends `Upgrade: h2c` first of all.

        The parser leaves the body to the new protocol. As there is none, the body would be parsed as the next request,
        which behind a proxy is another client's (request smuggling, RFC 9112 §11.2).
        """
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        head += [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"".join([*head, b"\r\n", rest]))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":  # a tunnel, with or without Upgrade (RFC 9110 §9.3.6)
                self._fault = HTTPStatus.NOT_IMPLEMENTED
                raise _StopError
            return
        # The exact size is only computed if it can exceed the limit.
        is_large = (self._received > self._limits.head_size or self.pipeline) and self._is_head_too_large()
        if is_large or len(self.headers) > self._limits.fields:
            self._fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _StopError
        if len(self.pipeline) >= self._limits.pipelined:
            raise _StopError
        super().on_headers_complete()
        self._happens("head complete")
        # A new list, so that trailers are not added to the header fields of the request: behind a proxy that passes
        # trailers on, a client could set X-Forwarded-For (RFC 9110 §6.5.1).
        self.headers = []
        if self._is_leaving:
            self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.0":
            self.cycle.send = partial(until_closed, self.cycle)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        self._besides_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._happens("message complete")
        self._received = self._besides_body = 0
        self._awaited.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self._awaited[self] = monotonic()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None

    def shutdown(self) -> None:
        self._is_leaving = True
        if self.is_answering():
            super().shutdown()
        else:
            self.loop.call_later(self._limits.farewell, self._leave)

    def check(self, now: float) -> None:
        """Close the connection if its deadline is over."""
        if self.transport.is_closing() and self._unread_since is None:
            self._unread_since = now
        if self._unread_since is not None and now - self._unread_since > self._limits.unread:
            self.cut_off()
        elif now - self._awaited.get(self, now) > self._allowed():
            self._time_out(now)

    def cut_off(self) -> None:
        """Close the connection without a response."""
        self._happens("refused")
        self.transport.abort()

    def _allowed(self) -> float:
        """The seconds that the client has for its next step."""
        limits = self._limits
        if self._state == "deaf":
            return limits.early_response
        if self._is_in_body():
            return limits.head + limits.body + self._received / limits.body_rate
        return limits.idle if self._state == "idle" and self.cycle is not None else limits.head

    def _time_out(self, now: float) -> None:
        if self.flow.read_paused:  # this server or the MCP server is slow, not the client
            self._awaited[self] = now
        elif self._state in {"deaf", "idle"} or self._is_answered_early():
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _wait_for_rest(self) -> None:
        if self._state in {"head", "body"} and self._is_too_large():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._owes_answers():
            self._awaited.pop(self, None)
        elif self._state != "deaf":
            self._awaited.setdefault(self, monotonic())

    def _refuse(self, status: HTTPStatus) -> None:
        """Ignore what else the client sends, and send an error, unless a response to an earlier request is due."""
        is_answered_early = self._is_answered_early()
        self._happens("refused")
        cycle = self.cycle
        if self._owes_answers():
            cycle.keep_alive = False
            return
        if is_answered_early:  # a second response would be taken for that of another request
            self.transport.close()
            return
        if self._is_in_body():
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self._pool.on_refusal(REFUSALS.get(status, Refusal.BAD_REQUEST))
        self.transport.write(refusal(status, self._limits))
        # Closing now would reset the connection while the client still sends, and lose the response (RFC 9112 §9.6).
        self.transport.write_eof()
        self._awaited[self] = monotonic()

    def _give_up(self, cycle: RequestResponseCycle) -> None:
        """Close the connection of a client that is gone; uvicorn logs no incomplete response then."""
        cycle.disconnected = True
        self.transport.close()

    def _owes_answers(self) -> bool:
        """Whether a request is complete, and its response is not."""
        return self.is_answering() and not self.cycle.more_body

    def _is_in_body(self) -> bool:
        return self.is_answering() and self.cycle.more_body

    def is_answering(self) -> bool:
        """Whether a request has begun, and its response is not complete."""
        return bool(self.cycle) and not self.cycle.response_complete

    def _is_answered_early(self) -> bool:
        """Whether a request has its response, although its body is incomplete."""
        return self._state == "body" and not self.is_answering()

    def _leave(self) -> None:
        if not self.is_answering():
            self.transport.close()

    def _happens(self, event: Event) -> None:
        self._state = TRANSITIONS[self._state][event]

    def _is_too_large(self) -> bool:
        """Whether there is a head without an end, or too many trailers."""
        return self._besides_body > self._limits.head_size or len(self.headers) > self._limits.fields

    def _is_head_too_large(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > self._limits.head_size


class _StopError(Exception):
    """Stops the parser."""
