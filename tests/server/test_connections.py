"""The states of a connection, and the deadlines that follow from them."""

from time import monotonic

import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from seed_oauth.server.connection_state import TRANSITIONS
from seed_oauth.server.connections import Connection
from tests.faults.served import connect, connections_of, served

pytestmark = pytest.mark.anyio


async def reads_the_body(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.request":
        await JSONResponse({})(scope, receive, send)


def test_a_connection_that_ignores_its_client_does_so_for_good() -> None:
    assert {state for state, events in TRANSITIONS.items() if events["refused"] == "deaf"} == set(TRANSITIONS)
    assert set(TRANSITIONS["deaf"].values()) == {"deaf"}


async def test_a_client_that_stops_in_the_body_of_a_pipelined_request_has_a_deadline() -> None:
    first = b"GET / HTTP/1.1\r\nHost: door\r\n\r\n"
    second = b"POST / HTTP/1.1\r\nHost: door\r\nContent-Length: 10\r\n\r\nhalf "
    async with served(reads_the_body) as listener:
        client = await connect(listener)
        await client.send(first + second)
        assert (await client.answer()).status == 200
        (connection,) = connections_of(listener).connections
        assert isinstance(connection, Connection)
        connection.check(monotonic() + 1000)
        assert (await client.answer()).status == 408
        client.leave()
