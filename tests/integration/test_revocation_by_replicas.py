"""A grant ends at one of three replicas, each a process of its own: the others refuse it, and end its streams."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx
import pytest

from seed_oauth.cli.demo.tokens import SUBJECT
from tests.cli.test_cli import COMMAND, PATIENCE
from tests.harness import json_of, refresh_request
from tests.http_client.test_transport import listening
from tests.integration.login import code_from
from tests.integration.test_rolling_restart import three_replicas
from tests.redis_servers import redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An MCP server with a stream that never ends by itself."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"7\r\ndata: 1\r\n")
    await reader.read()


async def revoke_of(subject: str, store_url: str) -> None:
    """What the operator types."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "grants", "revoke", "--subject", subject, "--yes",
        env={**os.environ, "SEED_OAUTH_STORE_URL": store_url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.decode().startswith("1 grant revoked")


@pytest.mark.parametrize("ends_by", ["revocation", "reuse", "the operator"])
@pytest.mark.parametrize("store", ["one SQLite file", pytest.param("Redis", marks=pytest.mark.real_parts("redis"))])
async def test_access_ends_at_every_replica(tmp_path: Path, store: str, ends_by: str) -> None:
    """THREATS 17."""
    with anyio.fail_after(4 * PATIENCE):
        async with AsyncExitStack() as stack:
            store_url = f"sqlite:///{tmp_path}/shared.db"
            if store == "Redis":
                store_url = stack.enter_context(redis_server(tmp_path / "redis")).url
            mcp_server = f"http://127.0.0.1:{await stack.enter_async_context(listening(streams))}/mcp"
            settings = {"SEED_OAUTH_MCP_SERVER": mcp_server, "SEED_OAUTH_ACCESS_TOKENS": "own"}
            settings["SEED_OAUTH_IDP_SCOPES"] = "openid"  # for an ID token, which says who the user is
            balancer = await stack.enter_async_context(three_replicas(tmp_path, store_url, **settings))
            http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
            form = await code_from(http, balancer.url)
            tokens = json_of(await http.post(f"{balancer.url}/oauth/token", data=form))
            token, client_id = tokens["refresh_token"], form["client_id"]
            resources = [f"http://127.0.0.1:{replica.port}/mcp" for replica in balancer.replicas]
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            opened = [
                await stack.enter_async_context(http.stream("GET", resource, headers=headers)) for resource in resources
            ]
            assert [stream.status_code for stream in opened] == [200, 200, 200]

            if ends_by == "revocation":
                await http.post(f"{balancer.url}/oauth/revoke", data={"token": token, "client_id": client_id})
            elif ends_by == "the operator":
                await revoke_of(SUBJECT, store_url)
                for replica in balancer.replicas:
                    refresh = refresh_request(client_id=client_id, refresh_token=token)
                    refused = await http.post(f"http://127.0.0.1:{replica.port}/oauth/token", data=refresh)
                    assert (refused.status_code, json_of(refused)["error"]) == (400, "invalid_grant")
            else:
                used = [token]
                for _ in range(2):
                    refresh = refresh_request(client_id=client_id, refresh_token=used[-1])
                    used.append(json_of(await http.post(f"{balancer.url}/oauth/token", data=refresh))["refresh_token"])
                refresh = refresh_request(client_id=client_id, refresh_token=token)
                assert (await http.post(f"{balancer.url}/oauth/token", data=refresh)).status_code == 400

            for stream in opened:
                assert await stream.aread() == b"data: 1"
            for resource in resources:
                assert (await http.get(resource, headers=headers)).status_code == 401
