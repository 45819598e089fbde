"""The whole funnel, from the first 401 to the first accepted request, at the reverse proxy and at `protect`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from seed_oauth import Pipeline, Settings, protect
from seed_oauth.clients.family import family_of_user_agent
from seed_oauth.outcomes import ClientFamily
from tests.broker import IDP, AtProvider, BrokerDoor
from tests.cli.test_cli import free_port
from tests.harness import CALLBACK, ISSUER, SETTINGS, FrontDoor, code_request, json_of, refresh_request
from tests.http_client.test_transport import listening
from tests.resource_server.test_protect import SERVER
from tests.resource_server.test_reverse_proxy import Recorder

pytestmark = pytest.mark.anyio

CURSOR = {"User-Agent": "Cursor/1.7.28 (darwin arm64)"}
RESOURCE_METADATA = "/.well-known/oauth-protected-resource/mcp"
SERVER_METADATA = "/.well-known/oauth-authorization-server"
OF_THE_LOGIN = {"registered": 1, "requested": 1, "consented": 1, "redirected": 1, "returned": 1, "exchanged": 1}
BEFORE_THE_LOGIN = {"challenged": 1, "discovered_resource": 1, "discovered_server": 1}
BEFORE_AND_AFTER = {**BEFORE_THE_LOGIN, "used": 1}


async def steps(*pipelines: Pipeline) -> dict[tuple[str, str], float]:
    """The steps that were counted, by step and family."""
    taken: dict[tuple[str, str], float] = {}
    for pipeline in pipelines:
        for (name, labels), value in (await FrontDoor(pipeline=pipeline).samples()).items():
            if name == "oauth_flow_steps_total" and value:
                key = dict(labels)["step"], dict(labels)["client_family"]
                taken[key] = taken.get(key, 0) + value
    return taken


def of_cursor(taken: Mapping[str, float]) -> dict[tuple[str, str], float]:
    return {(step, "cursor"): times for step, times in taken.items()}


@dataclass
class Site:
    """An authorization server, and a resource that its tokens are for."""

    door: BrokerDoor
    mcp: httpx.AsyncClient
    pipelines: tuple[Pipeline, ...]

    async def steps(self) -> dict[tuple[str, str], float]:
        return await steps(*self.pipelines)

    async def call(self, tokens: Mapping[str, Any], method: str = "POST") -> int:
        headers = {**CURSOR, "Authorization": f"Bearer {tokens['access_token']}"}
        return (await self.mcp.request(method, "/mcp", headers=headers)).status_code

    async def login(self, client_id: str) -> dict[str, Any]:
        code = await self.door.person.goes_through(client_id=client_id)
        return json_of(await self.door.token(code_request(code=code, client_id=client_id)))

    async def refreshed(self, tokens: Mapping[str, Any], client_id: str) -> dict[str, Any]:
        request = refresh_request(refresh_token=tokens["refresh_token"], client_id=client_id)
        return json_of(await self.door.token(request))

    async def registered(self) -> str:
        response = await self.door.register(client_name="Cursor", redirect_uris=[CALLBACK])
        return str(json_of(response)["client_id"])


def settings(folder: Path, access_tokens: str, **more: Any) -> dict[str, Any]:
    store = f"sqlite:///{folder}/store.db"
    return {"access_tokens": access_tokens, "idp_issuer": IDP, "idp_preset": "none", "store_url": store, **more}


@asynccontextmanager
async def proxied(folder: Path, access_tokens: str) -> AsyncIterator[Site]:
    async with listening(Recorder()) as port:
        behind = settings(folder, access_tokens, mcp_server=f"http://127.0.0.1:{port}/mcp")
        async with BrokerDoor(settings=behind) as door, door.client(headers=CURSOR) as client:
            yield Site(door, client, (door.pipeline,))


@asynccontextmanager
async def protected(folder: Path, access_tokens: str) -> AsyncIterator[Site]:
    """In another process, with the same store."""
    shared = settings(folder, access_tokens)
    async with BrokerDoor(settings=shared) as door:
        pipeline = Pipeline()
        all_settings = Settings(**{**SETTINGS, **shared})
        app = protect(SERVER, all_settings, pipeline=pipeline, transport=AtProvider(door.provider))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as client:
            yield Site(door, client, (door.pipeline, pipeline))
        await app.aclose()


SITES = {"proxy": proxied, "protect": protected}


@pytest.fixture(params=["proxy", "protect"])
def resource(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["own", "idp"])
async def site(request: pytest.FixtureRequest, resource: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with SITES[resource](tmp_path, request.param) as opened:
        yield opened


async def test_each_step_from_the_first_401_to_the_first_call_is_counted_once(site: Site) -> None:
    door = site.door
    challenge = await site.mcp.post("/mcp", headers=CURSOR)
    assert f'resource_metadata="{ISSUER}{RESOURCE_METADATA}"' in challenge.headers["www-authenticate"]
    assert await site.steps() == of_cursor({"challenged": 1})
    await site.mcp.get(RESOURCE_METADATA, headers=CURSOR)
    await door.http.get(SERVER_METADATA, headers=CURSOR)
    assert await site.steps() == of_cursor(BEFORE_THE_LOGIN)
    client_id = await site.registered()
    tokens = await site.login(client_id)
    assert await site.steps() == of_cursor({**BEFORE_THE_LOGIN, **OF_THE_LOGIN})
    for method in ("POST", "GET", "POST"):
        assert await site.call(tokens, method) == 200
        assert await site.steps() == of_cursor({**BEFORE_AND_AFTER, **OF_THE_LOGIN})
    refreshed = await site.refreshed(tokens, client_id)
    assert await site.call(refreshed) == await site.call(tokens) == 200
    assert await site.steps() == of_cursor({**BEFORE_AND_AFTER, **OF_THE_LOGIN, "refreshed": 1})


async def test_each_login_is_used_once_also_of_the_same_user_with_the_same_client(site: Site) -> None:
    client_id = await site.registered()
    first, second, unused = [await site.login(client_id) for _ in range(3)]
    for tokens in (first, second, first, second):
        assert await site.call(tokens) == 200
    taken = await site.steps()
    assert (taken["exchanged", "cursor"], taken["used", "cursor"]) == (3, 2)
    assert await site.call(await site.refreshed(unused, client_id)) == 200
    assert (await site.steps())["used", "cursor"] == 3, "a token that was refreshed first is one of the same grant"


async def test_a_login_is_used_once_however_many_processes_serve_it_and_start_again(tmp_path: Path) -> None:
    async with proxied(tmp_path, "own") as site:
        tokens = await site.login(await site.registered())
        assert await site.call(tokens) == 200
        for elsewhere in (proxied, protected):
            async with elsewhere(tmp_path, "own") as other:
                assert await other.call(tokens) == 200
                assert await other.steps() == {}
        assert (await site.steps())["used", "cursor"] == 1


async def test_the_family_is_that_of_the_client_whatever_the_user_agent_says(site: Site) -> None:
    tokens = await site.login(await site.registered())
    headers = {"User-Agent": "claude-code/2.1", "Authorization": f"Bearer {tokens['access_token']}"}
    await site.mcp.post("/mcp", headers=headers)
    assert ("used", "cursor") in await site.steps()
    assert ("used", "claude") not in await site.steps()


async def test_what_does_not_get_further_is_no_step(site: Site) -> None:
    tokens = await site.login(await site.registered())
    before = await site.steps()
    for method in ("HEAD", "OPTIONS"):
        for client, path in ((site.mcp, "/mcp"), (site.mcp, RESOURCE_METADATA), (site.door.http, SERVER_METADATA)):
            await client.request(method, path, headers=CURSOR)
        # A request that is not counted must not take the step away from the one that is.
        await site.call(tokens, method)
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
    await site.mcp.options(RESOURCE_METADATA, headers=preflight)
    for path in (RESOURCE_METADATA, SERVER_METADATA):
        assert (await site.door.http.post(path)).status_code == 405
    assert (await site.door.http.get("/.well-known/oauth-protected-resource/elsewhere")).status_code == 404
    assert await site.call({"access_token": "no-token"}) == 401
    assert await site.steps() == before
    assert await site.call(tokens) == 200
    assert (await site.steps())["used", "cursor"] == 1


@pytest.mark.parametrize("path", [RESOURCE_METADATA, SERVER_METADATA])
async def test_a_conditional_request_is_answered_in_full_and_counted_as_any_other(path: str, tmp_path: Path) -> None:
    """There is nothing to revalidate: whoever has a fresh copy does not ask, and is not counted."""
    async with proxied(tmp_path, "own") as site:
        conditions = {"If-None-Match": "*", "If-Modified-Since": "Sat, 28 Nov 2099 00:00:00 GMT"}
        response = await site.mcp.get(path, headers=conditions)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "public, max-age=300"
        assert list((await site.steps()).values()) == [1]


async def test_a_request_that_the_mcp_server_does_not_answer_is_not_the_first_use(tmp_path: Path) -> None:
    down = settings(tmp_path, "own", mcp_server=f"http://127.0.0.1:{free_port()}/mcp")
    async with BrokerDoor(settings=down) as door, door.client() as client:
        site = Site(door, client, (door.pipeline,))
        tokens = await site.login(await site.registered())
        assert await site.call(tokens) == 502
        assert ("used", "cursor") not in await site.steps()
    async with proxied(tmp_path, "own") as site:
        assert await site.call(tokens) == 200
        assert await site.steps() == of_cursor({"used": 1})


async def test_a_grant_that_is_revoked_is_not_used(tmp_path: Path) -> None:
    async with proxied(tmp_path, "own") as site:
        client_id = await site.registered()
        tokens = await site.login(client_id)
        await site.door.http.post("/oauth/revoke", data={"token": tokens["refresh_token"], "client_id": client_id})
        assert await site.call(tokens) == 401
        assert not {"used", "challenged"} & {step for step, _ in await site.steps()}


async def series(site: Site) -> list[frozenset[tuple[str, str]]]:
    return [labels for name, labels in await site.door.samples() if name == "oauth_flow_steps_total"]


async def test_no_user_agent_makes_a_series(tmp_path: Path) -> None:
    async with proxied(tmp_path, "own") as site:
        before = await series(site)
        for number in range(200):
            strange = {"User-Agent": f"{'x' * number}/{number}\x7f Cursor"}
            await site.mcp.post("/mcp", headers=strange)
            await site.mcp.get(RESOURCE_METADATA, headers=strange)
        assert await series(site) == before
        assert await site.steps() == of_cursor({"challenged": 200, "discovered_resource": 200})


@pytest.mark.parametrize(
    ("user_agent", "family"),
    [
        ("Claude-User", ClientFamily.CLAUDE),
        ("claude-code/2.1.37 (cli)", ClientFamily.CLAUDE),
        ("openai-mcp/1.0.0 (Responses API)", ClientFamily.CHATGPT),
        ("codex-mcp-client/0.151.0", ClientFamily.CODEX),
        ("Cursor/1.7.28 (darwin arm64)", ClientFamily.CURSOR),
        ("Visual Studio Code/1.107.0", ClientFamily.VSCODE),
        ("mcp-inspector/0.17", ClientFamily.INSPECTOR),
        ("node", ClientFamily.OTHER),
        ("python-httpx/0.28.1", ClientFamily.OTHER),
        ("x" * 300 + "Cursor", ClientFamily.OTHER),
        ("", ClientFamily.OTHER),
        (None, ClientFamily.OTHER),
    ],
)
def test_before_there_is_a_client_the_family_is_told_by_user_agent(user_agent: str, family: ClientFamily) -> None:
    assert family_of_user_agent(user_agent) is family
