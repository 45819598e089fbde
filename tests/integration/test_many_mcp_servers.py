"""Nine MCP servers in one settings file, and reloads of it while requests and event streams are in progress."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from seed_oauth import Settings
from tests.cli.test_cli import PATIENCE, Server, free_port, serving
from tests.faults.served import served
from tests.harness import json_of
from tests.integration.login import client_id_from, code_for
from tests.integration.real_parts import eventually, identity_provider, idp_settings
from tests.integration.test_workers import scrape, total, until_up, workers_of
from tests.resource_server.issuing import SECRET_KEY, own_token

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NINE = ("mail", "files", "calendar", "issues", "wiki", "shop/orders", "shop", "search", "chat")


class McpServers:
    """MCP servers that answer a POST with their path, and a GET with events: one at once, one when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        if request.method == "GET":
            return StreamingResponse(self._events(), media_type="text/event-stream")
        return JSONResponse(request.url.path)

    async def _events(self) -> AsyncIterator[str]:
        yield "data: first\n\n"
        await self.go_on.wait()
        yield "data: second\n\n"


@asynccontextmanager
async def door_to_nine(folder: Path, *options: str, **environment: str) -> AsyncIterator[tuple[Server, McpServers]]:
    """A door with nine MCP servers in its settings file."""
    port, servers = free_port(), McpServers()
    async with served(servers.app) as listener:
        write_settings(folder, f"http://127.0.0.1:{port}", listener.url)
        options = ("--config", "seed-oauth.toml", *options)
        async with serving(folder, environment, port=port, options=options) as server:
            yield server, servers


def write_settings(folder: Path, issuer: str, mcp_servers: str, scopes: str = "before") -> None:
    """Write the settings file, which names the URL of the MCP servers."""
    entries = "".join(f'[[mcp_servers]]\nresource = "{issuer}/{name}"\nurl = "{mcp_servers}/{name}"\n' for name in NINE)
    file = folder / "seed-oauth.toml"
    file.write_text(
        f'issuer = "{issuer}"\naccess_tokens = "own"\nsecret_keys = "{SECRET_KEY}"\nscopes = "{scopes}"\n'
        f'store_url = "sqlite:///{folder}/clients.db"\n{entries}'
    )
    file.chmod(0o600)


async def test_a_client_logs_in_to_each_of_nine_servers_and_no_other_takes_its_token(tmp_path: Path) -> None:
    """RFC 8707 §2."""
    idp_port = free_port()
    environment = idp_settings(f"http://127.0.0.1:{idp_port}")
    async with identity_provider(tmp_path, idp_port), door_to_nine(tmp_path, **environment) as (server, _):
        tokens = {}
        for name in NINE:
            path = f"/.well-known/oauth-protected-resource/{name}"
            resource = json_of(await server.http.get(f"{server.url}{path}"))["resource"]
            assert resource == f"{server.url}/{name}"
            form = await code_for(await client_id_from(server.http, server.url), server.url, resource=resource)
            answer = await server.http.post(f"{server.url}/oauth/token", data={**form, "resource": resource})
            tokens[name] = json_of(answer)["access_token"]
        for name in NINE:
            for of, token in tokens.items():
                headers = {"Authorization": f"Bearer {token}"}
                answer = await server.http.post(f"{server.url}/{name}", json={}, headers=headers)
                assert answer.status_code == (200 if of == name else 401), (name, of)


class Load:
    """Clients that call tools one after the other until they are told to stop, each on a connection that is kept."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self.stopped = False
        self.answered: Counter[int] = Counter()

    async def run(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            while not self.stopped:
                response = await http.post(self._url, json={}, headers=self._headers)
                self.answered[response.status_code] += 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_reload_under_load_fails_no_request_and_ends_no_stream(tmp_path: Path, workers: str) -> None:
    async with door_to_nine(tmp_path, "--workers", workers) as (server, servers):
        await until_up(server, int(workers))
        settings = (tmp_path / "seed-oauth.toml").read_text()
        url = f"{server.url}/mail"
        now = time()
        token = own_token(
            Settings(issuer=server.url, secret_keys=SECRET_KEY),  # type: ignore[arg-type]  # pydantic takes text
            resource=url, issued_at=now, expires_at=int(now) + 3600,
        )  # fmt: skip
        load = Load(url, token)
        metadata = f"{server.url}/.well-known/oauth-protected-resource/mail"

        async def all_workers_have(scopes: str) -> bool:
            asked = [await server.http.get(metadata, headers={"Connection": "close"}) for _ in range(8)]
            return all(response.json()["scopes_supported"] == [scopes] for response in asked)

        async with (
            asyncio.TaskGroup() as clients,
            server.http.stream("GET", url, headers={"Authorization": f"Bearer {token}"}) as stream,
        ):
            events = stream.aiter_lines()
            assert await anext(events) == "data: first"
            for _ in range(4):
                clients.create_task(load.run())
            for number in range(5):
                (tmp_path / "seed-oauth.toml").write_text(settings.replace('"before"', f'"after-{number}"'))
                server.process.send_signal(signal.SIGHUP)
                with anyio.fail_after(PATIENCE):
                    while not await all_workers_have(f"after-{number}"):
                        await anyio.sleep(0.05)
            answered = load.answered.total()
            with anyio.fail_after(PATIENCE):
                while load.answered.total() < answered + 50:
                    await anyio.sleep(0.05)
            load.stopped = True
            # The stream has outlived five reloads, and its app with it.
            servers.go_on.set()
            assert [line async for line in events if line] == ["data: second"]
        assert load.answered.keys() == {200}
        # No counter begins anew: the requests of all apps are there, and the stream.
        samples = await scrape(server)
        allowed = total(samples, "oauth_resource_requests_total", result="allowed")
        assert allowed == load.answered[200] + 1


async def test_a_worker_that_is_started_later_has_the_new_settings(tmp_path: Path) -> None:
    async with door_to_nine(tmp_path, "--workers", "2") as (server, _):
        await until_up(server, 2)
        file = tmp_path / "seed-oauth.toml"
        file.write_text(file.read_text().replace('"before"', '"after"'))
        server.process.send_signal(signal.SIGHUP)
        metadata = f"{server.url}/.well-known/oauth-protected-resource/mail"

        async def has_new_settings() -> bool:
            response = await server.http.get(metadata, headers={"Connection": "close"})
            return bool(response.json()["scopes_supported"] == ["after"])

        await eventually(has_new_settings)
        for worker in workers_of(server):
            os.kill(worker, signal.SIGKILL)

        async def has_two_others() -> bool:
            return total(await scrape(server), "seed_oauth_worker_restarts_total") == 2

        await eventually(has_two_others)
        await until_up(server, 2)
        assert all([await has_new_settings() for _ in range(8)])
        await server.stop()
