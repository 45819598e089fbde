"""What is logged, and how often."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from seed_oauth.cli.demo.tokens import SUBJECT
from tests.broker import BrokerDoor
from tests.cli.test_cli import free_port
from tests.harness import (
    CODE_VERIFIER,
    PUBLIC,
    BrokenStore,
    FrontDoor,
    RelayDoor,
    authorization_request,
    code_request,
    json_of,
    query_of,
    refresh_request,
)
from tests.test_secrets import logging_as


def tell(logger: str, at: float) -> None:
    record = logging.LogRecord(logger, logging.WARNING, __file__, 1, f"no answer at {at:g}", None, None)
    record.created = at
    logging.getLogger(logger).handle(record)


def test_a_collector_that_is_gone_is_told_once_a_minute_and_anything_else_always(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_as("json"):
        for at in (100, 110, 159, 161, 200, 222):
            tell("opentelemetry.exporter.otlp", at)
        for at in (100, 101):
            tell("uvicorn.error", at)
    told = capsys.readouterr().out
    assert [at for at in (100, 110, 159, 161, 200, 222) if f"no answer at {at}" in told] == [100, 161, 222]
    assert told.count("no answer at 10") == 3


def lines_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def logged(capsys: pytest.CaptureFixture[str], work: Awaitable[object]) -> list[dict[str, Any]]:
    """The lines that are logged meanwhile, but for those of the start."""
    with logging_as("json"):
        capsys.readouterr()
        await work
        return lines_in(capsys.readouterr().out)


@pytest.mark.anyio
async def test_all_lines_of_a_login_have_its_client_and_its_flow_and_its_user_once_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def login() -> None:
        async with BrokerDoor(settings={"idp_scopes": ("openid",)}) as door:
            tokens = await door.login()
            refreshed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
            form = {"token": refreshed["refresh_token"], "client_id": PUBLIC.client_id}
            await door.http.post("/oauth/revoke", data=form)

    requests = [line for line in await logged(capsys, login()) if line["event"] == "request"]
    assert [line["endpoint"] for line in requests] == ["authorize", "consent", "callback", "token", "token", "revoke"]
    assert {line["client_id"] for line in requests} == {PUBLIC.client_id}
    (flow_id,) = {line["flow_id"] for line in requests}
    assert len(flow_id) == 12
    (subject,) = {line["subject"] for line in requests[3:]}
    assert SUBJECT not in subject


@pytest.mark.anyio
async def test_the_line_of_a_request_to_the_mcp_server_has_the_client_flow_and_user_of_its_login(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nowhere = {"mcp_server": f"http://127.0.0.1:{free_port()}/mcp", "access_tokens": "own"}

    async def call() -> None:
        async with BrokerDoor(settings={"idp_scopes": ("openid",), **nowhere}) as door:
            token = (await door.login())["access_token"]
            await door.http.post("/mcp", headers={"Authorization": f"Bearer {token}"})

    *_, redeemed, called = [line for line in await logged(capsys, call()) if line["event"] == "request"]
    assert called["endpoint"] == "resource"
    for name in ("client_id", "flow_id", "subject"):
        assert called[name] == redeemed[name]


@pytest.mark.anyio
async def test_a_login_in_the_relay_flow_has_a_flow_up_to_its_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    async def login() -> None:
        async with RelayDoor() as door:
            await door.authorize()
            await door.token(code_request())

    first, second = [line for line in await logged(capsys, login()) if line["event"] == "request"]
    assert first["flow_id"] == second["flow_id"]


@pytest.mark.anyio
async def test_a_persons_error_page_shows_the_flow_of_the_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    pages: list[httpx.Response] = []

    async def fail() -> None:
        async with BrokerDoor() as door:
            asked = await door.person.opens()
            pages.append(await door.somebody().decides(asked))
            pages.append(await door.person.opens(client_id="nobody", code_challenge=None))

    first, *_, last = [line for line in await logged(capsys, fail()) if line["event"] == "request"]
    assert f"login <code>{first['flow_id']}</code>" in pages[0].text
    assert "flow_id" not in last
    assert "login <code>" not in pages[1].text


@pytest.mark.anyio
async def test_two_logins_of_one_user_have_two_flows(capsys: pytest.CaptureFixture[str]) -> None:
    async def logins() -> None:
        async with BrokerDoor() as door:
            await door.authorize()
            await door.authorize(code_challenge="a" * 43)

    first, second = [line for line in await logged(capsys, logins()) if line["event"] == "request"]
    assert first["flow_id"] != second["flow_id"]


async def unknown_client(door: FrontDoor) -> httpx.Response:
    return await door.authorize(client_id="nobody")


async def broken(door: FrontDoor) -> httpx.Response:
    return await door.token(code_request(client_id="nobody"))


@pytest.mark.anyio
@pytest.mark.parametrize("step", [unknown_client, broken])
async def test_lines_of_requests_that_fail_have_them_too(
    step: Callable[[FrontDoor], Awaitable[httpx.Response]], capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        async with FrontDoor(clients=BrokenStore(ZeroDivisionError())) as door:
            response = await step(door)
            assert response.status_code == 500

    lines = [line for line in await logged(capsys, fail()) if line.get("endpoint")]
    assert [line["event"] for line in lines] == ["unexpected", "request"]
    assert {line["client_id"] for line in lines} == {"nobody"}
    assert len({line["correlation_id"] for line in lines}) == 1


@pytest.mark.anyio
async def test_a_request_has_nothing_of_the_one_before_it_in_the_same_task(capsys: pytest.CaptureFixture[str]) -> None:
    async def two() -> None:
        async with FrontDoor() as door:
            await door.receive("GET", "authorize", b"client_id=public")
            await door.receive("GET", "authorize")

    first, second = [line for line in await logged(capsys, two()) if line["event"] == "request"]
    assert (first["client_id"], "client_id" in second) == ("public", False)


@pytest.mark.anyio
@pytest.mark.parametrize("client_id", ["a b", "\u202e", "a" * 257, "\x1b[31m"])
async def test_a_client_id_that_could_disturb_a_log_is_not_in_it(
    client_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask() -> None:
        async with FrontDoor() as door:
            await door.http.get("/oauth/authorize", params=authorization_request(client_id=client_id))

    (line,) = [line for line in await logged(capsys, ask()) if line["event"] == "request"]
    assert "client_id" not in line


@pytest.mark.anyio
async def test_a_flow_id_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """It is derived from what the browser's URL has, and is too short to be anything else."""

    async def login() -> None:
        async with BrokerDoor() as door:
            await door.login()

    text = json.dumps(await logged(capsys, login()))
    assert CODE_VERIFIER not in text
    assert query_of(f"?{httpx.QueryParams(authorization_request())}")["code_challenge"] not in text
