"""`/oauth/backchannel-logout`: the identity provider says that a user has logged out."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from seed_oauth.identity_provider.logout_token import CLOCK_SKEW, LIFETIME
from seed_oauth.outcomes import LogoutOutcome as Row
from seed_oauth.outcomes import Outcome
from tests.broker import IDP, BrokerDoor, Clock, PlayedGrants, jwt_of
from tests.harness import Samples, code_request, increases, json_of, query_of, refresh_request, rows_of_every_endpoint
from tests.resource_server.issuing import Key, ec_key, rsa_key, signed

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000
EVENT = "http://schemas.openid.net/event/backchannel-logout"
SETTINGS = {"idp_issuer_claim": IDP, "idp_jwks_url": f"{IDP}/keys", "access_tokens": "own"}


@dataclass
class OpenIdProvider:
    """An identity provider whose users and sessions a test names."""

    subject: str = "alice"
    session_id: str | None = "first"
    keys: list[Key] = field(default_factory=lambda: [rsa_key()])
    down: bool = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [key.as_dict(private=False) for key in self.keys]})
        tokens = {"access_token": "at", "token_type": "bearer", "expires_in": 300, "refresh_token": "rt"}
        if b"refresh_token" in request.content:
            return httpx.Response(200, json=tokens)
        claims = {"iss": IDP, "aud": "proxy", "exp": 2**33, "sub": self.subject, "sid": self.session_id}
        said = {name: value for name, value in claims.items() if value is not None}
        id_token = token_of(said, self.keys[0], typ="JWT")
        return httpx.Response(200, json={**tokens, "id_token": id_token})


@pytest.fixture
def idp() -> OpenIdProvider:
    return OpenIdProvider()


@pytest.fixture
async def door(idp: OpenIdProvider) -> AsyncIterator[BrokerDoor]:
    async with BrokerDoor(idp=idp, settings=SETTINGS, now=Clock(NOW)) as opened:
        yield opened


def logout(**changes: Any) -> dict[str, Any]:
    """The claims of a good logout token, but for `changes`; None leaves a claim out."""
    good = {
        "iss": IDP,
        "aud": "proxy",
        "iat": NOW,
        "exp": NOW + 120,
        "jti": "one",
        "sub": "alice",
        "events": {EVENT: {}},
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token_of(claims: Mapping[str, Any], key: Key | None = None, **header: Any) -> str:
    return signed(claims, key, **{"typ": "logout+jwt", **header})


async def send(door: BrokerDoor, token: str) -> httpx.Response:
    return await door.http.post("/oauth/backchannel-logout", data={"logout_token": token})


async def login(door: BrokerDoor) -> str:
    """The refresh token of a new login."""
    at_idp = await door.person.reaches_idp()
    returned = await door.person.returns(state=query_of(at_idp)["state"], code="code")
    code = query_of(returned.headers["location"])["code"]
    return str(json_of(await door.token(code_request(code=code)))["refresh_token"])


async def has_access(door: BrokerDoor, refresh_token: str) -> bool:
    response = await door.token(refresh_request(refresh_token=refresh_token))
    if response.status_code != 200:
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
    return response.status_code == 200


@dataclass(frozen=True)
class Refused:
    """A logout token that is not accepted."""

    row: Row
    token: str
    why: str


REFUSED = [
    Refused(Row.BAD_LOGOUT_TOKEN, "no JWT", "not a signed JWT"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(), typ="at+jwt"), "not a logout token"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(), typ="secevent+jwt"), "not a logout token"),
    Refused(Row.BAD_LOGOUT_TOKEN, jwt_of(logout(), alg="none"), "not a logout token"),
    Refused(Row.BAD_LOGOUT_TOKEN, jwt_of(logout(), alg="HS256"), "not a logout token"),
    Refused(Row.BAD_LOGOUT_TOKEN, jwt_of(logout(), crit=["x"]), "not a logout token"),
    Refused(Row.BAD_LOGOUT_TOKEN, jwt_of(logout()), "not signed with a key"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(), rsa_key("unknown")), "not signed with a key"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(), ec_key(), kid="rsa"), "not signed with a key"),
    Refused(Row.WRONG_ISSUER, token_of(logout(iss="https://other.example")), "another issuer"),
    Refused(Row.WRONG_ISSUER, token_of(logout(iss=None)), "another issuer"),
    Refused(Row.WRONG_AUDIENCE, token_of(logout(aud="another")), "another client"),
    Refused(Row.WRONG_AUDIENCE, token_of(logout(aud=["another"])), "another client"),
    Refused(Row.WRONG_AUDIENCE, token_of(logout(aud=None)), "another client"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(iat=None)), "iat and exp"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(exp="soon")), "iat and exp"),
    Refused(Row.EXPIRED, token_of(logout(exp=NOW - CLOCK_SKEW - 1)), "expired"),
    Refused(Row.EXPIRED, token_of(logout(iat=NOW + CLOCK_SKEW + 1, exp=NOW + 600)), "expired"),
    Refused(Row.EXPIRED, token_of(logout(iat=NOW - LIFETIME - CLOCK_SKEW - 1, exp=2**33)), "expired"),
    Refused(Row.EXPIRED, token_of(logout(iat=NOW - CLOCK_SKEW - 1, exp=None)), "expired"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(events=None)), "event"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(events={"http://schemas.openid.net/event/other": {}})), "event"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(events={EVENT: True})), "event"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(events=[EVENT])), "event"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(nonce="n")), "nonce"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(jti=None)), "jti"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(jti=7)), "jti"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(sub=None)), "sub or sid"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(sub="")), "sub or sid"),
    Refused(Row.BAD_LOGOUT_TOKEN, token_of(logout(sub=["alice"])), "sub or sid"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.row.reason}-{case.why}")
async def test_a_token_that_says_no_logout_here_ends_nothing_and_is_counted_as_its_row(
    case: Refused, door: BrokerDoor
) -> None:
    """PROTOCOL V2."""
    refresh_token = await login(door)
    before = await door.samples()
    response = await send(door, case.token)
    assert (response.status_code, json_of(response)["error"]) == (400, "invalid_request")
    assert case.why in json_of(response)["error_description"]
    assert response.headers["cache-control"] == "no-store"
    assert await counted(door, before) == errors(case.row)
    assert await has_access(door, refresh_token)


async def counted(door: BrokerDoor, before: Samples) -> dict[str, float]:
    """The errors that were counted since; keys that are fetched are counted, too."""
    grown = increases(before, await door.samples())
    return {name: times for name, times in grown.items() if name.startswith("oauth_errors_total")}


def errors(row: Outcome) -> dict[str, float]:
    return {f'oauth_errors_total{{cause="{row.cause}",endpoint="backchannel-logout",reason="{row.reason}"}}': 1.0}


async def test_a_token_from_elsewhere_causes_no_request_to_the_identity_provider(door: BrokerDoor) -> None:
    for changes in ({"iss": "https://other.example"}, {"aud": "another"}):
        await send(door, token_of(logout(**changes)))
    assert door.idp_requests == []


@pytest.mark.parametrize(
    "token",
    [
        token_of(logout()),
        token_of(logout(), typ="JWT"),
        token_of(logout(), typ=None),
        token_of(logout(), typ="application/logout+jwt"),
        token_of(logout(aud=["other", "proxy"])),
        token_of(logout(exp=None)),
        token_of(logout(iat=NOW - LIFETIME, exp=NOW - CLOCK_SKEW)),
    ],
)
async def test_a_user_who_has_logged_out_has_no_access_any_more(
    token: str, idp: OpenIdProvider, door: BrokerDoor
) -> None:
    of_alice = [await login(door), await login(door)]
    idp.subject = "bob"
    of_bob = await login(door)
    response = await send(door, token)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["cache-control"] == "no-store"
    assert [await has_access(door, one) for one in (*of_alice, of_bob)] == [False, False, True]


@pytest.mark.parametrize(
    ("subject", "kept"), [("alice", "second of alice, first of bob"), (None, "unknown, second of alice, first of bob")]
)
async def test_a_session_that_has_ended_ends_its_grants_and_the_users_of_which_no_session_is_known(
    subject: str | None, kept: str, idp: OpenIdProvider, door: BrokerDoor
) -> None:
    tokens = {}
    for idp.subject, idp.session_id, name in (
        ("alice", "first", "first"),
        ("alice", None, "unknown"),
        ("alice", "second", "second of alice"),
        ("bob", "third", "first of bob"),
    ):
        tokens[name] = await login(door)
    assert (await send(door, token_of(logout(sid="first", sub=subject)))).status_code == 200
    assert [name for name, token in tokens.items() if await has_access(door, token)] == kept.split(", ")


async def test_a_user_who_logs_in_again_has_access_again(door: BrokerDoor) -> None:
    await send(door, token_of(logout()))
    assert isinstance(door.now, Clock)
    door.now.seconds += 1
    assert await has_access(door, await login(door))


async def test_a_code_of_before_the_logout_is_refused(door: BrokerDoor) -> None:
    """The user may have closed the laptop on the way back from the identity provider."""
    for changes in ({}, {"sid": "first", "jti": "two"}):
        at_idp = await door.person.reaches_idp()
        returned = await door.person.returns(state=query_of(at_idp)["state"], code="code")
        assert (await send(door, token_of(logout(**changes)))).status_code == 200
        before = await door.samples()
        response = await door.token(code_request(code=query_of(returned.headers["location"])["code"]))
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="user",endpoint="token",reason="grant_revoked"}': 1.0
        }
        assert isinstance(door.now, Clock)
        door.now.seconds += 1


async def test_a_logout_token_works_once(door: BrokerDoor) -> None:
    """THREATS 35: it must not end the logins of later for whoever has seen it."""
    token = token_of(logout())
    assert (await send(door, token)).status_code == 200
    before = await door.samples()
    assert (await send(door, token)).status_code == 400
    assert await counted(door, before) == errors(Row.REPLAYED)
    assert (await send(door, token_of(logout(jti="two")))).status_code == 200


async def test_a_request_without_a_token_is_refused(door: BrokerDoor) -> None:
    before = await door.samples()
    response = await door.http.post("/oauth/backchannel-logout", data={"token": "x"})
    assert response.status_code == 400
    assert await counted(door, before) == errors(Row.MISSING_PARAMETER)


async def test_keys_that_cannot_be_read_are_the_identity_providers_trouble(
    idp: OpenIdProvider, door: BrokerDoor
) -> None:
    idp.down = True
    before = await door.samples()
    response = await send(door, token_of(logout()))
    assert (response.status_code, json_of(response)["error"]) == (400, "temporarily_unavailable")
    assert await counted(door, before) == errors(Row.IDP_UNAVAILABLE)


async def test_an_identity_provider_without_keys_is_the_operators_business() -> None:
    async with BrokerDoor() as door:
        response = await send(door, token_of(logout()))
        assert (response.status_code, json_of(response)["error"]) == (400, "server_error")
        assert await door.error_count(Row.NOT_CONFIGURED) == 1


@pytest.mark.parametrize("failing", ["search", "revoke"])
async def test_a_store_that_is_down_is_said_and_counted(failing: str, idp: OpenIdProvider) -> None:
    grants = PlayedGrants()
    async with BrokerDoor(idp=idp, settings=SETTINGS, now=Clock(NOW), grants=grants) as door:
        refresh_token = await login(door)
        grants.failing = {failing}
        response = await send(door, token_of(logout()))
        assert (response.status_code, json_of(response)["error"]) == (400, "temporarily_unavailable")
        assert await door.error_count(Row.STORE_FAILED) == 1
        grants.failing = set()
        assert (await send(door, token_of(logout(jti="again")))).status_code == 200
        assert not await has_access(door, refresh_token)


def test_every_row_of_the_table_is_reached() -> None:
    reached = {case.row for case in REFUSED}
    apart = {
        Row.MISSING_PARAMETER,
        Row.REPLAYED,
        Row.NOT_CONFIGURED,
        Row.IDP_UNAVAILABLE,
        Row.STORE_FAILED,
        Row.LOGGED_OUT,
    }
    assert reached | rows_of_every_endpoint(Row) | apart == set(Row)
