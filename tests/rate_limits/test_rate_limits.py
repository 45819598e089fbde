"""Who asks too often is told when to ask again, and nobody else notices."""

import tracemalloc
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from seed_oauth.outcomes import CallbackOutcome, RegistrationOutcome, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.rate_limits import CAPACITY, RateLimit, windows
from seed_oauth.rate_limits.client_address import ClientAddresses
from tests.broker import BrokerDoor, Clock
from tests.endpoints.test_boundary import ENDPOINTS, begin, counted_once
from tests.harness import (
    CALLBACK,
    CODE_VERIFIER,
    TOKENS,
    RelayDoor,
    code_request,
    form_of,
    increases,
    json_of,
    query_of,
    refresh_request,
    registration_request,
)

pytestmark = pytest.mark.anyio

ADDRESS = "52.1.2.3"
ANOTHER = "52.1.2.4"
EVERY_LIMIT = ("rate_limit_authorize", "rate_limit_register", "rate_limit_token_address")


def limited_to(limit: str, **settings: Any) -> dict[str, Any]:
    """Settings that limit every address to so many requests to each endpoint."""
    return {**dict.fromkeys(EVERY_LIMIT, limit), **settings}


@pytest.fixture
def clock() -> Clock:
    """Ten seconds into a minute and an hour."""
    return Clock(1_800_000_010.0)


async def repeat(door: BrokerDoor, name: str, address: str) -> httpx.Response:
    """A request to an endpoint, again and again the same."""
    request = await begin(door, name)
    content_type = {"Content-Type": request.headers.get("content-type", "text/plain")}
    async with door.client(address) as http:
        return await http.request(request.method, request.url, content=request.content, headers=content_type)


# Introspection counts failures only, and by caller: tests/endpoints/test_introspection.py.
LIMITED = [(name, outcomes) for name, outcomes in ENDPOINTS if name != "introspect"]


@pytest.mark.parametrize(("name", "outcomes"), LIMITED, ids=[name for name, _ in LIMITED])
async def test_one_request_too_many_is_answered_429_and_counted_once(name: str, outcomes: Any, clock: Clock) -> None:
    """RFC 6585 §4, THREATS 10: never an error on which clients throw their tokens or their registration away."""
    async with BrokerDoor(settings=limited_to("2/minute"), now=clock) as door:
        for _ in range(2):
            assert (await repeat(door, name, ADDRESS)).status_code != 429
        before = await door.samples()
        refused = await repeat(door, name, ADDRESS)
        assert refused.status_code == 429
        assert json_of(refused)["error"] == "temporarily_unavailable"
        assert refused.headers["retry-after"] == "50"
        grown = increases(before, await door.samples())
        assert grown.items() >= counted_once(name, outcomes.RATE_LIMITED).items()
        assert await door.error_count(outcomes.RATE_LIMITED) == 1
        assert (await repeat(door, name, ANOTHER)).status_code != 429
        clock.seconds += 50
        assert (await repeat(door, name, ADDRESS)).status_code != 429


async def test_a_person_is_told_on_a_page_when_to_try_again(clock: Clock) -> None:
    async with BrokerDoor(settings=limited_to("1/minute"), now=clock) as door:
        person = door.somebody(ADDRESS)
        await person.opens()
        page = await person.opens()
    assert page.status_code == 429
    assert "Too many requests, try again in 50 seconds" in page.text


async def test_each_step_of_a_login_is_counted_by_itself_so_that_one_that_has_begun_is_finished(clock: Clock) -> None:
    async with BrokerDoor(settings=limited_to("3/minute"), now=clock) as door:
        for _ in range(3):
            assert await door.somebody(ADDRESS).goes_through()
        assert (await door.somebody(ADDRESS).opens()).status_code == 429
        assert await door.error_count(CallbackOutcome.RATE_LIMITED) == 0


async def test_the_longest_wait_of_several_limits_is_told(clock: Clock) -> None:
    async with (
        RelayDoor(settings={"rate_limit_register": "1/minute;2/hour"}, now=clock) as door,
        door.client(ADDRESS) as http,
    ):

        async def registers() -> httpx.Response:
            return await http.post("/oauth/register", json=registration_request())

        assert (await registers()).status_code == 201
        assert (await registers()).headers["retry-after"] == "50"
        clock.seconds += 50
        assert (await registers()).status_code == 201
        assert (await registers()).headers["retry-after"] == "3540"


async def test_an_empty_limit_is_none(clock: Clock) -> None:
    async with RelayDoor(settings=limited_to(""), now=clock) as door, door.client(ADDRESS) as http:
        for _ in range(50):
            assert (await http.post("/oauth/token", data=refresh_request())).status_code == 200
            assert (await http.post("/oauth/register", json=registration_request())).status_code == 201


async def test_all_addresses_of_an_ipv6_host_are_one(clock: Clock) -> None:
    async with RelayDoor(settings=limited_to("1/minute"), now=clock) as door:
        statuses = []
        for address in ("2a00:1450:4001:1::1", "2a00:1450:4001:1:ffff::2", "2a00:1450:4001:2::1"):
            async with door.client(address) as http:
                response = await http.post("/oauth/register", json=registration_request())
                statuses.append(response.status_code)
        assert statuses == [201, 429, 201]


# One client among many at a vendor's address


def idp(request: httpx.Request) -> httpx.Response:
    """An identity provider that knows every refresh token but the dead one."""
    form = form_of(request)
    if form.get("refresh_token") == "dead":
        return httpx.Response(400, json={"error": "invalid_grant"})
    return httpx.Response(200, json={**TOKENS, "refresh_token": f"refresh token of {form.get('code', 'somebody')}"})


async def test_a_client_that_loops_is_stopped_and_a_thousand_others_of_its_address_and_client_id_log_in(
    clock: Clock,
) -> None:
    """THREATS 10: a vendor's users share its egress address and, with a metadata document, its client_id."""
    vendor = {"client_id": "vendor", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    async with (
        BrokerDoor(
            idp=idp, settings={"clients": [vendor], "access_tokens": "own", "rate_limit_token": "20/minute"}, now=clock
        ) as door,
        door.client(ADDRESS) as at_vendor,
    ):

        async def asks_for_token(form: dict[str, str]) -> httpx.Response:
            return await at_vendor.post("/oauth/token", data={**form, "client_id": "vendor"})

        loop = [await asks_for_token(refresh_request(refresh_token="dead")) for _ in range(1000)]
        for number in range(1000):
            # Each user's browser has an address of its own.
            person = door.somebody(str(IPv4Address("20.0.0.1") + number))
            returned = await person.returns(
                state=query_of(await person.reaches_idp(client_id="vendor"))["state"], code=f"code {number}"
            )
            code = query_of(returned.headers["location"])["code"]
            tokens = json_of(await asks_for_token(code_request(code=code, code_verifier=CODE_VERIFIER)))
            refreshed = await asks_for_token(refresh_request(refresh_token=tokens["refresh_token"]))
            assert refreshed.status_code == 200
        assert [answer.status_code for answer in loop] == [400] * 20 + [429] * 980
        assert await door.error_count(TokenOutcome.RATE_LIMITED) == 980
        exchanged = await door.value("oauth_flow_steps_total", step="refreshed", client_family="other")
        assert exchanged == 1000


async def test_one_code_or_token_is_limited_where_the_address_is_not_known(clock: Clock) -> None:
    """Behind a reverse proxy that is not trusted yet."""
    async with RelayDoor(settings={"rate_limit_token": "2/minute"}, now=clock) as door:
        statuses = [(await door.token(refresh_request())).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await door.token(refresh_request(refresh_token="another"))).status_code == 200


@pytest.mark.parametrize("name", ["code", "token"])
async def test_something_new_beside_it_does_not_make_a_token_new(name: str, clock: Clock) -> None:
    """THREATS 10: parameters that the grant has no use for are ignored, and so they are for the limit."""
    async with RelayDoor(settings={"rate_limit_token": "2/minute"}, now=clock) as door:
        statuses = [(await door.token({**refresh_request(), name: str(number)})).status_code for number in range(3)]
        assert statuses == [200, 200, 429]


async def test_the_token_that_is_revoked_again_and_again_is_limited_too(clock: Clock) -> None:
    async with RelayDoor(settings={"rate_limit_token": "2/minute"}, now=clock) as door:
        form = {"token": "x", "client_id": "public"}
        statuses = [(await door.http.post("/oauth/revoke", data=form)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]


async def test_what_cannot_be_read_counts_for_the_address(clock: Clock) -> None:
    async with RelayDoor(settings=limited_to("2/minute"), now=clock) as door, door.client(ADDRESS) as http:
        statuses = [(await http.post("/oauth/token", content=b"x")).status_code for _ in range(2)]
        too_large = {"Content-Type": "application/x-www-form-urlencoded"}
        statuses.append((await http.post("/oauth/token", content=b"x" * 70_000, headers=too_large)).status_code)
        assert statuses == [400, 400, 429]


async def test_a_request_that_is_broken_off_counts_for_the_address(clock: Clock) -> None:
    """THREATS 10: or else a flood of halves had no limit."""
    users = windows("token_address", "2/minute", clock)
    limit = RateLimit(TokenOutcome.RATE_LIMITED, ClientAddresses(()), users, windows("token", "20/minute", clock))
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    for error in (ClientDisconnect, ClientDisconnect, OAuthError):
        with pytest.raises(error):
            await limit.check(Request({"type": "http", "headers": headers, "client": (ADDRESS, 1)}, receive))


@pytest.mark.parametrize("name", ["code", "refresh_token", "token"])
async def test_nothing_of_a_code_or_a_token_is_kept(name: str, clock: Clock) -> None:
    """THREATS 12."""
    uses = windows("token", "20/minute", clock)
    limit = RateLimit(TokenOutcome.RATE_LIMITED, ClientAddresses(()), (), uses)
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    for secret in (b"secret", b"another"):

        async def receive(body: bytes = b"%s=%s" % (name.encode(), secret)) -> Message:
            return {"type": "http.request", "body": body}

        await limit.check(Request({"type": "http", "headers": headers}, receive))
    assert [(len(key), b"secret" in key) for key in uses[0].counts] == [(16, False)] * 2


# Windows


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_a_flood_from_more_addresses_than_are_counted_does_not_fill_the_memory(clock: Clock) -> None:
    """THREATS 10."""
    (window,) = windows("register", "300/minute", clock)
    for number in range(300_000):
        key = number.to_bytes(4)
        assert window.wait(key) == 0
        window.count(key)
        assert len(window.counts) <= CAPACITY
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 16 * 2**20


def test_nothing_is_kept_of_a_window_that_is_over(clock: Clock) -> None:
    (window,) = windows("register", "1/minute", clock)
    assert window.wait(b"a") == 0
    window.count(b"a")
    assert window.wait(b"a") == 50
    clock.seconds += 60
    assert window.wait(b"b") == 0
    assert not window.counts


@pytest.mark.parametrize(("amount", "untold"), [(1, 0), (5, 0), (15, 1), (20, 2), (30, 3)])
def test_what_ten_replicas_do_not_tell_one_another_is_no_more_than_the_limit(
    amount: int, untold: int, clock: Clock
) -> None:
    (window,) = windows("register", f"{amount}/minute", clock)
    window.is_shared = True
    for _ in range(untold):
        window.count(b"a")
    assert not window.changed
    window.count(b"a")
    assert window.changed == {b"a"}
    assert 10 * untold <= amount


def test_a_clock_that_is_set_back_limits_nobody_for_an_hour(clock: Clock) -> None:
    (window,) = windows("register", "1/minute", clock)
    assert window.wait(b"a") == 0
    window.count(b"a")
    clock.seconds -= 3600
    assert window.wait(b"a") == 0


def test_a_registration_that_is_limited_does_not_look_like_trouble_of_the_store() -> None:
    """A flood from outside must not raise the page OAuthRegistrationStoreFailing."""
    assert RegistrationOutcome.RATE_LIMITED.result == "invalid"
