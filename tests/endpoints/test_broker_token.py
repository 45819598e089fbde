"""`/oauth/token` in the broker flow: what codes and refresh tokens are bound to, and what clients get for them."""

import asyncio
import base64
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.flows.transaction import code_challenge
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import TokenOutcome as Row
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from tests.broker import (
    IDP,
    METADATA,
    BrokerDoor,
    Clock,
    PlayedGrants,
    PlayedHeldResponses,
    PlayedMetadata,
    id_jwt,
    jwt_of,
    request_in,
)
from tests.endpoints.test_token import FAILED, REFUSED, Failed, Refused
from tests.harness import (
    ISSUER,
    SETTINGS,
    BrokenStore,
    RelayDoor,
    code_request,
    form_of,
    increases,
    json_of,
    query_of,
    refresh_request,
    rows_of_every_endpoint,
    sealer_of,
)

pytestmark = pytest.mark.anyio

RESOURCE = f"{ISSUER}/mcp"
OTHER_VERIFIER = "b" * 43
POST = {"client_id": "post", "client_secret": "secret of post"}
Form = dict[str, str]


async def code_form(door: BrokerDoor, **changes: str | None) -> Form:
    """A good request for the code of a whole login, but for `changes`."""
    return code_request(**{"code": await door.person.goes_through(), **changes})


async def refresh_form(door: BrokerDoor, **changes: str | None) -> Form:
    """A good request for the refresh token of a whole login, but for `changes`."""
    return refresh_request(**{"refresh_token": (await door.login(scope="mail files"))["refresh_token"], **changes})


async def question(door: BrokerDoor) -> str:
    return request_in(await door.person.opens())


async def state(door: BrokerDoor) -> str:
    return query_of(await door.person.reaches_idp())["state"]


async def refresh_token(door: BrokerDoor) -> str:
    return str((await door.login())["refresh_token"])


async def access_token(door: BrokerDoor) -> str:
    return AccessToken(
        client_id="public",
        resource=RESOURCE,
        scope="",
        expires_at=2**40,
        subject=None,
        idp_access_token="at",
        grant_id="grant",
        issued_at=door.now(),
    ).sealed(sealer_of(settings_of(door)), door.now())


def settings_of(door: BrokerDoor) -> Settings:
    return Settings(**{**SETTINGS, **door.settings})


@dataclass
class Case:
    """A request that the door refuses itself: a good one of `form`, changed, by so many seconds late."""

    row: Row
    form: Callable[..., Awaitable[Form]]
    error: str = "invalid_grant"
    changes: Mapping[str, str | None] = field(default_factory=dict)
    envelope: Callable[[BrokerDoor], Awaitable[str]] | None = None
    """What is presented in the place of the code or the refresh token."""
    after: float = 0.0
    status: int = 400
    failing: Sequence[str] = ()


CASES = [
    # PROTOCOL T4; THREATS 1 and 2.
    Case(Row.BAD_CODE, code_form, changes={"code": "made up"}),
    Case(Row.BAD_CODE, code_form, changes={"code": "é" * 100}),
    Case(Row.BAD_CODE, code_form, changes=POST),
    Case(Row.BAD_CODE, code_form, after=61),
    Case(Row.BAD_CODE, code_form, envelope=question),
    Case(Row.BAD_CODE, code_form, envelope=state),
    Case(Row.BAD_CODE, code_form, envelope=refresh_token),
    Case(Row.BAD_CODE, code_form, envelope=access_token),
    Case(Row.BAD_REDIRECT_URI, code_form, changes={"redirect_uri": "http://127.0.0.1/callback"}),
    Case(Row.BAD_CODE_VERIFIER, code_form, changes={"code_verifier": OTHER_VERIFIER}),
    Case(Row.BAD_CODE_VERIFIER, code_form, changes={"code_verifier": None}),
    Case(Row.BAD_RESOURCE, code_form, "invalid_target", {"resource": f"{ISSUER}/other"}),
    Case(Row.STORE_FAILED, code_form, "temporarily_unavailable", status=503, failing=["take"]),
    # PROTOCOL T6 and T8; THREATS 17.
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, changes={"refresh_token": "made up"}),
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, changes=POST),
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, after=90 * 86_400 + 1),
    Case(Row.LOGIN_EXPIRED, refresh_form, after=60 * 86_400 + 1),
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, envelope=state),
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, envelope=access_token),
    Case(Row.BAD_SCOPE, refresh_form, "invalid_scope", {"scope": "mail admin"}),
    Case(Row.BAD_RESOURCE, refresh_form, "invalid_target", {"resource": f"{ISSUER}/other"}),
    Case(Row.STORE_FAILED, refresh_form, "temporarily_unavailable", status=503, failing=["take_lease"]),
    # The order of the checks decides the row.
    Case(Row.BAD_CODE, code_form, changes={"code": "made up", "code_verifier": OTHER_VERIFIER, "resource": RESOURCE}),
    Case(Row.BAD_CODE_VERIFIER, code_form, changes={"code": "made up", "code_verifier": "short"}),
    Case(Row.BAD_REDIRECT_URI, code_form,
         changes={"redirect_uri": "http://127.0.0.1/callback", "code_verifier": OTHER_VERIFIER}),
    Case(Row.BAD_CODE_VERIFIER, code_form,
         changes={"code_verifier": OTHER_VERIFIER, "resource": f"{ISSUER}/other"}),
    Case(Row.BAD_REFRESH_TOKEN, refresh_form, changes={**POST, "scope": "admin"}, failing=["take_lease"]),
    # Whatever the client has to prove comes before anything is taken.
    *[Case(row, code_form, error, changes, failing=["take"]) for row, error, changes in (
        (Row.BAD_CODE, "invalid_grant", POST),
        (Row.BAD_REDIRECT_URI, "invalid_grant", {"redirect_uri": "http://127.0.0.1/callback"}),
        (Row.BAD_CODE_VERIFIER, "invalid_grant", {"code_verifier": OTHER_VERIFIER}),
        (Row.BAD_RESOURCE, "invalid_target", {"resource": f"{ISSUER}/other"}),
    )],
    Case(Row.BAD_SCOPE, refresh_form, "invalid_scope", {"scope": "admin", "resource": f"{ISSUER}/other"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{case.changes}-{case.after}")
async def test_what_a_code_or_a_refresh_token_is_not_bound_to_never_reaches_the_identity_provider(case: Case) -> None:
    """PROTOCOL T4, T6 and T8; THREATS 1, 2 and 17."""
    clock, grants, held = Clock(), PlayedGrants(), PlayedHeldResponses()
    settings = {"resources": f"{RESOURCE} {ISSUER}/other", "login_days": 60}
    async with BrokerDoor(settings=settings, now=clock, grants=grants, held=held) as door:
        form = await case.form(door, **case.changes)
        if case.envelope is not None:
            form["refresh_token" if "refresh_token" in form else "code"] = await case.envelope(door)
        clock.seconds += case.after
        grants.failing |= set(case.failing)
        held.failing |= set(case.failing)
        asked, before = len(door.idp_requests), await door.samples()
        response = await door.token(form)

        assert response.status_code == case.status
        assert json_of(response)["error"] == case.error
        assert ("retry-after" in response.headers) == (case.status == 503)
        assert response.headers["cache-control"] == "no-store"
        assert increases(before, await door.samples()) == {
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="token",reason="{case.row.reason}"}}': 1
        }
        assert len(door.idp_requests) == asked


def test_every_row_of_the_table_is_reached_in_one_flow_or_the_other() -> None:
    reached = {case.row for table in (CASES, REFUSED, FAILED) for case in table}
    apart = {
        Row.CODE_REUSED,
        Row.REFRESH_TOKEN_REUSED,
        Row.REFRESH_TOKEN_REVOKED,
        Row.GRANT_REVOKED,  # test_access_taken_back.py
        Row.UNREGISTERED_GRANT_TYPE,  # test_registration.py
        Row.NOT_ALLOWED,  # test_access.py, as the next
        Row.IDP_BAD_ID_TOKEN,
        Row.IDP_WRONG_SUBJECT,
        Row.EXCHANGED,
        Row.REFRESHED,
    }
    apart |= {Row.CIRCUIT_OPEN, Row.TOO_MANY_IN_FLIGHT}  # test_circuit_breaker.py
    assert reached | rows_of_every_endpoint(Row) | apart == set(Row)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.row.reason}-{case.error}")
async def test_the_same_checks_in_the_same_order_come_before_any_envelope_is_opened(case: Refused) -> None:
    clients = BrokenStore() if case.broken_store else None
    headers = {"Authorization": case.authorization} if case.authorization else {}
    async with (
        RelayDoor(settings=case.settings, clients=clients) as relay,
        BrokerDoor(settings=case.settings, clients=clients) as broker,
    ):
        in_relay, in_broker = [await door.token(case.form, headers=headers) for door in (relay, broker)]
        assert in_relay.status_code == in_broker.status_code
        assert in_relay.content == in_broker.content
        assert await broker.error_count(case.row) == 1


# The exchange


@pytest.mark.parametrize("case", FAILED, ids=lambda case: f"{case.row.reason}-{case.idp_outcome}")
async def test_a_refresh_that_fails_is_counted_and_timed_once_and_nothing_of_ours_is_spent(case: Failed) -> None:
    async with BrokerDoor() as door:
        form = await refresh_form(door)
        provider, door.idp = door.idp, case.idp
        before = await door.samples()
        response = await door.token(form)
        assert response.status_code == case.status
        assert json_of(response)["error"] == case.error
        labels = f'grant_type="{form["grant_type"]}"'
        grown = increases(before, await door.samples())
        grown = {name: by for name, by in grown.items() if not name.startswith("http_client")}
        assert grown == {
            f'oauth_token_exchanges_total{{{labels},result="failure"}}': 1,
            f"oauth_token_exchange_duration_seconds_count{{{labels}}}": 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="token",reason="{case.row.reason}"}}': 1,
            f'oauth_idp_requests_total{{operation="token",outcome="{case.idp_outcome}"}}': 1,
            f'oauth_idp_request_duration_seconds_count{{operation="token",outcome="{case.idp_outcome}"}}': 1,
        }
        # This identity provider had not spent anything, so the same request goes through now.
        door.idp = provider
        assert (await door.token(form)).status_code == 200


async def test_a_code_is_exchanged_with_our_own_verifier_and_redirect_uri() -> None:
    async with BrokerDoor() as door:
        onward = query_of(onward_url := await door.person.reaches_idp(scope="mail"))
        before = await door.samples()
        returned = await door.person.logs_in(onward_url)
        assert increases(before, await door.samples()) == {
            'oauth_callbacks_total{result="success"}': 1,
            "oauth_authorization_wait_seconds_count{}": 1,
            'oauth_token_exchanges_total{grant_type="authorization_code",result="success"}': 1,
            'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': 1,
            'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
        }
        before = await door.samples()
        response = await door.token(
            code_request(code=query_of(returned.headers["location"])["code"], resource=f"{RESOURCE}/")
        )

        # PROTOCOL T7.
        assert response.status_code == 200
        assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
        members = json_of(response)
        assert members.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
        assert (members["token_type"], members["scope"]) == ("Bearer", "mail")
        (sent,) = door.idp_requests
        form = form_of(sent)
        assert form == {
            "grant_type": "authorization_code",
            "code": form["code"],
            "code_verifier": form["code_verifier"],
            "redirect_uri": f"{ISSUER}/oauth/callback",
            "resource": RESOURCE,
        }
        assert code_challenge(form["code_verifier"]) == onward["code_challenge"]
        assert base64.b64decode(sent.headers["authorization"].removeprefix("Basic ")).startswith(b"proxy:")
        assert increases(before, await door.samples()) == {}


async def test_a_client_may_leave_redirect_uri_and_resource_out() -> None:
    """OAuth 2.1 §4.1.3 has no redirect_uri in the token request; the code knows both."""
    async with BrokerDoor() as door:
        assert (await door.token(await code_form(door, redirect_uri=None))).status_code == 200
        assert form_of(door.idp_requests[-1])["resource"] == RESOURCE


async def test_the_resource_is_kept_from_an_identity_provider_that_refuses_it() -> None:
    async with BrokerDoor(settings={"idp_send_resource": False}) as door:
        tokens = json_of(await door.token(await code_form(door)))
        await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert len(door.idp_requests) == 2
        assert not [sent for sent in door.idp_requests if "resource" in form_of(sent)]


async def test_of_fifty_that_redeem_a_code_at_once_one_wins() -> None:
    """PROTOCOL T5, THREATS 2 and 3: whatever the identity provider does, which is not asked again."""
    async with BrokerDoor() as door:
        form = await code_form(door)
        answers: list[httpx.Response] = []

        async def redeem() -> None:
            answers.append(await door.token(form))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(redeem)
        assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49
        assert {json_of(answer)["error"] for answer in answers if answer.is_error} == {"invalid_grant"}
        labels = {"grant_type": "authorization_code"}
        assert await door.value("oauth_token_exchanges_total", **labels, result="success") == 1
        assert await door.value("oauth_token_exchanges_total", **labels, result="failure") == 0
        assert await door.error_count(Row.CODE_REUSED) == 49


async def test_a_code_that_is_used_again_ends_its_grant() -> None:
    """PROTOCOL T5, THREATS 2 (RFC 6749 §4.1.2): one of the two who have it has stolen it."""
    settings = {"access_tokens": "own", "mcp_server": "http://127.0.0.1:9/mcp"}
    async with BrokerDoor(settings=settings) as door:
        form = await code_form(door)
        tokens = json_of(await door.token(form))
        authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await door.http.post("/mcp", headers=authorization)).status_code == 502, "nothing listens there"
        asked, before = len(door.idp_requests), await door.samples()
        response = await door.token(form)
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="client",endpoint="token",reason="code_reused"}': 1
        }
        assert (await door.http.post("/mcp", headers=authorization)).status_code == 401
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert json_of(refused)["error"] == "invalid_grant"
        assert await door.error_count(Row.REFRESH_TOKEN_REVOKED) == 1
        assert len(door.idp_requests) == asked


@pytest.mark.parametrize(
    "changes",
    [POST, {"redirect_uri": "http://127.0.0.1/callback"}, {"code_verifier": OTHER_VERIFIER}, {"resource": "https://x"}],
)
async def test_a_thief_who_cannot_prove_anything_spends_no_code(changes: Mapping[str, str]) -> None:
    """THREATS 2: nor ends its grant."""
    async with BrokerDoor() as door:
        form = await code_form(door)
        assert (await door.token({**form, **changes})).is_error
        assert (await door.token(form)).status_code == 200


async def test_of_two_processes_that_are_sent_a_code_at_once_one_has_the_tokens(tmp_path: Path) -> None:
    """PROTOCOL T5, THREATS 3."""
    settings = {"store_url": f"sqlite:///{tmp_path}/store.db"}
    async with BrokerDoor(settings=settings) as first, BrokerDoor(settings=settings) as second:
        for _ in range(10):
            form = await code_form(first)
            answers = await asyncio.gather(*(door.token(form) for door in (second, first, second, first)))
            assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


@pytest.mark.parametrize("failing", ["take", "revoke"])
async def test_a_store_that_is_down_is_never_invalid_grant_and_the_code_is_looked_up_again(failing: str) -> None:
    grants, held = PlayedGrants(), PlayedHeldResponses()
    async with BrokerDoor(grants=grants, held=held) as door:
        form = await code_form(door)
        if failing == "revoke":
            await door.token(form)
        grants.failing, held.failing = {failing}, {failing}
        response = await door.token(form)
        assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
        assert response.headers["retry-after"]
        grants.failing, held.failing = set(), set()
        assert (await door.token(form)).status_code == (200 if failing == "take" else 400)


async def test_the_tokens_come_also_while_the_identity_provider_is_down() -> None:
    metadata = PlayedMetadata()
    async with BrokerDoor(metadata=metadata) as door:
        form = await code_form(door)
        metadata.failure = IdentityProviderError(IdentityProviderFailure.UNREACHABLE)
        door.idp = lambda _: httpx.Response(503)
        assert (await door.token(form)).status_code == 200


async def test_the_time_that_tokens_waited_is_taken_off() -> None:
    clock = Clock()
    for idp, left in ((300, 260), (30, 0)):
        async with BrokerDoor(now=clock, idp=answering({"expires_in": idp})) as door:
            code, _ = await code_of(door)
            clock.seconds += 40.9
            assert json_of(await door.token(code_request(code=code)))["expires_in"] == left


async def test_a_response_that_was_changed_in_the_store_is_none(tmp_path: Path) -> None:
    """THREATS 32: whoever can write to the store can only make a login fail."""
    path = tmp_path / "store.db"
    async with BrokerDoor(settings={"store_url": f"sqlite:///{path}"}) as door:
        forms = [await code_form(door), await code_form(door)]
        with closing(sqlite3.connect(path)) as connection, connection:
            (one, other) = connection.execute("SELECT key, sealed FROM sealed_token_responses").fetchall()
            connection.execute("UPDATE sealed_token_responses SET sealed = ? WHERE key = ?", (one[1], other[0]))
            connection.execute("UPDATE sealed_token_responses SET sealed = ? WHERE key = ?", (other[1], one[0]))
        for form in forms:
            assert json_of(await door.token(form))["error"] == "invalid_grant"
        assert await door.error_count(Row.CODE_REUSED) == 2


async def test_a_client_that_is_gone_when_its_code_is_redeemed_is_counted_and_has_to_log_in_again() -> None:
    """What was taken is not put back: nobody can tell whether the client has it."""
    taken = asyncio.Event()

    class SlowHeldResponses(PlayedHeldResponses):
        async def take(self, key: int) -> bytes | None:
            sealed = await super().take(key)
            taken.set()
            await asyncio.sleep(0)
            return sealed

    async with BrokerDoor(held=SlowHeldResponses()) as door:
        form = await code_form(door)
        request = asyncio.create_task(door.token(form))
        await taken.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await door.error_count(Row.CANCELLED) == 1
        assert json_of(await door.token(form))["error"] == "invalid_grant"


@pytest.mark.parametrize("after", [0, 60])
async def test_a_code_is_good_for_a_minute(after: float) -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        form = await code_form(door)
        clock.seconds += after
        assert (await door.token(form)).status_code == 200


# The ID token


def answering(members: Mapping[str, object]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, json={"access_token": "at", **members})


async def code_of(door: BrokerDoor, **changes: str | None) -> tuple[str, dict[str, str]]:
    """A code for a login at an identity provider that `door.idp` plays, and what that was asked."""
    idp = query_of(await door.person.reaches_idp(**changes))
    return await code_back(door, idp["state"]), idp


async def code_back(door: BrokerDoor, state: str) -> str:
    """The code for a login that returns from an identity provider that `door.idp` plays."""
    returned = await door.person.returns(code="idp code", state=state)
    return query_of(returned.headers["location"])["code"]


async def test_an_id_token_of_this_login_says_who_has_logged_in() -> None:
    async with BrokerDoor(settings={"idp_scopes": "openid", "access_tokens": "own"}) as door:
        idp = query_of(await door.person.reaches_idp())
        claims = {"sub": "somebody", "nonce": idp["nonce"]}
        door.idp = answering({"id_token": id_jwt(**claims), "refresh_token": "rt"})
        members = json_of(await door.token(code_request(code=await code_back(door, idp["state"]))))
        assert "id_token" not in members, "it is addressed to us"
        sealer = sealer_of(settings_of(door))
        assert AccessToken.opened(sealer, members["access_token"], door.now()).subject == "somebody"
        # The subject goes on with the grant.
        door.idp = answering({})
        members = json_of(await door.token(refresh_request(refresh_token=members["refresh_token"])))
        assert AccessToken.opened(sealer, members["access_token"], door.now()).subject == "somebody"


@pytest.mark.parametrize(
    "id_token", [jwt_of({"sub": "somebody"}), jwt_of({"sub": 7}), jwt_of(["sub"]), "opaque", "a.b.c", "é.é.é", 7, None]
)
async def test_an_id_token_that_nobody_asked_for_or_that_says_nothing_stops_no_login(id_token: object) -> None:
    """Google gives one with the scope email, and there was no nonce to repeat."""
    async with BrokerDoor(idp=answering({"id_token": id_token})) as door:
        code, idp = await code_of(door, scope="email")
        assert "nonce" not in idp
        assert (await door.token(code_request(code=code))).status_code == 200


# Access tokens


FOR_US: dict[str, Any] = {"aud": RESOURCE, "exp": Clock.seconds + 300}


@dataclass
class Issued:
    """What the identity provider gives, and what the client gets of it."""

    idp: Mapping[str, object]
    passed_on: bool
    expires_in: int | None
    policy: str = "auto"


ISSUED = [
    # Passed on where it is a JWT for the resource, and for what clients write the same (PROTOCOL A9) …
    Issued({"access_token": jwt_of(FOR_US), "expires_in": 300}, True, 300),
    Issued({"access_token": jwt_of({**FOR_US, "aud": [RESOURCE, "other"]}), "expires_in": 300}, True, 300),
    Issued({"access_token": jwt_of({**FOR_US, "aud": f"{RESOURCE}/"}), "expires_in": "300"}, True, 300),
    Issued({"access_token": jwt_of(FOR_US)}, True, None),
    # … and never where it is opaque or for somebody else (MCP "Token passthrough").
    Issued({"access_token": "opaque", "expires_in": 300}, False, 300),
    Issued({"access_token": jwt_of({**FOR_US, "aud": "https://graph.example"}), "expires_in": 300}, False, 300),
    Issued({"access_token": jwt_of({**FOR_US, "aud": f"{RESOURCE}/other"})}, False, 3600),
    Issued({"access_token": jwt_of({**FOR_US, "aud": [{"x": RESOURCE}, 7, None]})}, False, 3600),
    Issued({"access_token": jwt_of({**FOR_US, "aud": {RESOURCE: 1}})}, False, 3600),
    Issued({"access_token": jwt_of({})}, False, 3600),
    Issued({"access_token": jwt_of([FOR_US])}, False, 3600),
    Issued({"access_token": "a.b.c"}, False, 3600),
    Issued({"access_token": "é.é.é"}, False, 3600),
    # … nor where this server itself would refuse it: what is chosen and what is checked are one rule.
    *[Issued({"access_token": token, "expires_in": 300}, False, 300) for token in (
        jwt_of({**FOR_US, "nonce": "n"}),
        jwt_of({**FOR_US, "at_hash": "h"}),
        jwt_of({**FOR_US, "typ": "ID"}),
        jwt_of({**FOR_US, "token_use": "id"}),
        jwt_of({"aud": RESOURCE}),
        jwt_of({**FOR_US, "exp": "soon"}),
        jwt_of({**FOR_US, "exp": Clock.seconds - 61}),
        jwt_of({**FOR_US, "nbf": Clock.seconds + 61}),
        jwt_of(FOR_US, typ="logout+jwt"),
        jwt_of(FOR_US, alg="HS256"),
        jwt_of(FOR_US, alg="none"),
        jwt_of(FOR_US, crit=["b64"]),
    )],
    Issued({"access_token": jwt_of({**FOR_US, "nonce": "n"}, typ="at+jwt"), "expires_in": 300}, True, 300),
    Issued({"access_token": jwt_of({**FOR_US, "nonce": "n", "typ": "Bearer"}), "expires_in": 300}, True, 300),
    # Ours lasts no longer than the identity provider's.
    Issued({"access_token": "opaque", "expires_in": 86_400}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": 59.9}, False, 59),
    Issued({"access_token": "opaque", "expires_in": "120"}, False, 120),
    Issued({"access_token": "opaque", "expires_in": 0}, False, 0),
    # Nonsense is no number of seconds.
    Issued({"access_token": "opaque", "expires_in": -1}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": "soon"}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": "²"}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": None}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": "9" * 5000}, False, 3600),
    Issued({"access_token": "opaque", "expires_in": 1e300}, False, 3600),
    Issued({"access_token": jwt_of(FOR_US), "expires_in": 10**30}, True, 315_360_000),
    # The operator's word goes before.
    Issued({"access_token": "opaque", "expires_in": 300}, True, 300, "idp"),
    Issued({"access_token": jwt_of(FOR_US), "expires_in": 300}, False, 300, "own"),
]  # fmt: skip


@pytest.mark.parametrize("issued", ISSUED, ids=lambda issued: f"{issued.policy}-{issued.passed_on}-{issued.expires_in}")
@pytest.mark.parametrize("grant", ["code", "refresh"])
async def test_a_client_gets_an_access_token_that_is_for_the_resource(issued: Issued, grant: str) -> None:
    clock = Clock()
    async with BrokerDoor(settings={"access_tokens": issued.policy}, now=clock) as door:
        door.idp = answering({**issued.idp, "refresh_token": "rt"})
        code, _ = await code_of(door, scope="mail")
        members = json_of(await door.token(code_request(code=code)))
        if grant == "refresh":
            members = json_of(await door.token(refresh_request(refresh_token=members["refresh_token"])))
        assert members.get("expires_in") == issued.expires_in
        if issued.passed_on:
            assert members["access_token"] == issued.idp["access_token"]
            return
        assert str(issued.idp["access_token"]) not in members["access_token"]
        opened = AccessToken.opened(sealer_of(settings_of(door)), members["access_token"], clock())
        assert opened.grant_id
        assert opened == AccessToken(
            client_id="public",
            resource=RESOURCE,
            scope="mail",
            expires_at=int(clock()) + (issued.expires_in or 0),
            subject=None,
            idp_access_token=str(issued.idp["access_token"]),
            grant_id=opened.grant_id,
            issued_at=clock(),
        )


@pytest.mark.parametrize(("sub", "subject"), [("alice", "alice"), (7, None), (["alice"], None)])
async def test_the_subject_of_an_access_token_of_ours_is_a_string_or_none(sub: object, subject: str | None) -> None:
    """OpenID Connect Core §2."""
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        door.idp = answering({"access_token": "opaque", "id_token": id_jwt(sub=sub)})
        code, _ = await code_of(door, scope="mail")
        members = json_of(await door.token(code_request(code=code)))
        opened = AccessToken.opened(sealer_of(settings_of(door)), members["access_token"], clock())
    assert opened.subject == subject


async def test_an_access_token_of_ours_lasts_as_long_as_the_operator_says() -> None:
    async with BrokerDoor(settings={"access_token_seconds": 60}, idp=answering({"expires_in": 300})) as door:
        code, _ = await code_of(door)
        assert json_of(await door.token(code_request(code=code)))["expires_in"] == 60


# Scopes


@dataclass
class Told:
    """What the client asks for and the identity provider answers, and what the client is told."""

    asked: str | None
    idp: str | None
    told: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)


TOLD = [
    Told("mail files", None, "mail files"),
    Told("mail files", "mail", "mail"),
    # RFC 6749 §5.1 and §3.3: an empty list of scopes is none, so nothing was granted but what was asked for.
    Told("mail files", "", "mail files"),
    # Nobody was shown what the identity provider adds.
    Told("mail", "mail profile", "mail"),
    Told("mail", "profile admin", None),
    Told(None, None, None),
    Told(None, "mail", "mail"),
    Told("mail", "openid mail", "mail", {"idp_scopes": "openid"}),
    Told("openid mail", "openid mail", "openid mail", {"idp_scopes": "openid"}),
    Told(None, "openid", None, {"idp_scopes": "openid"}),
    Told("mail offline_access", None, "mail", {"idp_dropped_scopes": "offline_access"}),
]


HIERARCHY = {"scope_hierarchy": {"files:write": ["files:read"], "admin": ["files:write"], "e-mail": ["mail"]}}
TOLD += [
    Told("files:read", "files:read files:write admin", "files:read", HIERARCHY),
    Told("files:read", "files:write", "files:read", HIERARCHY),
    Told("files:read", "admin", "files:read", HIERARCHY),
    Told("files:write", "files:read", "files:read", HIERARCHY),
    Told("admin", "files:write files:read", "files:write files:read", HIERARCHY),
    Told("mail", "e-mail", "mail", HIERARCHY),
    Told("mail", "files:read", None, HIERARCHY),
]


@pytest.mark.parametrize("case", TOLD, ids=str)
async def test_a_client_is_told_which_scopes_it_got_and_not_what_we_got_for_ourselves(case: Told) -> None:
    """THREATS 23: nor what its user was not shown."""
    answer = {} if case.idp is None else {"scope": case.idp}
    async with BrokerDoor(settings=case.settings, idp=answering(answer)) as door:
        code, _ = await code_of(door, scope=case.asked)
        members = json_of(await door.token(code_request(code=code)))
    assert members.get("scope") == case.told
    opened = AccessToken.opened(sealer_of(settings_of(door)), members["access_token"], door.now())
    assert opened.scope == (case.told or "")


async def test_a_client_is_told_what_the_token_of_the_identity_provider_carries_where_it_gets_that_one() -> None:
    """It is the identity provider's word for what its own token is good for; nothing here can take scopes out of it."""
    token = jwt_of({"aud": RESOURCE, "scope": "mail admin"})
    idp = answering({"access_token": token, "scope": "mail admin"})
    async with BrokerDoor(idp=idp, settings={"access_tokens": "idp"}) as door:
        code, _ = await code_of(door, scope="mail")
        members = json_of(await door.token(code_request(code=code)))
    assert (members["access_token"], members["scope"]) == (token, "mail admin")


REFRESHED = [
    # Asked for at first, granted then; asked for in the refresh, granted then; what the new access token has.
    ("mail", "mail", None, "mail admin", "mail"),
    ("mail files", "mail", None, "mail files", "mail files"),
    ("mail", "profile", None, "profile mail", "mail"),
    ("mail files", "mail", "mail files", "mail files admin", "mail files"),
    ("files:write", "files:write", "files:read", "files:write", "files:read"),
    ("files:read", "files:write", "files:read", "files:write admin", "files:read"),
    (None, "mail", None, "mail", "mail"),
]


@pytest.mark.parametrize(("asked", "granted", "again", "then", "has"), REFRESHED)
async def test_no_refresh_gives_an_access_token_more_than_its_user_was_shown(
    asked: str | None, granted: str, again: str | None, then: str, has: str | None
) -> None:
    """THREATS 23."""
    answers = iter([granted, then])

    def idp(request: httpx.Request) -> httpx.Response:
        return answering({"refresh_token": "rt", "scope": next(answers)})(request)

    async with BrokerDoor(settings=HIERARCHY, idp=idp) as door:
        code, _ = await code_of(door, scope=asked)
        tokens = json_of(await door.token(code_request(code=code)))
        refreshed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=again)))
        opened = AccessToken.opened(sealer_of(settings_of(door)), refreshed["access_token"], door.now())
    assert refreshed.get("scope") == has
    assert opened.scope == (has or "")


@pytest.mark.parametrize(
    ("asked", "granted", "again", "status"),
    [
        # What it asked for, whatever the identity provider calls it.
        ("files:read", "https://idp.example/files.read", "files:read", 200),
        ("mail files:read", "mail", "mail files:read", 200),
        # What a granted scope includes.
        ("files:write", "files:write", "files:read", 200),
        ("admin", "admin", "files:read files:write", 200),
        ("files:read", "files:read", "files:write", 400),
        ("files:read", "admin", "files:write", 400),
    ],
)
async def test_a_refresh_may_name_what_was_asked_for_and_what_that_includes(
    asked: str, granted: str, again: str, status: int
) -> None:
    """PROTOCOL T8 and M8."""
    async with BrokerDoor(settings=HIERARCHY, idp=answering({"refresh_token": "rt", "scope": granted})) as door:
        code, _ = await code_of(door, scope=asked)
        tokens = json_of(await door.token(code_request(code=code)))
        response = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=again))
    assert response.status_code == status


async def test_a_refresh_may_narrow_the_scope_of_an_access_token_but_not_of_the_grant() -> None:
    """PROTOCOL T8 (RFC 6749 §6)."""
    async with BrokerDoor(settings={"idp_scopes": "openid"}) as door:
        tokens = await door.login(scope="mail files")
        for asked, idp, told in (
            ("mail", "mail openid", "mail"),
            (None, "mail files openid", "mail files"),
            ("files", "files openid", "files"),
            ("files mail", "mail files openid", "mail files"),
        ):
            form = refresh_request(refresh_token=tokens["refresh_token"], scope=asked)
            tokens = json_of(await door.token(form))
            assert form_of(door.idp_requests[-1]).get("scope") == idp
            assert tokens["scope"] == told


@pytest.mark.parametrize(
    ("iss", "claims", "settings", "passed_on"),
    [
        (IDP, {}, {}, True),
        (None, {}, {}, False),
        (f"{IDP}/", {}, {}, False),
        ("https://other.example", {}, {}, False),
        (IDP, {"aud": "api://mcp"}, {"idp_audiences": "api://mcp"}, True),
        (IDP, {"aud": "api://mcp"}, {}, False),
        (IDP, {"scope": "mail files"}, {"required_scopes": "mail"}, True),
        (IDP, {"scp": "mail"}, {"required_scopes": "mail"}, True),
        (IDP, {}, {"required_scopes": "mail"}, False),
    ],
)
async def test_a_jwt_is_passed_on_where_the_guard_of_the_resource_would_take_it(
    iss: str | None, claims: dict[str, Any], settings: dict[str, Any], *, passed_on: bool
) -> None:
    token = jwt_of({**FOR_US, "iss": iss, **claims})
    async with BrokerDoor(settings=settings, metadata=PlayedMetadata(), now=Clock()) as door:
        door.idp = answering({"access_token": token})
        code, _ = await code_of(door)
        assert (json_of(await door.token(code_request(code=code)))["access_token"] == token) == passed_on


# What clients and identity providers call scopes


@pytest.mark.parametrize("said", ["", " ", None, [], {}, 7])
async def test_an_empty_scope_says_no_more_than_none(said: object) -> None:
    """RFC 6749 §3.3 requires a name; a refresh with the scope that was asked for works as it did before."""
    async with BrokerDoor(idp=answering({"refresh_token": "rt", "scope": said}), settings=OWN) as door:
        code, _ = await code_of(door, scope="mail files")
        tokens = json_of(await door.token(code_request(code=code)))
        assert tokens["scope"] == "mail files"
        for asked in ("mail files", "files mail", None, "mail files"):
            response = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=asked))
            tokens = json_of(response)
            assert (response.status_code, tokens["scope"]) == (200, "mail files")
            opened = AccessToken.opened(sealer_of(settings_of(door)), tokens["access_token"], door.now())
            assert opened.scope == "mail files"


OWN = {"access_tokens": "own"}
ENTRA = {"idp_scopes": "openid offline_access api://guid/mcp", "access_tokens": "own"}


async def test_a_refresh_names_the_scopes_that_the_identity_provider_was_asked_for() -> None:
    """Entra ID refuses one without (AADSTS90009)."""
    async with BrokerDoor(idp=answering({"refresh_token": "rt", "scope": "api://guid/mcp"}), settings=ENTRA) as door:
        code, idp = await code_of(door, scope="mcp")
        assert idp["scope"] == "mcp openid offline_access api://guid/mcp"
        tokens = json_of(await door.token(code_request(code=code)))
        for _ in range(2):
            tokens = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
            # RFC 6749 §6: what was evidently not granted is not asked for again.
            assert form_of(door.idp_requests[-1])["scope"] == "openid api://guid/mcp"


async def test_a_refresh_does_not_ask_for_offline_access_that_was_perhaps_not_granted() -> None:
    """oidc-provider leaves it out without a word (OpenID Connect Core §11), and refuses a refresh that names it."""
    metadata = PlayedMetadata(replace(METADATA, default_scopes=("openid", "offline_access")))
    async with BrokerDoor(idp=answering({"refresh_token": "rt"}), metadata=metadata, settings=OWN) as door:
        code, idp = await code_of(door, scope="mail files")
        assert idp["scope"] == "mail files openid offline_access"
        tokens = json_of(await door.token(code_request(code=code)))
        for asked, sent in ((None, "mail files openid"), ("mail", "mail openid")):
            tokens = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=asked)))
            assert form_of(door.idp_requests[-1])["scope"] == sent


async def test_a_client_that_repeats_what_it_asked_for_is_not_refused_for_what_it_is_called_elsewhere() -> None:
    settings = {"scope_hierarchy": {"https://graph/User.Read": ["User.Read"]}}
    idp = answering({"refresh_token": "rt", "scope": "https://graph/User.Read"})
    async with BrokerDoor(idp=idp, settings=settings) as door:
        code, _ = await code_of(door, scope="User.Read mail")
        tokens = json_of(await door.token(code_request(code=code)))
        assert tokens["scope"] == "User.Read"
        for asked, sent, told in (
            ("User.Read mail", "User.Read mail", "User.Read"),
            ("User.Read", "User.Read", "User.Read"),
            ("mail", "mail", None),
        ):
            response = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=asked))
            assert response.status_code == 200, asked
            tokens = json_of(response)
            assert form_of(door.idp_requests[-1])["scope"] == sent
            assert tokens.get("scope") == told
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope="User.Read admin"))
        assert json_of(refused)["error"] == "invalid_scope"


async def test_a_name_that_was_not_granted_gets_nothing_where_the_identity_provider_is_silent() -> None:
    """RFC 6749 §6: repeating a request must not widen what was granted."""
    async with BrokerDoor(idp=answering({"refresh_token": "rt", "scope": "mail"}), settings=OWN) as door:
        code, _ = await code_of(door, scope="mail files")
        tokens = json_of(await door.token(code_request(code=code)))
        door.idp = answering({"refresh_token": "rt"})
        for asked, told in (("mail files", "mail"), (None, "mail"), ("files", None), ("mail", "mail")):
            tokens = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope=asked)))
            assert tokens.get("scope") == told
            opened = AccessToken.opened(sealer_of(settings_of(door)), tokens["access_token"], door.now())
            assert opened.scope == (told or "")
            assert form_of(door.idp_requests[-1])["scope"] == ("files" if asked == "files" else "mail")


async def test_an_identity_provider_that_says_no_scope_has_granted_what_was_asked_for() -> None:
    """RFC 6749 §5.1: the scope may be left out where it is the one that was asked for."""
    async with BrokerDoor(idp=answering({"refresh_token": "rt"}), settings={"access_tokens": "own"}) as door:
        code, _ = await code_of(door, scope="mail files")
        tokens = json_of(await door.token(code_request(code=code)))
        narrowed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope="mail")))
        assert narrowed["scope"] == "mail"
        opened = AccessToken.opened(sealer_of(settings_of(door)), narrowed["access_token"], door.now())
        assert opened.scope == "mail"


async def test_what_was_granted_without_names_cannot_be_named_in_a_refresh() -> None:
    """PROTOCOL T8: an identity provider that ignores scopes would let anything through."""
    async with BrokerDoor(idp=answering({"refresh_token": "rt"})) as door:
        code, _ = await code_of(door)
        tokens = json_of(await door.token(code_request(code=code)))
        response = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope="admin"))
        assert json_of(response)["error"] == "invalid_scope"


async def test_a_scope_that_is_never_passed_on_may_be_asked_for_in_a_refresh_and_changes_nothing() -> None:
    """Clients ask for offline_access always."""
    async with BrokerDoor(settings={"idp_dropped_scopes": "offline_access"}) as door:
        tokens = await door.login(scope="mail offline_access")
        for asked, idp in (("mail offline_access", "mail"), ("offline_access", None)):
            form = refresh_request(refresh_token=tokens["refresh_token"], scope=asked)
            tokens = json_of(await door.token(form))
            assert form_of(door.idp_requests[-1]).get("scope") == idp


# Refresh tokens


async def test_a_refresh_token_is_exchanged_for_new_ones_and_says_nothing_to_anybody() -> None:
    async with BrokerDoor() as door:
        tokens = await door.login()
        before = await door.samples()
        response = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert response.status_code == 200
        renewed = json_of(response)
        assert renewed["refresh_token"] != tokens["refresh_token"]
        idp = form_of(door.idp_requests[-1])
        assert idp == {
            "grant_type": "refresh_token",
            "refresh_token": idp["refresh_token"],
            "resource": RESOURCE,
        }
        assert idp["refresh_token"] not in tokens["refresh_token"]
        assert increases(before, await door.samples()) == {
            'oauth_token_exchanges_total{grant_type="refresh_token",result="success"}': 1,
            'oauth_token_exchange_duration_seconds_count{grant_type="refresh_token"}': 1,
            'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
        }


async def test_a_login_goes_on_for_as_many_refreshes_as_the_client_likes() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        token = await refresh_token(door)
        for _ in range(20):
            clock.seconds += 3600
            token = json_of(await door.token(refresh_request(refresh_token=token)))["refresh_token"]


async def test_where_the_identity_provider_gives_no_refresh_token_there_is_none() -> None:
    async with BrokerDoor(idp=answering({})) as door:
        code, _ = await code_of(door)
        assert "refresh_token" not in json_of(await door.token(code_request(code=code)))


async def test_an_idp_refresh_token_that_is_not_rotated_goes_on_to_be_the_one() -> None:
    """Google; ours is rotated all the same."""
    async with BrokerDoor() as door:
        door.idp = answering({"refresh_token": "the one"})
        code, _ = await code_of(door)
        token = json_of(await door.token(code_request(code=code)))["refresh_token"]
        door.idp = answering({})
        for _ in range(3):
            renewed = json_of(await door.token(refresh_request(refresh_token=token)))["refresh_token"]
            assert form_of(door.idp_requests[-1])["refresh_token"] == "the one"
            assert renewed != token
            token = renewed


def waiting(door: BrokerDoor) -> tuple[asyncio.Event, asyncio.Event]:
    """Have the identity provider wait: the first is set when it was asked, and it answers when the second is."""
    asked, answer, provider = asyncio.Event(), asyncio.Event(), door.idp

    async def idp(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        response = provider(request)
        return response if isinstance(response, httpx.Response) else await response

    door.idp = idp
    return asked, answer


async def test_the_same_refresh_twenty_times_at_once_in_two_processes_is_one_exchange(tmp_path: Path) -> None:
    """PROTOCOL T6: two egress nodes of one client refresh at the same time."""
    settings = {"store_url": f"sqlite:///{tmp_path}/grants.db"}
    async with BrokerDoor(settings=settings) as first, BrokerDoor(settings=settings) as second:
        form = await refresh_form(first)
        asked, answer = waiting(first)
        second.idp = first.idp
        answers: list[httpx.Response] = []

        async def refresh(door: BrokerDoor) -> None:
            answers.append(await door.token(form))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(refresh, (first, second)[number % 2])
            await asked.wait()
            answer.set()
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        refreshes = [sent for door in (first, second) for sent in door.idp_requests if b"=refresh" in sent.content]
        assert len(refreshes) == 1
        # Both go on with the successor.
        successor = refresh_request(refresh_token=json_of(answers[0])["refresh_token"])
        assert (await second.token(successor)).status_code == 200
        assert (await first.token(successor)).content == (await second.token(successor)).content


@pytest.mark.parametrize("after", [0, 29])
async def test_a_client_that_lost_the_answer_gets_it_again(after: float, tmp_path: Path) -> None:
    """PROTOCOL T6, also from another worker."""
    clock = Clock()
    settings = {"store_url": f"sqlite:///{tmp_path}/grants.db"}
    async with (
        BrokerDoor(settings=settings, now=clock) as first,
        BrokerDoor(settings=settings, now=clock) as second,
    ):
        form = await refresh_form(first)
        given = await first.token(form)
        clock.seconds += after
        again = await second.token(form)
        assert (again.status_code, again.content) == (200, given.content)
        assert second.idp_requests == []


async def test_a_refresh_token_that_is_used_again_later_voids_its_successors_too() -> None:
    """PROTOCOL T6, THREATS 17 (RFC 9700 §4.14.2): one of the two who have it has stolen it."""
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        form = await refresh_form(door)
        successor = refresh_request(refresh_token=json_of(await door.token(form))["refresh_token"])
        clock.seconds += 31
        exchanges = [sent for sent in door.idp_requests if sent.url.path == "/token"]
        before = await door.samples()
        response = await door.token(form)
        assert response.status_code == 400
        assert json_of(response)["error"] == "invalid_grant"
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="client",endpoint="token",reason="refresh_token_reused"}': 1
        }
        # A reuse is counted once, so that the operator sees how many there were, whoever asks again and again.
        for again in (successor, form):
            assert json_of(await door.token(again))["error"] == "invalid_grant"
        assert await door.error_count(Row.REFRESH_TOKEN_REUSED) == 1
        assert await door.error_count(Row.REFRESH_TOKEN_REVOKED) == 2
        assert [sent for sent in door.idp_requests if sent.url.path == "/token"] == exchanges


async def test_what_the_store_keeps_is_not_to_be_read(tmp_path: Path) -> None:
    """THREATS 12 and 28: whoever has the file has no token."""
    store = tmp_path / "grants.db"
    async with BrokerDoor(settings={"store_url": f"sqlite:///{store}"}) as door:
        tokens = json_of(await door.token(await refresh_form(door)))
        waiting_for = (await code_form(door))["code"]
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        renewed = json_of(await door.token(code_request(code=waiting_for)))
    for secret in (
        tokens["access_token"],
        tokens["refresh_token"],
        form_of(door.idp_requests[1])["refresh_token"],
        waiting_for,
        renewed["access_token"],
        renewed["refresh_token"],
    ):
        assert secret.encode() not in kept


async def test_a_store_that_is_down_is_never_invalid_grant_and_the_refresh_token_works_after() -> None:
    grants = PlayedGrants()
    async with BrokerDoor(grants=grants) as door:
        form = await refresh_form(door)
        asked = len(door.idp_requests)
        grants.failing = {"take_lease", "finish", "abandon", "revoke"}
        for _ in range(3):
            response = await door.token(form)
            assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
            assert response.headers["retry-after"]
        assert len(door.idp_requests) == asked
        grants.failing = set()
        assert (await door.token(form)).status_code == 200


async def test_tokens_that_the_identity_provider_gave_reach_the_client_though_the_store_is_gone() -> None:
    """The old refresh token is spent there: these are the only ones."""
    clock, grants = Clock(), PlayedGrants()
    async with BrokerDoor(grants=grants, now=clock) as door:
        form = await refresh_form(door)
        grants.failing = {"finish"}
        response = await door.token(form)
        assert response.status_code == 200
        grants.failing = set()
        successor = refresh_request(refresh_token=json_of(response)["refresh_token"])
        assert (await door.token(successor)).status_code == 200


async def test_a_turn_that_cannot_be_given_back_ends_by_itself_and_says_what_went_wrong() -> None:
    clock, grants = Clock(), PlayedGrants()
    async with BrokerDoor(grants=grants, now=clock) as door:
        form = await refresh_form(door)
        provider, door.idp = door.idp, lambda _: httpx.Response(500)
        grants.failing = {"abandon"}
        assert (await door.token(form)).status_code == 502
        assert await door.error_count(Row.IDP_SERVER_ERROR) == 1
        grants.failing, door.idp = set(), provider
        clock.seconds += 11
        assert (await door.token(form)).status_code == 200


@pytest.mark.parametrize("cancelled_by", ["the server", "an anyio scope"])
async def test_an_exchange_that_is_cancelled_gives_its_turn_back(cancelled_by: str) -> None:
    async with BrokerDoor(grants=(grants := PlayedGrants())) as door:
        form = await refresh_form(door)
        provider = door.idp
        asked, _ = waiting(door)
        if cancelled_by == "the server":
            request = asyncio.create_task(door.token(form))
            await asked.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(door.token, form)
                await asked.wait()
                group.cancel_scope.cancel()
        assert grants.reached == ["add", "take_lease", "abandon"]
        assert await door.error_count(Row.CANCELLED) == 1
        assert await door.value("oauth_idp_requests_total", operation="token", outcome="cancelled") == 1
        door.idp = provider
        assert (await door.token(form)).status_code == 200


async def test_who_waits_for_another_request_that_fails_then_has_the_turn() -> None:
    async with BrokerDoor() as door:
        form = await refresh_form(door)
        provider = door.idp
        asked, answer = asyncio.Event(), asyncio.Event()

        async def down(_: httpx.Request) -> httpx.Response:
            asked.set()
            await answer.wait()
            door.idp = provider
            return httpx.Response(503)

        door.idp = down
        answers: list[int] = []

        async def refresh() -> None:
            answers.append((await door.token(form)).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(refresh)
            await asked.wait()
            group.start_soon(refresh)
            await anyio.wait_all_tasks_blocked()
            answer.set()
        assert answers == [502, 200]


async def test_a_clock_that_was_set_back_logs_nobody_out() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        form = await refresh_form(door)
        clock.seconds -= 3600
        successor = json_of(await door.token(form))["refresh_token"]
        assert (await door.token(refresh_request(refresh_token=successor))).status_code == 200


async def test_a_door_that_lost_its_store_goes_on_with_every_login(tmp_path: Path) -> None:
    async with BrokerDoor(settings={"store_url": f"sqlite:///{tmp_path}/first.db"}) as before:
        renewed = json_of(await before.token(await refresh_form(before)))
        async with BrokerDoor(settings={"store_url": f"sqlite:///{tmp_path}/second.db"}, idp=before.idp) as after:
            form = refresh_request(refresh_token=renewed["refresh_token"])
            assert (await after.token(form)).status_code == 200


async def test_new_keys_log_nobody_out() -> None:
    old, new = "the-key-that-was-used-until-yesterday-9", "the-key-that-is-used-from-now-on-12345"
    held = PlayedHeldResponses()
    async with BrokerDoor(settings={"secret_keys": (old,)}, held=held) as before:
        code, refresh = await code_form(before), await refresh_form(before)
        async with BrokerDoor(settings={"secret_keys": (new, old)}, idp=before.idp, held=held) as rotated:
            assert (await rotated.token(code)).status_code == 200
            renewed = json_of(await rotated.token(refresh))
        async with BrokerDoor(settings={"secret_keys": (new,)}, idp=before.idp) as later:
            form = refresh_request(refresh_token=renewed["refresh_token"])
            assert (await later.token(form)).status_code == 200
            assert json_of(await later.token(refresh))["error"] == "invalid_grant"


async def test_an_answer_that_only_a_newer_key_opens_is_temporary_trouble_at_a_door_without_that_key(
    tmp_path: Path,
) -> None:
    """While keys rotate, one replica may seal already with a key that another does not have yet, or not any more."""
    old, new = "the-key-that-was-used-until-yesterday-9", "the-key-that-is-used-from-now-on-12345"
    shared = {"store_url": f"sqlite:///{tmp_path}/clients.db"}
    async with BrokerDoor(settings={**shared, "secret_keys": (old,)}) as before:
        refresh = await refresh_form(before)
        async with BrokerDoor(settings={**shared, "secret_keys": (new, old)}, idp=before.idp) as rotated:
            assert (await rotated.token(refresh)).status_code == 200
        again = await before.token(refresh)
        assert (again.status_code, json_of(again)["error"]) == (503, "temporarily_unavailable")
        assert await before.error_count(Row.STORE_FAILED) == 1


@pytest.mark.parametrize("presented", [code_form, refresh_form])
async def test_what_was_granted_for_a_resource_ends_when_the_operator_removes_it(
    presented: Callable[..., Awaitable[Form]],
) -> None:
    """Or else clients would go on to refresh tokens for it."""
    both = {"resources": (RESOURCE, f"{ISSUER}/other")}
    async with BrokerDoor(settings=both) as door:
        form = await presented(door)
        assert (await door.token({**form, "resource": RESOURCE})).status_code == 200
        form = await presented(door)
    async with BrokerDoor(settings={"resources": (f"{ISSUER}/other",)}) as door:
        for named in ({}, {"resource": f"{ISSUER}/other"}):
            refused = await door.token({**form, **named})
            assert (refused.status_code, json_of(refused)["error"]) == (400, "invalid_target")
        assert door.idp_requests == []
        assert await door.error_count(Row.BAD_RESOURCE) == 2
    async with BrokerDoor(settings={"resources": (f"{RESOURCE}/?spelt=otherwise",)}) as door:
        assert json_of(await door.token(form)).get("error") != "invalid_target"


async def test_logins_of_one_user_are_counted_for_them() -> None:
    """THREATS 10: of six clients that one user logs in with, the quota keeps three."""
    store = SqliteClientStore(Database("sqlite:///:memory:"), quota=6)
    async with BrokerDoor(clients=store, settings={"idp_scopes": "openid"}) as door:
        for _ in range(6):
            client_id = str(json_of(await door.register())["client_id"])
            code = await door.person.goes_through(client_id=client_id)
            assert (await door.token(code_request(code=code, client_id=client_id))).status_code == 200
        assert (await store.search("", offset=0, limit=10)).total == 3
        assert (await door.register()).status_code == 201
