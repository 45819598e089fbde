"""An MCP server that cannot be connected to costs its clients nothing, and the other servers neither."""

import anyio
import httpx
import pytest

from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.resource_server.mcp_server_circuit import FAILURES, PAUSE
from seed_oauth.telemetry.gauges import MCP_SERVER_CIRCUIT_OPEN
from tests.cli.test_cli import PATIENCE, free_port
from tests.endpoints.test_many_mcp_servers import ask, door_to
from tests.faults.faulty_server import blackholed, faulty_server, refusing
from tests.harness import ISSUER, FrontDoor
from tests.http_client.test_transport import answering, response
from tests.integration.real_parts import eventually
from tests.resource_server.test_reverse_proxy import Door, Recorder, door_before, door_with

pytestmark = pytest.mark.anyio


async def call(door: Door) -> httpx.Response:
    return await door.http.post(door.mcp, content=b"{}", headers=door.headers())


async def status(door: Door) -> int:
    return (await call(door)).status_code


async def is_open(door: Door) -> float:
    return await FrontDoor(pipeline=door.pipeline).value(MCP_SERVER_CIRCUIT_OPEN.series.name)


async def test_a_server_that_refuses_connections_is_spared_until_one_request_in_a_pause_reaches_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with faulty_server() as server, door_before(server.port) as door:
        async with refusing(server):
            for _ in range(FAILURES):
                assert await is_open(door) == 0
                answer = await call(door)
                assert (answer.status_code, answer.headers["retry-after"]) == (502, "5")
            refused = await call(door)
            assert (refused.status_code, refused.headers["retry-after"]) == (502, f"{PAUSE:.0f}")
            assert await door.error_count(ResourceOutcome.MCP_SERVER_UNREACHABLE) == FAILURES + 1
            assert await is_open(door) == 1
            assert capsys.readouterr().out.count("MCP server does not respond") == 1

        async def is_back() -> bool:
            return await status(door) == 200

        assert await eventually(is_back)
        assert server.begun == 1
        assert await is_open(door) == 0
        assert await status(door) == 200
    assert "MCP server responds again" in capsys.readouterr().out


async def test_nobody_waits_for_a_server_that_swallows_connections() -> None:
    async with faulty_server() as server, door_before(server.port) as door, blackholed(server):
        async with anyio.create_task_group() as group:
            for _ in range(FAILURES):
                group.start_soon(status, door)  # each waits until it gives up to connect
        refused = await call(door)
        assert (refused.status_code, refused.headers["retry-after"]) == (502, f"{PAUSE:.0f}")


async def test_a_server_that_answers_with_errors_or_late_is_not_spared() -> None:
    async with door_with(Recorder(response(b"", b"503 Service Unavailable"))) as door:
        assert [await status(door) for _ in range(2 * FAILURES)] == [503] * 2 * FAILURES
    async with door_with(answering(then_hang=True), mcp_server_timeout=0.1) as door:
        assert [await status(door) for _ in range(2 * FAILURES)] == [504] * 2 * FAILURES
        assert await is_open(door) == 0


async def test_the_trouble_of_one_server_is_not_that_of_the_others() -> None:
    gone = {"url": f"http://127.0.0.1:{free_port()}/mcp"}
    with anyio.fail_after(PATIENCE):
        async with door_to("mail", "gone", rules={"gone": gone}) as door:
            tokens = {
                name: (await door.login(resource=f"{ISSUER}/{name}"))["access_token"] for name in ("mail", "gone")
            }
            for _ in range(2 * FAILURES):
                assert (await ask(door, "gone", tokens["gone"])).status_code == 502
                assert (await ask(door, "mail", tokens["mail"])).status_code == 200
            name = MCP_SERVER_CIRCUIT_OPEN.series.name
            assert await door.value(name, resource="/gone") == 1
            assert await door.value(name, resource="/mail") == 0


async def test_an_app_that_was_replaced_leaves_the_gauge() -> None:
    port = free_port()
    async with door_before(port) as door:
        for _ in range(FAILURES):
            await status(door)
        assert await is_open(door) == 1
    assert (MCP_SERVER_CIRCUIT_OPEN.series.name, frozenset()) not in await FrontDoor(pipeline=door.pipeline).samples()
