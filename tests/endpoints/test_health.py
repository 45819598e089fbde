import asyncio

import pytest

from tests.cli.test_cli import free_port
from tests.harness import BrokenStore, FrontDoor, json_of
from tests.integration.real_parts import eventually

pytestmark = pytest.mark.anyio


async def test_a_door_that_is_set_up_is_healthy_and_ready(door: FrontDoor) -> None:
    assert (await door.http.get("/healthz")).status_code == 200
    response = await door.http.get("/readyz")
    assert (response.status_code, json_of(response)) == (200, {"status": "ready"})


async def test_what_is_missing_is_named_and_the_app_starts_all_the_same() -> None:
    async with FrontDoor(settings={"idp_authorization_url": None, "idp_client_id": None,
                                   "idp_client_secret": None}) as door:  # fmt: skip
        assert (await door.http.get("/healthz")).status_code == 200
        response = await door.http.get("/readyz")
    assert response.status_code == 503
    assert json_of(response)["problems"] == [
        "SEED_OAUTH_IDP_AUTHORIZATION_URL is not set",
        "SEED_OAUTH_IDP_CLIENT_ID is not set",
    ]


async def test_a_store_that_is_down_makes_the_door_not_ready_but_alive() -> None:
    async with FrontDoor(clients=BrokenStore()) as door:
        assert (await door.http.get("/healthz")).status_code == 200
        response = await door.http.get("/readyz")
    assert response.status_code == 503
    assert "SEED_OAUTH_STORE_URL" in json_of(response)["problems"][0]


async def test_an_mcp_server_that_is_gone_makes_the_door_not_ready_until_it_is_back() -> None:
    port = free_port()
    settings = {"mcp_server": f"http://127.0.0.1:{port}/mcp", "access_tokens": "own"}
    async with FrontDoor(settings=settings) as door:
        response = await door.http.get("/readyz")
        assert response.status_code == 503
        assert json_of(response)["problems"] == [
            "the MCP server (SEED_OAUTH_MCP_SERVER) cannot be reached: Connection refused"
        ]
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):

            async def is_ready() -> bool:
                return (await door.http.get("/readyz")).status_code == 200

            assert await eventually(is_ready)


async def test_many_probes_do_not_flood_the_mcp_server() -> None:
    connections = 0

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = {"mcp_server": f"http://127.0.0.1:{port}/mcp", "access_tokens": "own"}
        async with FrontDoor(settings=settings) as door:
            responses = await asyncio.gather(*(door.http.get("/readyz") for _ in range(50)))
    assert {response.status_code for response in responses} == {200}
    assert connections < 10


async def test_the_public_port_never_serves_metrics(door: FrontDoor) -> None:
    assert (await door.http.get("/metrics")).status_code == 404
