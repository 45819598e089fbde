"""The funnel: how far clients get, by a closed list of families."""

from collections import Counter
from collections.abc import Mapping

import anyio
import anyio.lowlevel
import httpx
import pytest

from seed_oauth.clients import Client
from seed_oauth.clients.family import family_of
from seed_oauth.outcomes import ClientFamily
from tests.broker import BrokerDoor, Clock, PlayedHeldResponses, target_of
from tests.cli.test_cli import PATIENCE
from tests.harness import (
    BASIC,
    CALLBACK,
    ISSUER,
    PUBLIC,
    FrontDoor,
    RelayDoor,
    authorization_request,
    code_request,
    json_of,
    query_of,
    refresh_request,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


async def steps(door: FrontDoor) -> dict[tuple[str, str], float]:
    """The steps that were taken, by step and family."""
    taken = {}
    for (name, labels), value in (await door.samples()).items():
        if name == "oauth_flow_steps_total" and value:
            taken[dict(labels)["step"], dict(labels)["client_family"]] = value
    return taken


async def test_each_request_takes_the_steps_of_its_outcome() -> None:
    async with RelayDoor() as door:
        registered = await door.register(client_name="Claude Code", redirect_uris=["http://localhost/callback"])
        client_id = json_of(registered)["client_id"]
        await door.authorize(client_id=client_id, redirect_uri="http://localhost:9/callback")
        await door.authorize(client_id=client_id, redirect_uri="http://localhost:9/callback", response_type="token")
        await door.token(code_request(client_id=client_id, redirect_uri="http://localhost:9/callback"))
        await door.token(refresh_request(client_id=client_id))
        await door.token(refresh_request(client_id=client_id))
        assert await steps(door) == {
            ("registered", "claude"): 1,
            ("requested", "claude"): 2,
            ("redirected", "claude"): 1,
            ("exchanged", "claude"): 1,
            ("refreshed", "claude"): 2,
        }


async def test_each_step_of_the_broker_flow_is_taken_by_the_family_that_registered() -> None:
    async with BrokerDoor() as door:
        registered = json_of(await door.register(client_name="Cursor", redirect_uris=[CALLBACK]))
        client = {"client_id": str(registered["client_id"])}

        page = await door.person.opens(**client)
        assert await steps(door) == {("registered", "cursor"): 1, ("requested", "cursor"): 1}
        await door.person.decides(page, "deny")
        onward = target_of(await door.person.decides(page, remember="on"))
        assert (await steps(door))["redirected", "cursor"] == 1
        state = query_of(onward)["state"]
        await door.person.returns(state=state, error="access_denied")
        returned = await door.person.logs_in(onward)
        assert (await steps(door))["returned", "cursor"] == 1
        code = query_of(returned.headers["location"])["code"]
        tokens = json_of(await door.token(code_request(code=code, **client)))
        await door.token(refresh_request(refresh_token=tokens["refresh_token"], client_id=client["client_id"]))
        await door.person.opens(**client)  # who is remembered is sent on at once
        assert await steps(door) == {
            ("registered", "cursor"): 1,
            ("requested", "cursor"): 2,
            ("consented", "cursor"): 1,
            ("redirected", "cursor"): 2,
            ("returned", "cursor"): 1,
            ("exchanged", "cursor"): 1,
            ("refreshed", "cursor"): 1,
        }


async def test_a_login_whose_client_never_comes_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """THREATS 32: once, however many processes look."""
    monkeypatch.setattr("seed_oauth.flows.held_responses.SWEEP_INTERVAL", 0.0)
    clock, held = Clock(), PlayedHeldResponses()
    async with BrokerDoor(now=clock, held=held) as door, BrokerDoor(now=clock, held=held) as other:
        registered = json_of(await door.register(client_name="Cursor", redirect_uris=[CALLBACK]))
        client_id = str(registered["client_id"])
        codes = [await door.person.goes_through(client_id=client_id) for _ in range(3)]
        await other.person.goes_through()
        await door.token(code_request(code=codes[0], client_id=client_id))
        clock.seconds += 60
        await held.two_more_sweeps()
        assert await abandoned(door, other) == {}, "the code is good to the end of this second"
        clock.seconds += 1.1
        with anyio.fail_after(PATIENCE):
            while await abandoned(door, other) != {"cursor": 2, "other": 1}:
                await anyio.lowlevel.checkpoint()
        assert (await steps(door))["exchanged", "cursor"] == 1


async def abandoned(*doors: FrontDoor) -> Mapping[str, float]:
    """The logins whose clients did not come, by family."""
    counted: Counter[str] = Counter()
    for door in doors:
        counted.update({family: int(n) for (step, family), n in (await steps(door)).items() if step == "abandoned"})
    return counted


async def test_a_sweep_that_fails_is_repeated_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seed_oauth.flows.held_responses.SWEEP_INTERVAL", 0.0)
    clock, held = Clock(), PlayedHeldResponses()
    async with BrokerDoor(now=clock, held=held) as door:
        for times in (1, 2):
            await door.person.goes_through()
            held.failing = {"delete_expired"}
            clock.seconds += 61.1
            await held.two_more_sweeps()
            held.failing = set()
            # Then nothing is left to wait for, until somebody logs in again.
            await anyio.wait_all_tasks_blocked()
            assert await abandoned(door) == {"other": times}


async def test_a_program_that_looks_first_takes_no_step(door: FrontDoor) -> None:
    """FastMCP sends each authorization request itself before it opens the browser, and was counted twice."""
    looks = {"Accept": "*/*", "User-Agent": "python-httpx/0.28.1"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door.app), base_url=ISSUER) as program:
        await program.get("/oauth/authorize", params=authorization_request(), headers=looks)
    assert await steps(door) == {}
    assert await door.value("oauth_authorization_requests_total", result="success") == 1
    for browser in ({"Accept": "text/html,*/*;q=0.8"}, {"Accept": "*/*", "Sec-Fetch-Mode": "navigate"}):
        await door.http.get("/oauth/authorize", params=authorization_request(), headers=browser)
    assert (await steps(door))["requested", "other"] == 2


async def test_what_fails_takes_no_step_but_having_asked(door: FrontDoor) -> None:
    await door.register(redirect_uris=[])
    await door.authorize(client_id="nobody")
    await door.token(code_request(code_verifier=None))
    assert await steps(door) == {("requested", "other"): 1}


@pytest.mark.parametrize(
    ("client_name", "redirect_uri", "family"),
    [
        ("Claude", "https://claude.ai/api/mcp/auth_callback", ClientFamily.CLAUDE),
        ("Anything", "https://claude.com/api/mcp/auth_callback", ClientFamily.CLAUDE),
        ("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect", ClientFamily.CHATGPT),
        ("Codex", "http://127.0.0.1:1455/auth/callback", ClientFamily.CODEX),
        ("Codex by OpenAI", "http://localhost:1455/auth/callback", ClientFamily.CODEX),
        ("Visual Studio Code", "http://127.0.0.1:33418/", ClientFamily.VSCODE),
        ("", "https://vscode.dev/redirect", ClientFamily.VSCODE),
        ("Cursor", "cursor://anysphere.cursor-mcp/oauth/callback", ClientFamily.CURSOR),
        ("MCP Inspector", "http://localhost:6274/oauth/callback", ClientFamily.INSPECTOR),
        ("claudette's \u202e shop", "https://shop.example/", ClientFamily.CLAUDE),
        ("My own", "https://app.example/", ClientFamily.OTHER),
    ],
)
def test_a_family_is_told_by_name_or_redirect_uri(client_name: str, redirect_uri: str, family: ClientFamily) -> None:
    client = Client(client_id="a", issued_at=1, redirect_uris=(redirect_uri,), metadata={"client_name": client_name})
    assert family_of(client) is family


def test_a_client_without_a_name_has_a_family_too() -> None:
    assert family_of(PUBLIC) is family_of(BASIC) is ClientFamily.OTHER
