"""Several MCP servers behind one front door, each a protected resource of its own."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from seed_oauth.outcomes import ResourceOutcome
from tests.broker import BrokerDoor
from tests.cli.test_cli import free_port
from tests.harness import ISSUER, json_of
from tests.http_client.test_transport import Handler, listening

pytestmark = pytest.mark.anyio

NINE = ("mail", "files", "calendar", "issues", "wiki", "shop/orders", "shop", "search", "chat")


def answering_with(name: str) -> Handler:
    """An MCP server that answers every request with its name."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (line.split(b":")[1] for line in head.lower().split(b"\r\n") if b"content-length" in line), b"0"
            )
            await reader.readexactly(int(length))
            body = json.dumps(name).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)

    return handler


@asynccontextmanager
async def door_to(
    *names: str, rules: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[BrokerDoor]:
    """A door with an MCP server of each name at its path."""
    async with AsyncExitStack() as stack:
        servers = []
        for name in names:
            port = await stack.enter_async_context(listening(answering_with(name)))
            servers.append(
                {"resource": f"{ISSUER}/{name}", "url": f"http://127.0.0.1:{port}/mcp", **(rules or {}).get(name, {})}
            )
        given = {"mcp_servers": servers, "access_tokens": "own", **settings}
        yield await stack.enter_async_context(BrokerDoor(settings=given))


async def ask(door: BrokerDoor, name: str, token: str | None, tool: str = "look") -> httpx.Response:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await door.http.post(f"/{name}", json=call, headers=headers)


async def test_nine_servers_have_their_own_metadata_logins_and_tokens() -> None:
    """RFC 8707 §2: a token is for one of them, and no other takes it."""
    async with door_to(*NINE) as door:
        tokens = {}
        for name in NINE:
            challenge = (await ask(door, name, None)).headers["www-authenticate"]
            assert f'resource_metadata="{ISSUER}/.well-known/oauth-protected-resource/{name}"' in challenge
            document = json_of(await door.http.get(f"/.well-known/oauth-protected-resource/{name}"))
            assert document["resource"] == f"{ISSUER}/{name}"
            tokens[name] = (await door.login(resource=document["resource"]))["access_token"]
        for name in NINE:
            for of, token in tokens.items():
                response = await ask(door, name, token)
                assert response.status_code == (200 if of == name else 401), (name, of)
                if of == name:
                    assert response.json() == name
        wrong = len(NINE) * (len(NINE) - 1)
        assert await door.error_count(ResourceOutcome.WRONG_AUDIENCE) == wrong


async def test_each_server_has_scopes_and_a_table_of_tools_of_its_own() -> None:
    rules = {"mail": {"required_scopes": "mail", "tool_scopes": {"mail:send": ["send"]}}, "files": {}}
    async with door_to("mail", "files", rules=rules, scopes="mail files mail:send") as door:
        scopes = {
            name: json_of(await door.http.get(f"/.well-known/oauth-protected-resource/{name}"))["scopes_supported"]
            for name in ("mail", "files")
        }
        assert scopes == {"mail": ["mail", "files", "mail:send"], "files": ["mail", "files", "mail:send"]}
        mail = (await door.login(resource=f"{ISSUER}/mail", scope="mail"))["access_token"]
        files = (await door.login(resource=f"{ISSUER}/files", scope="files"))["access_token"]
        assert (await ask(door, "mail", mail)).status_code == 200
        assert (await ask(door, "mail", mail, "send")).status_code == 403
        assert (await ask(door, "files", files, "send")).status_code == 200
        without = (await door.login(resource=f"{ISSUER}/mail", scope="files"))["access_token"]
        assert (await ask(door, "mail", without)).status_code == 403


def gone() -> dict[str, str]:
    return {"url": f"http://127.0.0.1:{free_port()}/mcp"}


async def test_readyz_names_the_server_that_is_gone_and_is_ready_for_the_others() -> None:
    async with door_to("mail", "gone", rules={"gone": gone()}) as door:
        response = await door.http.get("/readyz")
        assert response.status_code == 200
        assert json_of(response) == {
            "status": "ready",
            "problems": [f"the MCP server of {ISSUER}/gone cannot be reached: Connection refused"],
        }


async def test_a_door_whose_servers_are_all_gone_is_not_ready() -> None:
    async with door_to("lost", "gone", rules={"lost": gone(), "gone": gone()}) as door:
        response = await door.http.get("/readyz")
        assert response.status_code == 503
        assert len(json_of(response)["problems"]) == 2


async def test_a_server_that_hangs_leaves_the_others_alone() -> None:
    async def hangs(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(hangs) as port:
        slow = {"slow": {"url": f"http://127.0.0.1:{port}/mcp", "timeout": 0.2}}
        async with door_to("mail", "slow", rules=slow) as door:
            tokens = {
                name: (await door.login(resource=f"{ISSUER}/{name}"))["access_token"] for name in ("mail", "slow")
            }
            waiting = asyncio.create_task(ask(door, "slow", tokens["slow"]))
            assert (await ask(door, "mail", tokens["mail"])).status_code == 200
            assert (await waiting).status_code == 504


async def test_a_path_that_no_server_has_is_not_found() -> None:
    async with door_to("mail", "files") as door:
        for path in ("/", "/mcp", "/mail/x", "/mai", "/.well-known/oauth-protected-resource/mcp"):
            assert (await door.http.get(path)).status_code == 404, path
        assert (await door.http.get("/mail/")).status_code == 401


HOSTS = {"mail": "https://mail.example/mcp", "files": "https://FILES.example:443/mcp/", "root": "https://root.example"}


@asynccontextmanager
async def door_to_hosts(**settings: Any) -> AsyncIterator[BrokerDoor]:
    """A door with an MCP server at the same path of several hosts, and one at that path of its own."""
    rules = {name: {"resource": resource} for name, resource in HOSTS.items()}
    async with door_to("mcp", *HOSTS, rules=rules, **settings) as door:
        yield door


async def test_servers_on_hosts_of_their_own_have_their_own_metadata_logins_and_tokens() -> None:
    async with door_to_hosts() as door:
        resources = {"mcp": f"{ISSUER}/mcp", **HOSTS}
        tokens = {}
        for name, resource in resources.items():
            challenge = (await door.http.post(resource)).headers["www-authenticate"]
            (url,) = re.findall('resource_metadata="(.*?)"', challenge)
            document = json_of(await door.http.get(url))
            assert document["resource"] == resource
            assert document["authorization_servers"] == [ISSUER]
            tokens[name] = (await door.login(resource=resource))["access_token"]
        for name, resource in resources.items():
            for of, token in tokens.items():
                response = await door.http.post(resource, headers={"Authorization": f"Bearer {token}"})
                assert response.status_code == (200 if of == name else 401), (name, of)
                if of == name:
                    assert response.json() == name


async def test_the_host_alone_says_where_the_metadata_is() -> None:
    """RFC 9728 §3.1: a client that only knows the host finds what is there."""
    async with door_to_hosts() as door:
        for origin, resource in {ISSUER: f"{ISSUER}/mcp", "https://mail.example": HOSTS["mail"]}.items():
            for url in (
                f"{origin}/.well-known/oauth-protected-resource",
                f"{origin}/.well-known/oauth-protected-resource/",
            ):
                assert json_of(await door.http.get(url))["resource"] == resource
            assert json_of(await door.http.get(f"{origin}/.well-known/oauth-authorization-server"))["issuer"] == ISSUER


async def test_a_host_has_no_server_of_another_one() -> None:
    async with door_to("mail", "files", rules={"mail": {"resource": "https://mail.example/mcp"}}) as door:
        assert (await door.http.post("https://mail.example/files")).status_code == 404
        assert (await door.http.post(f"{ISSUER}/mcp")).status_code == 404
        assert (await door.http.post(f"{ISSUER}/files")).status_code == 401
        # Other names are those of the door itself: a reverse proxy need not pass on the issuer's.
        assert (await door.http.post("https://10.0.0.1:8000/files")).status_code == 401


async def test_forward_authentication_tells_the_hosts_apart() -> None:
    async with door_to_hosts(trusted_proxies="127.0.0.1") as door:
        token = (await door.login(resource=HOSTS["mail"]))["access_token"]
        for host, status in {"mail.example": 200, "files.example": 401, "door.example": 401, "x.example": 403}.items():
            asked = {
                "X-Original-URI": "/mcp",
                "X-Original-Method": "POST",
                "X-Forwarded-Host": host,
                "X-Forwarded-Proto": "https",
                "Authorization": f"Bearer {token}",
            }
            assert (await door.http.get("/oauth/verify", headers=asked)).status_code == status, host


async def test_a_server_on_a_host_of_its_own_learns_that_name() -> None:
    received: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with listening(handler) as port:
        servers = {"mail": {"resource": HOSTS["mail"], "url": f"http://127.0.0.1:{port}/mcp"}}
        async with door_to("mail", rules=servers) as door:
            token = (await door.login(resource=HOSTS["mail"]))["access_token"]
            await door.http.post(HOSTS["mail"], headers={"Authorization": f"Bearer {token}"})
    assert b"x-forwarded-host: mail.example\r\n" in received[0].lower()


@pytest.mark.parametrize("default", [True, False])
async def test_each_server_gets_the_token_of_the_identity_provider_or_never_sees_it(default: bool) -> None:
    received: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            received.append(head.lower())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    settings = {"mcp_server_send_token": default, "verify_send_token": True, "trusted_proxies": "127.0.0.1"}
    async with listening(handler) as port:
        url = {"url": f"http://127.0.0.1:{port}/mcp"}
        rules: dict[str, dict[str, Any]] = {
            "mail": {**url, "send_token": True},
            "files": {**url, "send_token": False},
            "wiki": url,
        }
        async with door_to(*rules, rules=rules, **settings) as door:
            for name, sent in {"mail": True, "files": False, "wiki": default}.items():
                token = (await door.login(resource=f"{ISSUER}/{name}"))["access_token"]
                authorization = {"Authorization": f"Bearer {token}"}
                await door.http.get(f"/{name}", headers=authorization)
                request = received.pop()
                assert b"\r\nx-seed-oauth-client-id: public\r\n" in request
                assert (b"\r\nx-seed-oauth-idp-token: " in request) == sent, name
                asked = {
                    "X-Original-URI": f"/{name}",
                    "X-Original-Method": "GET",
                    "X-Forwarded-Host": "door.example",
                    "X-Forwarded-Proto": "https",
                }
                answer = await door.http.get("/oauth/verify", headers={**asked, **authorization})
                assert bool(answer.headers["x-seed-oauth-idp-token"]) == (name != "files")


async def test_requests_are_counted_by_server_under_names_from_the_settings() -> None:
    async with door_to_hosts(trusted_proxies="127.0.0.1") as door:
        names = {"/mcp": f"{ISSUER}/mcp", "mail.example/mcp": HOSTS["mail"], "root.example/": HOSTS["root"]}

        async def counted(result: str, resource: str) -> float:
            return await door.value("oauth_resource_requests_total", result=result, resource=resource)

        assert await counted("allowed", "files.example/mcp") == 0  # before the first request
        for name, resource in names.items():
            token = (await door.login(resource=resource))["access_token"]
            await door.http.post(resource, headers={"Authorization": f"Bearer {token}"})
            await door.http.post(resource)
            await door.http.put(resource)
            assert [await counted(result, name) for result in ("allowed", "challenged", "refused")] == [1, 1, 1]
        for uri in ("/mcp/below", "/made-up", "/made-up/as/well"):
            asked = {"X-Original-URI": uri, "X-Original-Method": "GET", "X-Forwarded-Proto": "https"}
            await door.http.get("/oauth/verify", headers={**asked, "X-Forwarded-Host": "mail.example"})
        await door.http.get("/oauth/verify")
        assert await counted("challenged", "mail.example/mcp") == 2
        assert await counted("refused", "_other") == 3


async def test_two_hundred_servers_have_a_bounded_number_of_series() -> None:
    """The SDK keeps 2,000 label sets of one instrument, and merges the others."""
    servers = [{"resource": f"{ISSUER}/{number}", "url": "http://127.0.0.1:9/mcp"} for number in range(200)]
    async with BrokerDoor(settings={"mcp_servers": servers, "access_tokens": "own"}) as door:
        for number in range(200):
            await door.http.post(f"/{number}")
            await door.http.post(f"/made-up-{number}")
        many = await door.samples()
    async with BrokerDoor(settings={"mcp_servers": servers[:1], "access_tokens": "own"}) as door:
        await door.http.post("/0")
        one = await door.samples()
    # Three results for each server and for `_other`, and a circuit for each server.
    assert len(many) - len(one) == 3 * 201 + 199
