import asyncio
import os

import httpx
import pytest

from seed_oauth import Pipeline, Settings
from seed_oauth.endpoints.health import Readiness
from seed_oauth.identity_provider.open import open_identity_provider
from seed_oauth.outcomes import Check
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.telemetry import ForwardingPipeline
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
            "the MCP server of https://door.example/mcp cannot be reached: Connection refused"
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


async def ready(pipeline: Pipeline) -> dict[str, float]:
    """`seed_oauth_ready` by check."""
    samples = await FrontDoor(pipeline=pipeline).samples()
    return {dict(labels)["check"]: value for (name, labels), value in samples.items() if name == "seed_oauth_ready"}


async def test_each_check_is_recorded_without_any_request() -> None:
    settings = {
        "idp_client_id": None,
        "idp_client_secret": None,
        "mcp_server": f"http://127.0.0.1:{free_port()}/mcp",
        "access_tokens": "own",
    }
    async with FrontDoor(settings=settings, clients=BrokenStore()) as door:

        async def is_recorded() -> bool:
            return await ready(door.pipeline) == {"settings": 0, "store": 0, "idp": 1, "mcp_server": 0}

        assert await eventually(is_recorded)


async def test_an_identity_provider_that_is_gone_is_noticed_without_any_login_although_its_metadata_is_known() -> None:
    is_up = True

    def answer(request: httpx.Request) -> httpx.Response:
        if not is_up:
            raise httpx.ConnectError("refused", request=request)
        urls = {f"{name}_endpoint": f"https://idp.example/{name}" for name in ("authorization", "token")}
        return httpx.Response(200, json={"issuer": "https://idp.example", **urls})

    pipeline = Pipeline()
    settings = Settings(idp_issuer="https://idp.example")
    clients = SqliteClientStore(Database("sqlite:///:memory:"))
    idp = open_identity_provider(settings, pipeline, transport=httpx.MockTransport(answer))
    readiness = Readiness(settings, clients, idp, pipeline.telemetry.record_ready, interval=0.01)
    readiness.start()
    try:
        for is_up in True, False, True:

            async def is_noticed(expected: float = float(is_up)) -> bool:
                return (await ready(pipeline)).get("idp") == expected

            assert await eventually(is_noticed)
    finally:
        await readiness.aclose()
        await idp.aclose()
        await clients.aclose()


async def test_the_last_check_of_any_worker_counts() -> None:
    supervisor = Pipeline()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    worker, replay = ForwardingPipeline(writing), supervisor.replay(reading)
    for passed in True, False:
        worker.telemetry.record_ready(Check.STORE, passed)
        worker.give_sign_of_life()
        replay.read()
        assert await ready(supervisor) == {"store": passed}
    replay.close()
    os.close(writing)
