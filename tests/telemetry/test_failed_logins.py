"""The latest failed logins: which are kept, what is known of them, and that those of workers arrive."""

import os

import httpx
import pytest

from seed_oauth import Pipeline, Settings, create_app
from seed_oauth.outcomes import Cause, ClientFamily
from seed_oauth.telemetry import ForwardingPipeline
from seed_oauth.telemetry.failed_logins import MOST_PER_CAUSE, FailedLogin, FailedLogins
from tests.broker import BrokerDoor
from tests.harness import SETTINGS, FrontDoor, authorization_request, code_request, query_of

pytestmark = pytest.mark.anyio


def failed(at: float, cause: Cause = Cause.CLIENT) -> FailedLogin:
    return FailedLogin(at, "token", "bad_code", cause, ClientFamily.OTHER, f"{int(at):016x}", "")


def test_requests_of_strangers_do_not_displace_failures_of_the_server() -> None:
    kept = FailedLogins()
    kept.add(failed(1, Cause.SERVER))
    for at in range(2, 1000):
        kept.add(failed(at))
    latest = kept.latest()
    assert [one.at for one in latest] == [*range(999, 999 - MOST_PER_CAUSE, -1), 1]


async def test_a_failed_login_has_the_ids_of_its_log_lines_and_the_family_of_its_client() -> None:
    async with BrokerDoor() as door:
        page = await door.person.returns(state="made-up", code="x")
        refused = await door.token(code_request(code="made-up"))
    token, callback = door.pipeline.failed_logins.latest()
    assert (callback.endpoint, callback.reason, callback.cause, callback.flow_id) == (
        "callback",
        "bad_state",
        "client",
        "",
    )
    assert callback.correlation_id == page.headers["x-correlation-id"]
    assert token.correlation_id == refused.headers["x-correlation-id"]


async def test_a_login_that_had_begun_has_its_flow_id() -> None:
    async with BrokerDoor() as door:
        at_idp = query_of(await door.person.reaches_idp())
        await door.person.returns(state=at_idp["state"], error="access_denied")
    (denied,) = door.pipeline.failed_logins.latest()
    assert (denied.reason, denied.cause) == ("denied", "user")
    assert denied.flow_id


async def test_what_is_no_login_is_not_kept() -> None:
    async with FrontDoor() as door:
        await door.register(redirect_uris=[])
        await door.http.head("/oauth/authorize")
        await door.http.get("/oauth/revoke")
    assert door.pipeline.failed_logins.latest() == []


async def test_those_of_a_worker_arrive_at_the_supervisor() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    supervisor = Pipeline()
    replay = supervisor.replay(reading)
    worker = ForwardingPipeline(writing)
    app = create_app(Settings(**SETTINGS), pipeline=worker)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://door.example") as http:
        await http.get("/oauth/authorize", params=authorization_request(code_challenge_method="plain"))
    assert replay.read()
    (arrived,) = supervisor.failed_logins.latest()
    assert (arrived.endpoint, arrived.reason) == ("authorize", "bad_code_challenge_method")
    os.close(writing)
    replay.close()
