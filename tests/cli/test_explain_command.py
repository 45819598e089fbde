"""`seed-oauth explain`: the log of one login is told in plain words, with where it ended and who has to act."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from seed_oauth.cli.explain.log import LONGEST_LINE
from seed_oauth.cli.main import app
from seed_oauth.outcomes import CallbackOutcome
from seed_oauth.outcomes.remedies import REMEDIES
from tests.broker import BrokerDoor
from tests.docs.pages import DOCS, block, expect
from tests.harness import code_request, refresh_request
from tests.http_client.test_transport import answering, listening
from tests.test_secrets import logging_as

pytestmark = pytest.mark.anyio

Login = Callable[[BrokerDoor], Awaitable[object]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def refused(_: httpx.Request) -> httpx.Response:
    return httpx.Response(401, json={"error": "invalid_client"})


async def log_of(
    login: Login, capsys: pytest.CaptureFixture[str], door: BrokerDoor | None = None, log_format: str = "json"
) -> str:
    """What the server logs while somebody logs in."""
    with logging_as(log_format):
        capsys.readouterr()
        async with door or BrokerDoor() as opened:
            await login(opened)
        return capsys.readouterr().out


def explain(identifier: str, log: str, *options: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["explain", *options, "--", identifier], input=log)


def told(log: str, identifier: str | None = None) -> str:
    """The story, by default of the login whose line is the last."""
    done = explain(identifier or last(log)["flow_id"], log)
    assert done.exit_code == 0, done.output
    return done.stdout


def lines_in(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


def last(log: str) -> dict[str, Any]:
    return lines_in(log)[-1]


async def asks(door: BrokerDoor) -> None:
    await door.person.opens()


async def approves(door: BrokerDoor) -> None:
    await door.person.reaches_idp()


async def denies(door: BrokerDoor) -> None:
    await door.person.decides(await door.person.opens(), "deny")


async def logs_in(door: BrokerDoor) -> None:
    await door.person.logs_in(await door.person.reaches_idp())


async def gets_tokens(door: BrokerDoor) -> None:
    await door.login()


async def refreshes(door: BrokerDoor) -> None:
    tokens = await door.login()
    await door.token(refresh_request(refresh_token=tokens["refresh_token"]))


async def uses_the_code_twice(door: BrokerDoor) -> None:
    code = await door.person.goes_through()
    for _ in range(2):
        await door.token(code_request(code=code))


@pytest.mark.parametrize(
    ("login", "steps", "ending"),
    [
        (asks, 1, "The user has not answered the consent page."),
        (approves, 2, "No answer of the identity provider has arrived here"),
        (logs_in, 3, "The client has not redeemed its code"),
        (
            gets_tokens,
            4,
            "The client has its tokens, and no request with them is in this log: it may look connected and do nothing.",
        ),
        (refreshes, 5, "The login is complete, and the client uses its tokens."),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_login_that_goes_no_further_is_told_up_to_where_it_waits(
    login: Login, steps: int, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    story = told(await log_of(login, capsys))
    assert story.count("✓") == steps
    assert ending in story
    assert "✗" not in story
    assert "Who has to act" not in story


async def test_requests_to_the_mcp_server_are_counted_and_complete_the_login(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def uses(door: BrokerDoor) -> None:
        headers = {"Authorization": f"Bearer {(await door.login())['access_token']}"}
        for _ in range(2):
            await door.http.get("/mcp", headers=headers)

    async with listening(answering(OK)) as port:
        settings = {"mcp_server": f"http://127.0.0.1:{port}/mcp", "access_tokens": "own"}
        log = await log_of(uses, capsys, BrokerDoor(settings=settings))
    story = told(log)
    assert "✓ A request to the MCP server was allowed. (2 times)" in story
    assert "The login is complete, and the client uses its tokens." in story


async def test_a_failure_is_told_with_who_has_to_act_and_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    story = told(await log_of(logs_in, capsys, BrokerDoor(idp=refused)))
    cause, remedy = REMEDIES[CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS]
    assert (
        "✗ The browser came back from the identity provider, and was answered: the identity provider refused" in story
    )
    assert "status 401, error invalid_client" in story
    for text in (
        "It ended there: idp_refused_our_credentials.",
        "Who has to act: You, the operator of this server.",
        f"Often the cause: {cause}",
        f"What helps: {remedy}",
        "When a login fails, callback: idp_refused_our_credentials",
    ):
        assert text in story


@pytest.mark.parametrize(
    ("login", "who"), [(denies, "The user"), (uses_the_code_twice, "The client")], ids=["user", "client"]
)
async def test_users_and_clients_are_named_where_it_is_up_to_them(
    login: Login, who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    story = told(await log_of(login, capsys))
    assert f"Who has to act: {who}" in story
    assert "What helps" not in story


async def test_every_name_of_a_login_leads_to_the_same_story(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(gets_tokens, capsys)
    line = last(log)
    story = told(log)
    assert told(log, line["correlation_id"]) == story
    assert told(log, line["flow_id"] + "the-rest-of-a-grant-id") == story


async def test_a_trace_leads_to_the_story_of_its_login(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(gets_tokens, capsys)
    story, trace_id = told(log), "5b" * 16
    *before, line = lines_in(log)
    # The trace may have begun with a request that could not say which login it belonged to.
    unknown = {**line, "flow_id": None, "trace_id": trace_id}
    traced = [unknown, *before, {**line, "trace_id": trace_id}]
    assert told("\n".join(map(json.dumps, traced)), trace_id) == story
    assert "exchanged its code for tokens" in told(json.dumps(unknown), trace_id)


async def test_a_request_of_no_login_is_told_by_its_correlation_id(capsys: pytest.CaptureFixture[str]) -> None:
    async def comes_back_from_nowhere(door: BrokerDoor) -> None:
        await door.person.returns(state="sealed-by-another-replica", code="x")

    log = await log_of(comes_back_from_nowhere, capsys)
    story = told(log, last(log)["correlation_id"])
    assert "this login did not begin here" in story
    assert REMEDIES[CallbackOutcome.BAD_STATE].cause in story


@pytest.mark.parametrize(
    "prefix",
    ["", "Nov 28 03:14:56 host seed-oauth[812]: ", "seed-oauth-1  | ", "[pod/seed-oauth-5d/seed-oauth] ", "é 2 "],
    ids=["plain", "journald", "compose", "kubectl", "some other"],
)
async def test_other_lines_and_what_a_log_driver_puts_before_do_not_disturb(
    prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = await log_of(gets_tokens, capsys)
    foreign = {**last(log), "endpoint": "token"}
    noise = [
        *(json.dumps({**foreign, **odd}) for odd in ({"timestamp": "yesterday"}, {"timestamp": "2026-11-28T09:00"})),
        json.dumps({**foreign, "endpoint": None}),
    ]
    noise += ["", "{", "[]", '{"event": "request"}', '{"event": 1}', "x" * LONGEST_LINE + "{}", '{"a": {"b"']
    mixed = "\n".join(prefix + line for line in [*noise, *log.splitlines(), *noise])
    assert told(mixed, last(log)["flow_id"]) == told(log)


async def test_the_logs_of_several_servers_can_be_put_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(gets_tokens, capsys)
    assert told("\n".join(reversed(log.splitlines())), last(log)["flow_id"]) == told(log)


async def test_a_file_is_read_although_it_is_not_all_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(gets_tokens, capsys)
    (tmp_path / "log").write_bytes(b"\xff\xfe\n" + log.encode())
    done = CliRunner().invoke(app, ["explain", last(log)["flow_id"], str(tmp_path / "log")])
    assert "exchanged its code for tokens" in done.stdout


async def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(logs_in, capsys, BrokerDoor(idp=refused))
    story = json.loads(explain(last(log)["flow_id"], log, "--json").stdout)
    assert [step["failed"] for step in story["steps"]] == [False, False, True]
    assert story["heading"] == "callback: idp_refused_our_credentials"
    assert story["remedy"] == REMEDIES[CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS]._asdict()


async def test_a_row_of_another_version_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(asks, capsys)
    story = told(log.replace("consent_asked", "asked_somehow"), last(log)["flow_id"])
    assert "The client asked for a login, and was answered: asked_somehow." in story
    assert "It ended there: asked_somehow." in story


async def test_what_a_client_has_put_into_the_log_is_printed_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    """THREATS 10."""
    log = await log_of(asks, capsys)
    hostile = json.dumps(
        {**last(log), "client_id": "\x1b[31m[red]\u202e", "detail": "\x9b31m\x7f\x1b]0;x\x07", "outcome": "?"}
    )
    for text in (told(hostile, last(log)["flow_id"]), explain(last(log)["flow_id"], hostile, "--json").stdout):
        assert all(character.isprintable() or character == "\n" for character in text)


async def test_the_error_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    log = await log_of(gets_tokens, capsys)
    for identifier, given_log, why in (
        ("000000000000", log, "none of the 4 lines about requests is of 000000000000"),
        ("000000000000", await log_of(asks, capsys, log_format="console"), "SEED_OAUTH_LOG_FORMAT=json"),
        ("../../etc", log, "flow_id, correlation_id, trace_id or grant_id"),
    ):
        done = explain(identifier, given_log)
        assert done.exit_code == 1
        assert why in done.stderr


@given(st.text())
def test_no_log_makes_it_fail(log: str) -> None:
    assert explain("0" * 12, log).exit_code == 1


async def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    story = told(await log_of(logs_in, capsys, BrokerDoor(idp=refused)))
    for pattern, example in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-28 09:12:41"),
        (r"\+\d+\.\d s", "+0.1 s"),
    ):
        story = re.sub(pattern, example, story)
    page = DOCS / "how-to/explain-a-login.md"
    text = page.read_text(encoding="utf-8")
    expect(page, text.replace(block(text, "the story"), story))
