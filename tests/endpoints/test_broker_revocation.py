"""`/oauth/revoke` in the broker flow: our refresh tokens here, the identity provider's tokens there (PROTOCOL V1)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.responses import PlainTextResponse
from typer.testing import CliRunner

from seed_oauth import Pipeline, Settings, protect
from seed_oauth.cli.main import app as command
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import RevocationOutcome as Row
from seed_oauth.storage.open import open_stores
from tests.broker import IDP, METADATA, BrokerDoor, Clock, PlayedGrants, PlayedMetadata
from tests.cli.test_cli import PATIENCE
from tests.harness import POST as POST_CLIENT
from tests.harness import PUBLIC, SETTINGS, code_request, form_of, increases, json_of, refresh_request, sealer_of

pytestmark = pytest.mark.anyio

POST = {"client_id": "post", "client_secret": "secret of post"}


async def revoke(door: BrokerDoor, token: str, credentials: Mapping[str, str] | None = None) -> httpx.Response:
    form = {"token": token, **(credentials or {"client_id": "public"})}
    return await door.http.post("/oauth/revoke", data=form)


def of_ours(door: BrokerDoor, expires_at: int) -> str:
    token = AccessToken(
        client_id="public",
        resource="https://door.example/mcp",
        scope="",
        expires_at=expires_at,
        subject=None,
        idp_access_token="the idp token",
        grant_id="grant",
        issued_at=door.now(),
    )
    return token.sealed(sealer_of(Settings(**{**SETTINGS, **door.settings})), door.now())


async def refreshes(door: BrokerDoor, refresh_token: str) -> int:
    return (await door.token(refresh_request(refresh_token=refresh_token))).status_code


async def test_a_refresh_token_is_void_here_and_the_one_within_it_there() -> None:
    async with BrokerDoor() as door:
        tokens = await door.login()
        response = await revoke(door, tokens["refresh_token"])
        assert (response.status_code, response.content) == (200, b"")
        sent = door.idp_requests[-1]
        assert str(sent.url) == f"{IDP}/revoke"
        form = form_of(sent)
        assert form == {"token": form["token"], "token_type_hint": "refresh_token"}
        assert form["token"] != tokens["refresh_token"]
        assert await refreshes(door, tokens["refresh_token"]) == 400
        assert await door.value("oauth_idp_requests_total", operation="revocation", outcome="ok") == 1


async def test_a_refresh_token_that_was_used_voids_its_successor_as_well() -> None:
    async with BrokerDoor() as door:
        tokens = await door.login()
        renewed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
        await revoke(door, tokens["refresh_token"])
        assert await refreshes(door, renewed["refresh_token"]) == 400


async def test_a_client_that_forgets_that_it_revoked_its_token_is_no_sign_of_a_theft() -> None:
    async with BrokerDoor() as door:
        token = (await door.login())["refresh_token"]
        await revoke(door, token)
        asked, before = len(door.idp_requests), await door.samples()
        response = await door.token(refresh_request(refresh_token=token))
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="client",endpoint="token",reason="refresh_token_revoked"}': 1
        }
        assert len(door.idp_requests) == asked


async def test_nobody_revokes_the_token_of_another_client() -> None:
    """RFC 7009 §2.1; the answer does not tell whether there is such a token."""
    async with BrokerDoor() as door:
        tokens = await door.login()
        for token in (tokens["refresh_token"], of_ours(door, 2**40)):
            asked = len(door.idp_requests)
            assert (await revoke(door, token, POST)).status_code == 200
            assert len(door.idp_requests) == asked
        assert await refreshes(door, tokens["refresh_token"]) == 200


async def test_an_access_token_of_ours_has_the_one_within_it_revoked() -> None:
    async with BrokerDoor() as door:
        assert (await revoke(door, of_ours(door, 2**40))).status_code == 200
        form = form_of(door.idp_requests[-1])
        assert form == {"token": "the idp token", "token_type_hint": "access_token"}


async def test_any_other_token_is_for_the_identity_provider_to_know() -> None:
    async with BrokerDoor() as door:
        form = {"token": "of the identity provider", "token_type_hint": "access_token", "client_id": "public"}
        assert (await door.http.post("/oauth/revoke", data=form)).status_code == 200
        assert form_of(door.idp_requests[-1]) == {
            "token": "of the identity provider",
            "token_type_hint": "access_token",
        }


async def test_a_hint_that_the_client_did_not_give_is_not_made_up() -> None:
    """RFC 7009 §2.1: the hint is optional."""
    async with BrokerDoor() as door:
        await revoke(door, "of the identity provider")
        assert form_of(door.idp_requests[-1]) == {"token": "of the identity provider"}


async def test_a_grant_stays_revoked_while_others_come_and_go() -> None:
    """The store forgets revocations, but not before the last refresh token of the grant has expired."""
    metadata = PlayedMetadata(replace(METADATA, revocation_endpoint=None))
    async with BrokerDoor(metadata=metadata, settings={"idp_revocation_url": None}) as door:
        revoked, other = (await door.login())["refresh_token"], (await door.login())["refresh_token"]
        await revoke(door, revoked)
        assert await refreshes(door, other) == 200
        assert await refreshes(door, revoked) == 400


async def test_what_has_expired_is_as_good_as_revoked_and_goes_nowhere() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        refresh_token, access_token = (await door.login())["refresh_token"], of_ours(door, 0)
        asked = len(door.idp_requests)
        clock.seconds += 91 * 86_400
        for token in (refresh_token, access_token):
            assert (await revoke(door, token)).status_code == 200
        assert len(door.idp_requests) == asked


async def test_a_refresh_token_is_revoked_here_where_the_identity_provider_cannot() -> None:
    metadata = PlayedMetadata(replace(METADATA, revocation_endpoint=None))
    async with BrokerDoor(metadata=metadata, settings={"idp_revocation_url": None}) as door:
        assert "revocation_endpoint" in json_of(await door.http.get("/.well-known/oauth-authorization-server"))
        token = (await door.login())["refresh_token"]
        asked = len(door.idp_requests)
        assert (await revoke(door, token)).status_code == 200
        assert len(door.idp_requests) == asked
        assert await refreshes(door, token) == 400


async def test_a_store_that_is_down_is_told_and_the_revocation_can_be_tried_again() -> None:
    grants = PlayedGrants()
    async with BrokerDoor(grants=grants) as door:
        token = (await door.login())["refresh_token"]
        grants.failing = {"revoke"}
        asked, before = len(door.idp_requests), await door.samples()
        response = await revoke(door, token)
        assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
        assert response.headers["retry-after"]
        reason = Row.STORE_FAILED.reason
        assert increases(before, await door.samples()) == {
            f'oauth_errors_total{{cause="server",endpoint="revoke",reason="{reason}"}}': 1
        }
        assert len(door.idp_requests) == asked
        grants.failing = set()
        assert (await revoke(door, token)).status_code == 200
        assert await refreshes(door, token) == 400


async def test_an_identity_provider_that_is_down_is_told_and_the_token_is_void_here_already() -> None:
    async with BrokerDoor() as door:
        token = (await door.login())["refresh_token"]
        provider, door.idp = door.idp, lambda _: httpx.Response(503)
        assert (await revoke(door, token)).status_code == 503
        assert await door.error_count(Row.IDP_FAILED) == 1
        door.idp = provider
        assert await refreshes(door, token) == 400
        assert (await revoke(door, token)).status_code == 200


async def test_metadata_that_is_gone_is_told_too() -> None:
    metadata = PlayedMetadata()
    async with BrokerDoor(metadata=metadata) as door:
        token = (await door.login())["refresh_token"]
        metadata.failure = IdentityProviderError(IdentityProviderFailure.TIMEOUT)
        assert (await revoke(door, token)).status_code == 503
        # Here it has ended all the same.
        assert await refreshes(door, token) == 400


# Access ends with the grant.

Tokens = dict[str, Any]
MCP = "https://door.example/mcp"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real_parts("redis"))])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url: str = (
        f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else request.getfixturevalue("empty_redis").url
    )
    return url


@asynccontextmanager
async def door_on(store_url: str, **options: Any) -> AsyncIterator[BrokerDoor]:
    """A door that issues access tokens of its own, and has everything in a store that others share."""
    settings = {"store_url": store_url, "access_tokens": "own"}
    stores = open_stores(Settings(**{**SETTINGS, **settings}))
    for client in (PUBLIC, POST_CLIENT):
        await stores.clients.add(client)
    async with BrokerDoor(settings=settings, clients=stores.clients, **options) as door:
        yield door
    await stores.aclose()


async def login_of_another_client(door: BrokerDoor) -> Tokens:
    code = await door.person.goes_through(client_id="post")
    return json_of(await door.token(code_request(code=code, **POST)))


@asynccontextmanager
async def mcp_servers(door: BrokerDoor, number: int = 3) -> AsyncIterator[list[httpx.AsyncClient]]:
    """MCP servers that follow the revocations in the store, each as if in a process of its own."""
    settings = Settings(**{**SETTINGS, **door.settings})
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(number):
            protected = protect(PlainTextResponse("hello"), settings, pipeline=Pipeline())
            stack.push_async_callback(protected.aclose)
            http = httpx.AsyncClient(transport=httpx.ASGITransport(protected), base_url=MCP)
            clients.append(await stack.enter_async_context(http))
        yield clients


async def admit(servers: list[httpx.AsyncClient], tokens: Tokens) -> list[int]:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return [(await http.get("", headers=headers)).status_code for http in servers]


async def until_refused(servers: list[httpx.AsyncClient], tokens: Tokens) -> None:
    with anyio.fail_after(PATIENCE):
        while await admit(servers, tokens) != [401] * len(servers):
            await anyio.sleep(0.02)


async def revokes_the_refresh_token(door: BrokerDoor, tokens: Tokens) -> None:
    assert (await revoke(door, tokens["refresh_token"])).status_code == 200


async def revokes_the_access_token(door: BrokerDoor, tokens: Tokens) -> None:
    assert (await revoke(door, tokens["access_token"])).status_code == 200


async def uses_a_refresh_token_twice(door: BrokerDoor, tokens: Tokens) -> None:
    first = tokens["refresh_token"]
    second = json_of(await door.token(refresh_request(refresh_token=first)))["refresh_token"]
    assert await refreshes(door, second) == 200
    assert await refreshes(door, first) == 400  # not the last one, so the grace does not cover it


async def operator_revokes_the_client(door: BrokerDoor, _: Tokens) -> None:
    runner = CliRunner(env={"SEED_OAUTH_STORE_URL": door.settings["store_url"]})
    done = await anyio.to_thread.run_sync(lambda: runner.invoke(command, ["clients", "revoke", "--yes", "public"]))
    assert done.exit_code == 0, done.output


Ends = Callable[[BrokerDoor, Tokens], Awaitable[None]]
ENDS: list[Ends] = [
    revokes_the_refresh_token,
    revokes_the_access_token,
    uses_a_refresh_token_twice,
    operator_revokes_the_client,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_whatever_ends_a_grant_ends_access_in_every_process(store_url: str, end: Ends) -> None:
    async with door_on(store_url) as door, mcp_servers(door) as servers:
        other, tokens = await login_of_another_client(door), await door.login()
        assert await admit(servers, tokens) == await admit(servers, other) == [200, 200, 200]
        await end(door, tokens)
        await until_refused(servers, tokens)
        assert await admit(servers, other) == [200, 200, 200]
        # Also in a process that starts now.
        async with mcp_servers(door, 1) as started:
            assert await admit(started, tokens) == [401]
            assert await admit(started, other) == [200]


async def test_an_access_token_that_is_revoked_takes_earlier_ones_with_it_but_not_the_refresh_token(
    store_url: str,
) -> None:
    """RFC 7009 §2.1 leaves the refresh token to the server: a client that wants it gone says so."""
    clock = Clock()
    async with door_on(store_url, now=clock) as door, mcp_servers(door, 1) as servers:
        first = await door.login()
        clock.seconds += 1
        second = json_of(await door.token(refresh_request(refresh_token=first["refresh_token"])))
        await revokes_the_access_token(door, second)
        await until_refused(servers, second)
        assert await admit(servers, first) == [401]
        clock.seconds += 1
        third = json_of(await door.token(refresh_request(refresh_token=second["refresh_token"])))
        assert await admit(servers, third) == [200]


async def test_access_ends_also_where_the_identity_provider_is_down(store_url: str) -> None:
    metadata = PlayedMetadata()
    async with door_on(store_url, metadata=metadata) as door, mcp_servers(door) as servers:
        tokens = await door.login()
        assert await admit(servers, tokens) == [200, 200, 200]
        metadata.failure = IdentityProviderError(IdentityProviderFailure.TIMEOUT)
        assert (await revoke(door, tokens["refresh_token"])).status_code == 503
        await until_refused(servers, tokens)


async def test_an_access_token_of_another_client_is_not_revoked(store_url: str) -> None:
    async with door_on(store_url) as door, mcp_servers(door) as servers:
        tokens = await door.login()
        assert (await revoke(door, tokens["access_token"], POST)).status_code == 200
        async with mcp_servers(door, 1) as started:
            assert await admit([*servers, *started], tokens) == [200] * 4


async def test_a_reuse_revokes_the_refresh_token_at_the_identity_provider_and_nobody_waits_for_that() -> None:
    asked, never = anyio.Event(), anyio.Event()
    revoked: list[dict[str, str]] = []
    async with BrokerDoor() as door:
        provider = door.idp

        async def slow_to_revoke(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/revoke":
                revoked.append(form_of(request))
                asked.set()
                await never.wait()
            answer = provider(request)
            return answer if isinstance(answer, httpx.Response) else await answer

        tokens = await door.login()
        at_idp = [form_of(request) for request in door.idp_requests if request.url.path == "/token"]
        door.idp = slow_to_revoke
        await uses_a_refresh_token_twice(door, tokens)
        with anyio.fail_after(PATIENCE):
            await asked.wait()
        assert at_idp
        assert [form["token_type_hint"] for form in revoked] == ["refresh_token"]
        # Told once: whoever comes later finds that it is revoked.
        assert await refreshes(door, tokens["refresh_token"]) == 400
        assert len(revoked) == 1


async def test_a_reuse_is_refused_alike_where_the_identity_provider_cannot_revoke() -> None:
    metadata = PlayedMetadata(replace(METADATA, revocation_endpoint=None))
    async with BrokerDoor(metadata=metadata, settings={"idp_revocation_url": None}) as door:
        await uses_a_refresh_token_twice(door, await door.login())
        asked = len(door.idp_requests)
    assert len(door.idp_requests) == asked
