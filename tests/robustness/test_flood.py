"""A flood of registrations: limits hold, every request is counted once, and whoever logs in notices nothing."""

from ipaddress import IPv4Address

import anyio
import anyio.lowlevel
import pytest
from starlette.types import Message, Scope

from seed_oauth.outcomes import RegistrationOutcome
from tests.broker import BrokerDoor, Clock
from tests.harness import code_request

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FLOOD = 20_000
PEOPLE = 40
ONE = "52.1.2.3"
BODY = b'{"redirect_uris": ["https://app.example/callback"], "token_endpoint_auth_method": "none"}'


async def register(door: BrokerDoor, address: str) -> int:
    """The status of one registration, as a server would pass it on: no client library could send as many."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth/register",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": (address, 50_000),
    }
    await door.app(scope, receive, send)
    return statuses[0]


async def flood(door: BrokerDoor, *, one_address: bool) -> dict[int, int]:
    """How often each status was answered; others get their turn now and then."""
    answered: dict[int, int] = {}
    for number in range(FLOOD):
        status = await register(door, ONE if one_address else str(IPv4Address("52.0.0.0") + number))
        answered[status] = answered.get(status, 0) + 1
        if number % 50 == 0:
            await anyio.lowlevel.checkpoint()
    return answered


async def log_in(door: BrokerDoor, number: int) -> bool:
    """One person's whole login, their client's token request included, from an address of their own."""
    address = str(IPv4Address("20.0.0.1") + number)
    code = await door.somebody(address).goes_through()
    async with door.client(address) as http:
        return (await http.post("/oauth/token", data=code_request(code=code))).status_code == 200


@pytest.mark.parametrize("one_address", [True, False], ids=["from one address", "from many"])
async def test_a_flood_of_registrations_disturbs_no_login_and_is_counted_whole(*, one_address: bool) -> None:
    """THREATS 10."""
    answered: dict[int, int] = {}
    async with BrokerDoor(now=Clock()) as door:

        async def be_flooded() -> None:
            answered.update(await flood(door, one_address=one_address))

        async with anyio.create_task_group() as group:
            group.start_soon(be_flooded)
            logins = [await log_in(door, number) for number in range(PEOPLE)]
        assert logins == [True] * PEOPLE
        assert answered == ({201: 300, 429: FLOOD - 300} if one_address else {201: FLOOD})
        registered = await door.value("oauth_dcr_registrations_total", result="success")
        invalid = await door.value("oauth_dcr_registrations_total", result="invalid")
        assert (registered, invalid) == (answered[201], answered.get(429, 0))
        assert await door.error_count(RegistrationOutcome.RATE_LIMITED) == answered.get(429, 0)
