"""The metrics of the specification, by the names it gives their tests; each on the real app."""

import httpx
import pytest

from tests.broker import BrokerDoor
from tests.harness import TOKENS, BrokenStore, FrontDoor, RelayDoor, code_request, refresh_request

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


GRANT_TYPES = ("authorization_code", "refresh_token")


async def test_authorization_requests_by_result() -> None:
    async with RelayDoor() as door:
        for _ in range(3):
            await door.authorize()
        await door.authorize(client_id="nobody")
        await door.authorize(code_challenge="short")
        await door.authorize(redirect_uri="https://evil.example/")

        async def requests(result: str) -> float:
            return await door.value("oauth_authorization_requests_total", result=result)

        assert await requests("success") == 3
        assert await requests("invalid_client") == 1
        assert await requests("error") == 2


async def test_in_the_broker_flow_success_is_the_redirect_to_the_identity_provider() -> None:
    """Whether the user was asked first or not; a question that nobody answers is no request yet."""
    async with BrokerDoor() as door:

        async def requests(result: str) -> float:
            return await door.value("oauth_authorization_requests_total", result=result)

        page = await door.person.opens()
        assert (await requests("success"), await requests("error")) == (0, 0)
        await door.person.decides(page, "deny")
        assert (await requests("success"), await requests("error")) == (0, 1)
        await door.person.decides(page, remember="on")
        assert (await requests("success"), await requests("error")) == (1, 1)
        await door.person.opens()
        assert (await requests("success"), await requests("error")) == (2, 1)


async def test_token_exchanges_by_grant_type_and_result() -> None:
    answers = iter([200, 200, 400, 200, 500])
    async with RelayDoor(idp=lambda _: httpx.Response(next(answers), json=TOKENS)) as door:
        for request in (*[code_request()] * 3, *[refresh_request()] * 2):
            await door.token(request)

        async def exchanges(grant_type: str, result: str) -> float:
            return await door.value("oauth_token_exchanges_total", grant_type=grant_type, result=result)

        assert await exchanges("authorization_code", "success") == 2
        assert await exchanges("authorization_code", "failure") == 1
        assert await exchanges("refresh_token", "success") == 1
        assert await exchanges("refresh_token", "failure") == 1


async def test_token_exchange_duration_by_grant_type(door: FrontDoor) -> None:
    await door.token(code_request())
    await door.token(refresh_request())
    await door.token(refresh_request())
    for grant_type, count in [("authorization_code", 1), ("refresh_token", 2)]:
        assert await door.value("oauth_token_exchange_duration_seconds_count", grant_type=grant_type) == count
        assert await door.value("oauth_token_exchange_duration_seconds_sum", grant_type=grant_type) > 0


async def test_token_exchange_duration_has_the_correct_buckets(door: FrontDoor) -> None:
    await door.token(code_request())
    buckets = {
        dict(labels)["le"]
        for name, labels in await door.samples()
        if name == "oauth_token_exchange_duration_seconds_bucket"
    }
    assert buckets == {"0.1", "0.5", "1.0", "2.0", "5.0", "+Inf"}


async def test_dcr_registrations_by_result(door: FrontDoor) -> None:
    await door.register()
    await door.register()
    await door.register(redirect_uris=[])
    assert await door.value("oauth_dcr_registrations_total", result="success") == 2
    assert await door.value("oauth_dcr_registrations_total", result="invalid") == 1
    assert await door.value("oauth_dcr_registrations_total", result="error") == 0


async def test_a_registration_that_the_store_refuses_is_an_error() -> None:
    async with RelayDoor(clients=BrokenStore()) as door:
        await door.register()
        assert await door.value("oauth_dcr_registrations_total", result="error") == 1


async def test_grant_types_are_kept_apart(door: FrontDoor) -> None:
    await door.token(code_request())
    assert await door.value("oauth_token_exchanges_total", grant_type="refresh_token", result="success") == 0
    await door.token(refresh_request())
    for grant_type in GRANT_TYPES:
        labels = {"grant_type": grant_type, "result": "success"}
        assert await door.value("oauth_token_exchanges_total", **labels) == 1
        assert await door.value("oauth_token_exchange_duration_seconds_count", grant_type=grant_type) == 1
