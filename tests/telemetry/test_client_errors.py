"""Which family of clients breaks, and where: a counter and the log lines."""

import json

import pytest

from seed_oauth.outcomes import ClientFamily
from seed_oauth.telemetry.contract import CLIENT_ERRORS
from tests.broker import BrokerDoor
from tests.harness import FrontDoor, RelayDoor, code_request
from tests.test_secrets import logging_as

pytestmark = pytest.mark.anyio

CURSOR = {"User-Agent": "Cursor/1.7.28 (darwin arm64)"}
IMPOSTOR = {"User-Agent": "claude-" + "x" * 5000}


async def errors(door: FrontDoor) -> dict[tuple[str, str], float]:
    """The errors that were counted, by family and endpoint."""
    return {
        (dict(labels)["client_family"], dict(labels)["endpoint"]): value
        for (name, labels), value in (await door.samples()).items()
        if name == CLIENT_ERRORS.name and value
    }


async def test_a_failed_request_counts_for_the_family_of_its_client() -> None:
    async with BrokerDoor() as door:
        registered = await door.register(client_name="Cursor", redirect_uris=["https://app.example/callback"])
        client_id = registered.json()["client_id"]
        await door.token(code_request(client_id=client_id, code="made up"))
        assert await errors(door) == {("cursor", "token"): 1}


async def test_a_client_that_is_not_known_is_told_by_its_user_agent() -> None:
    async with RelayDoor() as door:
        for headers in (CURSOR, IMPOSTOR, {}):
            await door.http.post("/oauth/token", data=code_request(client_id="nobody"), headers=headers)
        assert await errors(door) == {(family, "token"): 1 for family in ("cursor", "claude", "other")}


async def test_a_request_that_succeeds_or_begins_a_login_is_no_error() -> None:
    async with BrokerDoor() as door:
        await door.login()
        await door.http.get("/mcp", headers=CURSOR)
        assert await errors(door) == {}


async def test_no_client_can_make_a_series() -> None:
    async with RelayDoor() as door:
        before = {name for name in await door.samples() if name[0] == CLIENT_ERRORS.name}
        for number in range(50):
            await door.http.post("/oauth/token", data={}, headers={"User-Agent": f"agent-{number}"})
        assert {name for name in await door.samples() if name[0] == CLIENT_ERRORS.name} == before
        assert len(CLIENT_ERRORS.known) == len(ClientFamily) * 10


async def test_each_log_line_of_a_request_names_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("json"):
        async with RelayDoor() as door:
            capsys.readouterr()
            await door.http.post("/oauth/token", data={}, headers=CURSOR)
            await door.authorize()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["client_family"] for line in lines if line["event"] == "request"] == ["cursor", "other"]
