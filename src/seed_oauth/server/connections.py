"""The connections of a listener: what a client may cost that is slow, silent, or one of too many.

uvicorn waits for a client as long as the client likes, and takes as many as come. Here each step in which a
client is waited for has a deadline, a request has a size, and there is a most of connections; at it the one that
has been waited for longest makes room. So whoever is slow loses their own socket, and nobody else's.

What is refused here is not counted: no endpoint has heard of it. A client that stops in the middle of a body is
one that went away, in the endpoint's row `cancelled`.
"""

import asyncio
from collections import deque
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from seed_oauth.http.scope_keys import HALF_CLOSED
from seed_oauth.server.connection_limits import Limits, full, refusal


class Connections(ServerState):
    """Those of one listener."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.draining = asyncio.Event()
        self.awaited: dict[Connection, float] = {}
        """Those on which the client has to do something next, the longest first, and since when."""

    async def watch(self, interval: float = 1.0) -> None:
        """Look every `interval` seconds for clients whose time is over."""
        while True:
            await asyncio.sleep(interval)
            now = monotonic()
            for connection in list(self.connections):
                assert isinstance(connection, Connection)  # noqa: S101 - the listener makes no others
                connection.check(now)

    def make_room(self) -> bool:
        """Close the connection that has been waited for longest; False where none is waited for."""
        if not self.awaited:
            return False
        longest = next(iter(self.awaited))
        del self.awaited[longest]
        longest.cut_off()
        return True


class _Flow(FlowControl):
    """Reads nothing more while requests that were read are waiting, so that they cannot pile up."""

    def __init__(self, transport: asyncio.Transport, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


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
        self._state = server_state
        self._limits = server_state.limits
        self._awaited = server_state.awaited
        self.headers = []
        self._is_incomplete = False  # the latest request
        self._in_head = True
        self._received = 0  # bytes, since the last request was complete
        self._beside = 0  # of them, since the last piece of a body
        self._fault = HTTPStatus.BAD_REQUEST  # what is wrong when the parser stops
        self._is_deaf = False
        self._is_leaving = False
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self._limits.connections and not self._state.make_room():
            self.app = partial(full, self.app)
        self._awaited[self] = monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaited.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        was_incomplete, self._is_incomplete = self._is_incomplete, True
        self._received += len(data)
        self._beside += len(data)
        super().data_received(data)
        if self._is_incomplete:
            self._await_rest(has_begun=not was_incomplete)
        elif not self.cycle.response_complete:
            self._awaited.pop(self, None)
        else:  # it was answered before it was complete
            self._awaited[self] = monotonic()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to leave our side open
        if not self._owes_answers():
            return False
        # It may have gone, or wait for the answer: until something is written the two look alike.
        self.cycle.keep_alive = False
        self.cycle.scope[HALF_CLOSED] = True  # type: ignore[literal-required]  # ASGI lets servers add keys
        self.cycle.message_event.set()
        return True

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self._has_body():
            # The parser leaves the body to the other protocol. There is none here, so it would be taken for the next
            # request, which behind a proxy is somebody else's (RFC 9112 §11.2).
            self._fault = HTTPStatus.NOT_IMPLEMENTED
            raise _StopError
        # Of a single request at most this much has come; to add its fields up costs more than to know that.
        is_large = (self._received > self._limits.head_size or self.pipeline) and self._is_head_too_large()
        if is_large or len(self.headers) > self._limits.fields:
            self._fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _StopError
        if len(self.pipeline) >= self._limits.pipelined:
            raise _StopError
        super().on_headers_complete()
        self._in_head = False
        # The request keeps its list, and fields of a trailer do not come into it: X-Forwarded-For would be the client's
        # word, behind a proxy that passes trailers on (RFC 9110 §6.5.1).
        self.headers = []
        if self._is_leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._beside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_incomplete, self._in_head, self._received, self._beside = False, True, 0, 0

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

    def _unsupported_upgrade_warning(self) -> None:
        # The request is answered as if it had not asked for another protocol (RFC 9110 §7.8), and nothing after it is
        # heard, because the client may have changed to that already.
        self._is_deaf = True
        self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's; it says nothing that we do not
        self._refuse(self._fault)

    def shutdown(self) -> None:
        self._is_leaving = True
        if self._is_answering():
            super().shutdown()
        else:
            self.loop.call_later(self._limits.farewell, self._leave)

    def check(self, now: float) -> None:
        """End the connection if the client's time is over."""
        if self.transport.is_closing() and self._unread_since is None:
            self._unread_since = now
        if self._unread_since is not None and now - self._unread_since > self._limits.unread:
            self.cut_off()
        elif now - self._awaited.get(self, now) > self._allowed():
            self._time_out(now)

    def cut_off(self) -> None:
        """Close the connection without another word."""
        self._is_deaf = True
        self.transport.abort()

    def _allowed(self) -> float:
        """How long the client may take for what it has to do next."""
        limits = self._limits
        if self._is_deaf:
            return limits.early_response
        if self._is_in_body():
            return limits.head + limits.body + self._received / limits.body_rate
        return limits.head if self._is_incomplete or self.cycle is None else limits.idle

    def _time_out(self, now: float) -> None:
        if self.flow.read_paused:  # the delay is ours, or that of the server behind
            self._awaited[self] = now
        elif self._is_deaf or not self._is_incomplete or self._is_answered_early():
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _await_rest(self, *, has_begun: bool) -> None:
        if self._is_deaf:
            return
        # a head without an end, or trailers
        if self._beside > self._limits.head_size or len(self.headers) > self._limits.fields:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif has_begun and not self._owes_answers():
            self._awaited.pop(self, None)  # to be the last in the order
            self._awaited[self] = monotonic()

    def _refuse(self, status: HTTPStatus) -> None:
        """Hear nothing more, and say why; requests that came before have their answers first, and no reason follows."""
        self._is_deaf = True
        cycle = self.cycle
        if self._owes_answers():
            cycle.keep_alive = False
            return
        if self._is_answered_early():  # a second answer would be taken for that to another request
            self.transport.close()
            return
        if self._is_in_body():
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(refusal(status, self._limits))
        # Closing now would reset the connection while the client still sends, and lose it the answer (RFC 9112 §9.6).
        self.transport.write_eof()
        self._awaited[self] = monotonic()

    def _owes_answers(self) -> bool:
        """Whether all of a request has come, and not all of its answer has gone."""
        return self._is_answering() and not self.cycle.more_body

    def _is_in_body(self) -> bool:
        return self._is_answering() and self.cycle.more_body

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _is_answered_early(self) -> bool:
        """Whether the rest of a request is to come that has its answer already."""
        return not self._in_head and not self._is_answering()

    def _leave(self) -> None:
        if not self._is_answering():
            self.transport.close()

    def _has_body(self) -> bool:
        # RFC 9112 §6.3
        return any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)

    def _is_head_too_large(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return size > self._limits.head_size


class _StopError(Exception):
    """Stops the parser."""
