"""Forward authentication through the real reverse proxies, each with the configuration that the how-to shows."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from time import time
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from seed_oauth import Pipeline, Settings, create_app
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked
from seed_oauth.storage.open import open_stores
from tests.cli.test_cli import PATIENCE, free_port, serving
from tests.faults.served import served
from tests.harness import FrontDoor, json_of
from tests.integration import reverse_proxies
from tests.integration.identity_providers import SCOPE
from tests.integration.mcp_programs import client_command, mcp_server, whole_path
from tests.integration.oidc_provider import oidc_provider
from tests.integration.person import Person
from tests.integration.reverse_proxies import REVERSE_PROXIES, reverse_proxy
from tests.integration.test_whole_path import TOLD
from tests.resource_server.issuing import SECRET_KEY, own_token

pytestmark = pytest.mark.anyio

BUFFER = "tune.bufsize 32768\n    tune.maxrewrite 16384\n"
through_each = pytest.mark.parametrize("proxy", REVERSE_PROXIES)
WHOLE_PATHS = [
    pytest.param(client, *proxy.values, marks=proxy.marks)
    for client in ("python", "typescript")
    for proxy in REVERSE_PROXIES
    if client == "python" or proxy.id in {"nginx", "caddy", "haproxy"}
]


async def told(request: Request) -> Response:
    """An MCP server that tells what it received."""
    headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
    return JSONResponse({"path": request.scope["raw_path"].decode(), "headers": headers})


class Events:
    """An MCP server's stream, which goes on when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def answer(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        yield "data: first\n\n"
        await self.go_on.wait()
        yield "data: second\n\n"


@dataclass
class Site:
    """A public address, and what stands behind it."""

    url: str
    settings: Settings
    http: httpx.AsyncClient
    events: Events
    pipeline: Pipeline

    def token(self, **changes: Any) -> str:
        good = {"resource": f"{self.url}/mcp", "issued_at": time(), "expires_at": int(time()) + 300}
        return own_token(self.settings, **{**good, **changes})

    async def get(self, path: str = "/mcp", *, token: str | None = None, **headers: str) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {token or self.token()}"}
        return await self.http.get(f"{self.url}{path}", headers={**authorization, **headers})

    async def send(self, target: str, headers: Mapping[str, str] | list[tuple[str, str]]) -> int:
        """The status of a request whose target no client library would send."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in httpx.Headers(headers).multi_items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status


@asynccontextmanager
async def site(proxy: str, folder: Path, **settings: Any) -> AsyncIterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    all_settings = Settings(
        **{
            "issuer": url,
            "secret_keys": SECRET_KEY,
            "access_tokens": "own",
            "trusted_proxies": "127.0.0.1",
            "store_url": f"sqlite:///{folder}/clients.db",
            "required_scopes": "files:read",
            **settings,
        }
    )
    events, pipeline = Events(), Pipeline()
    mcp = Starlette(routes=[Route("/mcp/events", events.answer), Route("/{path:path}", told, methods=["GET", "POST"])])
    with anyio.fail_after(2 * PATIENCE):
        async with (
            served(create_app(all_settings, pipeline=pipeline)) as door,
            served(mcp) as mcp_server,
            reverse_proxy(proxy, folder, port, httpx.URL(door.url).port or 0, httpx.URL(mcp_server.url).port or 0),
            httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http,
        ):
            yield Site(url, all_settings, http, events, pipeline)


def received(answer: httpx.Response) -> dict[str, str]:
    """The header fields that the MCP server received, none of them twice."""
    assert answer.status_code == 200, answer.text
    headers = json_of(answer)["headers"]
    assert len(dict(headers)) == len(headers)
    return dict(headers)


@through_each
async def test_it_lets_in_who_has_a_token_and_says_who_that_is(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        token = at.token(email="alice@example.com", groups=("staff",))
        headers = received(await at.get(token=token, Cookie="session=1", **{"X-Harmless": "1"}))
        assert headers["x-seed-oauth-subject"] == "alice"
        assert headers["x-seed-oauth-email"] == "alice@example.com"
        assert headers["x-seed-oauth-groups"] == "staff"
        assert headers["x-seed-oauth-scope"] == "files:read files:write"
        assert headers["x-harmless"] == "1"
        # What is not said is empty, or not there.
        assert not any(headers.get(f"x-seed-oauth-{name}") for name in ("tenant", "name", "idp-token"))
        # The MCP server sees neither the client's token nor cookies of this host.
        assert not headers.get("authorization")
        assert not headers.get("cookie")
        posted = await at.http.post(f"{at.url}/mcp", content=b"{}", headers={"Authorization": f"Bearer {token}"})
        assert posted.status_code == 200


@through_each
async def test_a_refusal_arrives_with_its_challenge(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        refusals = [
            (401, await at.http.get(f"{at.url}/mcp")),
            (401, await at.get(token=at.token(expires_at=1))),
            (403, await at.get(token=at.token(scope="other"))),
        ]
        for status, refused in refusals:
            assert refused.status_code == status
            (challenge,) = refused.headers.get_list("www-authenticate")
            assert f'resource_metadata="{at.url}/.well-known/oauth-protected-resource/mcp"' in challenge
        assert 'error="insufficient_scope"' in challenge


@through_each
async def test_forged_identity_headers_do_not_arrive(proxy: str, tmp_path: Path) -> None:
    """THREATS 42."""
    forged = ("X-Seed-OAuth-Subject", "X-Seed-OAuth-Email", "X_Seed_OAuth_Tenant", "x-seed-oauth-idp-token")
    async with site(proxy, tmp_path) as at:
        headers = received(await at.get(**dict.fromkeys(forged, "mallory")))
        assert headers["x-seed-oauth-subject"] == "alice"
        assert "mallory" not in headers.values()


@through_each
async def test_a_client_cannot_have_identity_headers_removed(proxy: str, tmp_path: Path) -> None:
    """RFC 9110 §7.6.1: fields that Connection names are not passed on; those of the answer are, all the same."""
    async with site(proxy, tmp_path) as at:
        headers = received(await at.get(Connection="X-Seed-OAuth-Subject, X-Seed-OAuth-Scope"))
        assert headers["x-seed-oauth-subject"] == "alice"
        assert headers["x-seed-oauth-scope"] == "files:read files:write"


@through_each
async def test_a_stranger_cannot_say_which_request_is_meant(proxy: str, tmp_path: Path) -> None:
    """THREATS 41: what a client sends in these fields never lets in who would not be let in otherwise."""
    names = ("X-Original-URI", "X-Forwarded-Uri", "X-Original-Method", "X-Forwarded-Method", "X-Forwarded-Host")
    async with site(proxy, tmp_path, resources=("http://127.0.0.1:1/mcp", "http://127.0.0.1:2/mcp")) as at:
        token = at.token(resource="http://127.0.0.1:1/mcp")
        meant = {"X-Forwarded-Host": "127.0.0.1:1", "X-Original-URI": "/mcp", "X-Forwarded-Uri": "/mcp"}
        for forged in (meant, dict.fromkeys(names, "/mcp")):
            assert (await at.get(token=token, **forged)).status_code == 403
        for host in ("127.0.0.1:1", "127.0.0.1:2"):
            assert (await at.get(token=token, Host=host)).status_code in {403, 404}, host


@pytest.mark.real_parts("haproxy")
@pytest.mark.parametrize(("name", "status"), [("Accept", 401), ("Authorization", 400)])
async def test_a_field_that_is_sent_very_often_does_not_stop_haproxy(name: str, status: int, tmp_path: Path) -> None:
    async with site("haproxy", tmp_path) as at:
        assert await at.send("/mcp", [(name, "text/plain")] * 98) == status
        assert (await at.get()).status_code == 200


@pytest.mark.real_parts("haproxy")
@pytest.mark.parametrize("line", ["local sent =", "for name, field in", "txn:set_var("])
async def test_nobody_passes_haproxy_where_its_script_fails(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, tmp_path, "verify.lua", f"    {line}", f'    error("failed")\n    {line}')
    async with site("haproxy", tmp_path) as at:
        assert (await at.get()).status_code == 503
        assert (await at.http.get(f"{at.url}/.well-known/oauth-authorization-server")).status_code == 200


@pytest.mark.real_parts("haproxy")
@pytest.mark.parametrize(
    ("buffer", "statuses"),
    [pytest.param(BUFFER, {200, 400}, id="as shown"), pytest.param("", {200, 400, 503}, id="as it comes")],
)
async def test_a_client_with_a_large_header_has_no_identity_header_left_out_by_haproxy(
    buffer: str, statuses: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, tmp_path, "haproxy.cfg", BUFFER, buffer)
    async with site("haproxy", tmp_path) as at:
        token = at.token(email="alice@example.com", groups=("g" * 2000,))
        whole = identity(received(await at.get(token=token)))
        answers = [await at.get(token=token, **{"X-Pad": "x" * length}) for length in range(10_000, 14_000, 200)]
        assert {answer.status_code for answer in answers} == statuses
        assert all(identity(received(answer)) == whole for answer in answers if answer.is_success)


def identity(headers: Mapping[str, str]) -> Mapping[str, str]:
    """What the MCP server is told of the user."""
    return {name: value for name, value in headers.items() if name.startswith("x-seed-oauth-")}


@through_each
async def test_a_user_in_many_groups_may_pass(proxy: str, tmp_path: Path) -> None:
    groups = tuple(f"Отдел продаж и маркетинга {number}" for number in range(60))
    async with site(proxy, tmp_path) as at:
        headers = received(await at.get(token=at.token(groups=groups)))
        assert tuple(map(unquote, headers["x-seed-oauth-groups"].split(","))) == groups


@through_each
async def test_a_large_token_may_pass(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        token = at.token(name="n" * 8000)
        assert len(token) > 10_000
        assert received(await at.get(token=token))["x-seed-oauth-name"] == "n" * 8000


@through_each
async def test_a_path_that_can_be_read_in_two_ways_does_not_pass(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.token()}"}
        assert await at.send("/mcp", headers) == 200
        for target in ("/mcp/..%2fadmin", "/mcp/%2e%2e/admin", "/mcp/../admin", "/mcp/x%2fy", "/mcp/..;/admin"):
            assert await at.send(target, headers) in {400, 403, 404}, target
        for target in ("/admin", "/mcpx"):
            assert await at.send(target, headers) in {403, 404}, target


@through_each
async def test_a_method_override_does_not_pass(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.token()}", "X-HTTP-Method-Override": "POST"}
        refused = await at.http.request("PATCH", f"{at.url}/mcp", headers=headers)
        # nginx knows no other answer than 401 and 403.
        assert refused.status_code == (500 if proxy.startswith("nginx") else 405)


@through_each
async def test_clients_do_not_reach_the_endpoint_themselves(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        asked = {"X-Original-URI": "/mcp", "X-Original-Method": "GET", "Authorization": f"Bearer {at.token()}"}
        for path in ("/oauth/verify", "/oauth/verify/mcp", "/oauth/%76erify", "//oauth//verify", "/oauth/x/../verify"):
            assert await at.send(path, asked) in {400, 403, 404}, path


@through_each
async def test_events_arrive_as_they_are_sent(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.token()}"}
        async with at.http.stream("GET", f"{at.url}/mcp/events", headers=headers) as streamed:
            pieces = streamed.aiter_text()
            assert await anext(pieces) == "data: first\n\n"
            at.events.go_on.set()
            assert await anext(pieces) == "data: second\n\n"


@through_each
async def test_a_revoked_grant_is_out_within_a_second_or_as_long_as_its_answer_is_cached(
    proxy: str, tmp_path: Path
) -> None:
    async with site(proxy, tmp_path) as at:
        token = at.token()
        assert (await at.get(token=token)).status_code == 200
        stores = open_stores(at.settings)
        await Revocations(stores.revocations).revoke(Revoked.GRANT, "grant")
        await stores.aclose()
        while (answer := await at.get(token=token)).status_code == 200:
            await anyio.sleep(0.05)
        assert answer.status_code == 401


@through_each
async def test_nobody_gets_the_answer_to_another_token(proxy: str, tmp_path: Path) -> None:
    async with site(proxy, tmp_path) as at:
        for subject in ("alice", "bob", "alice"):
            assert received(await at.get(token=at.token(subject=subject)))["x-seed-oauth-subject"] == subject
        assert (await at.http.get(f"{at.url}/mcp")).status_code == 401


@pytest.mark.real_parts("nginx")
async def test_nginx_asks_once_while_it_may_cache_the_answer(tmp_path: Path) -> None:
    async with site("nginx with its cache", tmp_path) as at:
        token = at.token()
        for _ in range(20):
            assert received(await at.get(token=token))["x-seed-oauth-subject"] == "alice"
        # Twice where the answer expired in between.
        assert await allowed(at) in {1, 2}


@pytest.mark.real_parts("nginx")
async def test_a_token_that_is_about_to_expire_is_not_cached(tmp_path: Path) -> None:
    async with site("nginx with its cache", tmp_path) as at:
        token = at.token(expires_at=int(time()) + 1)
        while (answer := await at.get(token=token)).status_code == 200:
            await anyio.sleep(0.05)
        assert answer.status_code == 401


@pytest.mark.real_parts("nginx")
async def test_a_cache_whose_key_has_no_token_mixes_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """THREATS 45: the answer says that it depends on the token (Vary)."""
    show(monkeypatch, tmp_path, "nginx-cache-location.conf", "$http_authorization ", "")
    async with site("nginx with its cache", tmp_path) as at:
        for subject in ("alice", "bob", "alice"):
            assert received(await at.get(token=at.token(subject=subject)))["x-seed-oauth-subject"] == subject
        assert (await at.http.get(f"{at.url}/mcp")).status_code == 401


def show(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, shown: str, instead: str) -> None:
    """Have one of the configurations say something else."""
    changed = folder / "shown"
    copytree(reverse_proxies.SHOWN, changed)
    text = (changed / name).read_text(encoding="utf-8")
    assert shown in text
    (changed / name).write_text(text.replace(shown, instead), encoding="utf-8")
    monkeypatch.setattr(reverse_proxies, "SHOWN", changed)


async def allowed(at: Site) -> float:
    """How often the door has said that a request may pass."""
    return await FrontDoor(pipeline=at.pipeline).value("oauth_resource_requests_total", result="allowed")


@pytest.mark.real_parts("node")
@pytest.mark.parametrize(("client", "proxy"), WHOLE_PATHS)
async def test_an_sdk_takes_the_whole_path(client: str, proxy: str, tmp_path: Path) -> None:
    """401, discovery, registration, login, a tool call, a refresh, and another call."""
    port, door_port, mcp_port = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    async with oidc_provider(tmp_path, redirect_uris=[f"{url}/oauth/callback"], resource=f"{url}/mcp") as registration:
        environment = {
            **registration.settings,
            "SEED_OAUTH_ISSUER": url,
            "SEED_OAUTH_TRUSTED_PROXIES": "127.0.0.1",
            "SEED_OAUTH_REQUIRED_SCOPES": SCOPE,
        }
        async with (
            mcp_server(tmp_path, f"http://127.0.0.1:{mcp_port}/mcp"),
            serving(tmp_path, environment, port=door_port),
            reverse_proxy(proxy, tmp_path, port, door_port, mcp_port),
            Person(registration.user) as person,
        ):
            assert await whole_path(client_command(client, tmp_path), f"{url}/mcp", person, tmp_path) == TOLD
