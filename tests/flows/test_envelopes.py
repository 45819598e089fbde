"""Envelopes that were forged, cut, mixed or made for something else, at every endpoint that takes one."""

import anyio
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.broker import BrokerDoor, request_in
from tests.harness import code_request, json_of, query_of, refresh_request

KINDS = ("question", "state", "code", "refresh token", "access token")

kinds = st.sampled_from(KINDS)


async def every_kind(door: BrokerDoor) -> dict[str, str]:
    """One good envelope of each kind, of a login of which nothing is spent yet."""
    page = await door.person.opens()
    first, second = [await door.person.reaches_idp() for _ in range(2)]
    tokens = json_of(await door.token(code_request(code=await code_at(door, first))))
    return {
        "question": request_in(page),
        "state": query_of(second)["state"],
        "code": await code_at(door, second),
        "refresh token": tokens["refresh_token"],
        "access token": tokens["access_token"],
    }


async def code_at(door: BrokerDoor, onward: str) -> str:
    return query_of((await door.person.logs_in(onward)).headers["location"])["code"]


async def present(door: BrokerDoor, endpoint: str, envelope: str) -> httpx.Response:
    """An envelope at the endpoint that takes this kind; an access token is taken where it is revoked."""
    if endpoint == "question":
        form = {"request": envelope, "decision": "approve"}
        return await door.person.http.post("/oauth/consent", data=form)
    if endpoint == "state":
        return await door.person.returns(state=envelope, code="x")
    if endpoint == "code":
        return await door.token(code_request(code=envelope))
    if endpoint == "refresh token":
        return await door.token(refresh_request(refresh_token=envelope))
    return await door.http.post("/oauth/revoke", data={"token": envelope, "client_id": "public"})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), kinds, kinds)
def test_none_is_taken_nothing_is_spent_and_nobody_is_sent_anywhere(
    data: st.DataObject, endpoint: str, kind: str
) -> None:
    async def scenario() -> None:
        async with BrokerDoor(settings={"access_tokens": "own"}) as door:
            good = await every_kind(door)
            envelope, other = good[kind], good[data.draw(kinds)]
            # Not drawn from its length, which differs by a character from login to login.
            place = 1 + data.draw(st.integers(0, 2**16)) % (len(envelope) - 2)
            changed = [
                envelope[:place],
                envelope[place:],
                envelope[:place] + ("A" if envelope[place] != "A" else "B") + envelope[place + 1 :],
                envelope[:place] + other[place:],
                envelope + envelope,
                envelope,
            ]
            asked = len(door.idp_requests)
            for bad in changed:
                if bad == good[endpoint]:
                    continue
                response = await present(door, endpoint, bad)
                if endpoint == "access token":
                    # Nothing to be seen there: a token that is not ours is the identity provider's to know.
                    assert response.status_code == 200
                    continue
                assert response.status_code == 400
                assert "location" not in response.headers
            if endpoint != "access token":
                assert len(door.idp_requests) == asked
                assert (await present(door, endpoint, good[endpoint])).status_code in {200, 302}

    anyio.run(scenario)
