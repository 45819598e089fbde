"""`/oauth/account`: users see which applications have access, and end it (THREATS 38, 39, 40)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import httpx
import orjson
import pytest

from seed_oauth import Settings
from seed_oauth.flows.transaction import IdpLogin
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import AccountOutcome as Row
from seed_oauth.outcomes import CallbackOutcome
from tests.broker import IDP, BrokerDoor, Clock, Person, PlayedGrants, PlayedMetadata, link_in, request_in
from tests.harness import (
    ISSUER,
    SETTINGS,
    code_request,
    form_of,
    increases,
    json_of,
    query_of,
    refresh_request,
    registration_request,
    rows_of_every_endpoint,
    sealer_of,
)
from tests.resource_server.issuing import rsa_key, signed

pytestmark = pytest.mark.anyio

ACCOUNT = "/oauth/account"
PAGE = f"{ISSUER}{ACCOUNT}"


class Idp:
    """An identity provider at which `user` logs in next, or somebody of whom it says nothing."""

    user: str | None = "alice"
    nonce: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [rsa_key().as_dict(private=False)]})
        now = int(time())
        tokens: dict[str, Any] = {
            "access_token": "at",
            "token_type": "bearer",
            "expires_in": 300,
            "refresh_token": "rt",
        }
        if self.user is not None and form_of(request)["grant_type"] == "authorization_code":
            claims = {"iss": IDP, "aud": "proxy", "sub": self.user, "iat": now, "exp": now + 300, "nonce": self.nonce}
            tokens["id_token"] = signed(claims, typ="JWT")
        return httpx.Response(200, json=tokens)


def door_of(
    idp: Callable[[httpx.Request], httpx.Response] | None = None, settings: Mapping[str, Any] | None = None, **more: Any
) -> BrokerDoor:
    settings = {"idp_issuer_claim": IDP, "idp_jwks_url": f"{IDP}/keys", **(settings or {})}
    return BrokerDoor(idp=idp or Idp(), settings=settings, **more)


async def comes_back(person: Person, **sent: str) -> httpx.Response:
    """The answer of the callback to somebody who has opened the page and been at the identity provider."""
    at_idp = (await person.http.get(ACCOUNT)).headers["location"]
    return await person.returns(state=query_of(at_idp)["state"], **(sent or {"code": "code"}))


async def signs_in(person: Person) -> httpx.Response:
    """The page, after a login."""
    returned = await comes_back(person)
    assert (returned.status_code, returned.headers["location"]) == (302, PAGE)
    return await person.http.get(ACCOUNT)


async def connects(door: BrokerDoor, **changes: str | None) -> dict[str, Any]:
    """The tokens of an application that a user connects."""
    at_idp = await door.person.reaches_idp(**changes)
    returned = await door.person.returns(state=query_of(at_idp)["state"], code="code")
    code = query_of(returned.headers["location"])["code"]
    redeemed = {name: changes[name] for name in ("client_id", "redirect_uri") if name in changes}
    return json_of(await door.token(code_request(code=code, **redeemed)))


async def is_connected(door: BrokerDoor, tokens: Mapping[str, Any]) -> bool:
    return (await door.token(refresh_request(refresh_token=tokens["refresh_token"]))).status_code == 200


def grants_on(page: httpx.Response) -> list[str]:
    """The IDs of the grants that have a button on the page."""
    return [found for found in re.findall(r'name="grant" value="([^"]*)"', page.text) if found != "all"]


async def test_whoever_opens_the_page_logs_in_at_the_identity_provider_without_a_client() -> None:
    async with door_of() as door:
        before = await door.samples()
        response = await door.person.http.get(ACCOUNT)
        assert response.status_code == 302
        sent = query_of(response.headers["location"])
        assert response.headers["location"].startswith(f"{IDP}/authorize?")
        assert sent["redirect_uri"] == f"{ISSUER}/oauth/callback"
        assert (sent["response_type"], sent["code_challenge_method"], len(sent["code_challenge"])) == (
            "code",
            "S256",
            43,
        )
        login = IdpLogin.returned(sealer_of(Settings(**SETTINGS)), sent["state"], time())
        assert login.transaction.client_id == ""
        assert increases(before, await door.samples()) == {}


async def test_after_the_login_the_applications_are_listed_and_nobody_has_got_a_code_or_a_grant() -> None:
    async with door_of() as door:
        door.person = door.somebody("52.1.2.3")
        metadata = registration_request(client_name="Notes & more", redirect_uris=["https://notes.example/callback"])
        client_id = json_of(await door.http.post("/oauth/register", json=metadata))["client_id"]
        await connects(door, client_id=client_id, redirect_uri="https://notes.example/callback", scope="files:read")
        await connects(door)
        before = await door.samples()
        returned = await comes_back(door.person)
        assert returned.headers["location"] == PAGE
        page = await door.person.http.get(ACCOUNT)
        grown = increases(before, await door.samples())
        assert grown['oauth_callbacks_total{result="success"}'] == 1
        assert not [name for name in grown if name.startswith(("oauth_flow_steps", "oauth_errors"))]
        assert page.status_code == 200
        assert len(grants_on(page)) == 2
        for text in ("Notes &amp; more", "Unnamed application", "files:read", "52.1.2.3", "https://door.example/mcp"):
            assert text in page.text
        assert "Notes & more" not in page.text
        assert "<script" not in page.text


async def test_the_page_has_the_security_headers_of_the_consent_page() -> None:
    async with door_of() as door:
        consent, page = await door.person.opens(), await signs_in(door.person)
        names = ("content-security-policy", "x-frame-options", "referrer-policy", "cache-control")
        for name in (*names, "x-content-type-options", "strict-transport-security"):
            assert page.headers[name] == consent.headers[name]
        assert "access-control-allow-origin" not in page.headers


async def test_the_session_is_a_sealed_cookie_of_this_host_for_ten_minutes() -> None:
    """THREATS 40."""
    clock = Clock(time())
    async with door_of(now=clock) as door:
        returned = await comes_back(door.person)
        (cookie,) = [one for one in returned.headers.get_list("set-cookie") if "-account=" in one]
        assert cookie.startswith("__Host-seed-oauth-account=")
        assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax", "Max-Age=600"} <= set(cookie.split("; ")[1:])
        assert "alice" not in cookie
        clock.seconds += 601
        assert (await door.person.http.get(ACCOUNT)).status_code == 302


async def test_nobody_sees_the_page_with_a_cookie_of_another_browser_or_a_made_up_one() -> None:
    """THREATS 40."""
    async with door_of() as door:
        await signs_in(door.person)
        cookie = door.person.http.cookies["__Host-seed-oauth-account"]
        for value in (cookie, "made up", ""):
            other = door.somebody()
            await other.opens()
            other.http.cookies.set("__Host-seed-oauth-account", value)
            assert (await other.http.get(ACCOUNT)).status_code == 302


async def test_a_user_sees_no_grants_of_anybody_else() -> None:
    """THREATS 39."""
    idp = Idp()
    async with door_of(idp) as door:
        await connects(door)
        idp.user = "mallory"
        assert grants_on(await signs_in(door.somebody())) == []


async def test_a_grant_that_is_revoked_is_gone_and_others_stay() -> None:
    async with door_of() as door:
        tokens, others = await connects(door), await connects(door)
        page = await signs_in(door.person)
        newest, *_ = grants_on(page)
        before = await door.samples()
        response = await door.person.http.post(ACCOUNT, data={"request": request_in(page), "grant": newest})
        assert (response.status_code, response.headers["location"]) == (303, PAGE)
        assert increases(before, await door.samples()) == {}
        assert grants_on(await door.person.http.get(ACCOUNT)) == grants_on(page)[1:]
        assert [await is_connected(door, one) for one in (tokens, others)].count(True) == 1


async def test_all_grants_of_the_user_end_and_nobody_elses() -> None:
    idp = Idp()
    async with door_of(idp) as door:
        of_alice = [await connects(door), await connects(door)]
        idp.user = "bob"
        of_bob = await connects(door)
        idp.user = "alice"
        page = await signs_in(door.person)
        response = await door.person.http.post(ACCOUNT, data={"request": request_in(page), "grant": "all"})
        assert response.status_code == 303
        assert "No application has access" in (await door.person.http.get(ACCOUNT)).text
        assert [await is_connected(door, one) for one in (*of_alice, of_bob)] == [False, False, True]


@pytest.mark.parametrize("grant", ["somebody else's", "made up", ""])
async def test_what_is_not_a_grant_of_the_user_is_not_revoked(grant: str) -> None:
    """THREATS 39: also for a form that names somebody else's grant."""
    idp = Idp()
    async with door_of(idp) as door:
        tokens = await connects(door)
        if grant == "somebody else's":
            (grant,) = grants_on(await signs_in(door.person))
        idp.user, mallory = "mallory", door.somebody()
        page = await signs_in(mallory)
        response = await mallory.http.post(ACCOUNT, data={"request": request_in(page), "grant": grant})
        assert (response.status_code, response.headers["location"]) == (303, PAGE)
        assert await is_connected(door, tokens)


@dataclass
class Case:
    """A form that ends in `row`: what is changed in a good one, who submits it and how many seconds late."""

    row: Row
    changes: Mapping[str, str] = field(default_factory=dict)
    by: str = "the same"
    after: float = 0.0


FORMS = [
    # THREATS 38: forged.
    Case(Row.BAD_FORM, {"request": ""}),
    Case(Row.BAD_FORM, {"request": "made up"}),
    Case(Row.BAD_FORM, by="the consent page"),
    Case(Row.OTHER_BROWSER, by="somebody else"),
    Case(Row.OTHER_BROWSER, by="somebody without cookies"),
    Case(Row.EXPIRED, after=601),
    Case(Row.EXPIRED, by="another user in the same browser"),
    Case(Row.EXPIRED, by="the same, without a session"),
]


@pytest.mark.parametrize("case", FORMS, ids=lambda case: f"{case.row.reason}-{case.changes}-{case.by}")
async def test_a_form_that_is_not_the_users_own_revokes_nothing(case: Case) -> None:
    """THREATS 38."""
    idp, clock = Idp(), Clock(time())
    async with door_of(idp, now=clock) as door:
        tokens = await connects(door)
        page = await signs_in(door.person)
        sender, form = door.person, {"request": request_in(page), "grant": "all"}
        if case.by.startswith("somebody"):
            sender, idp.user = door.somebody(), "mallory"
        if case.by == "somebody else":
            await signs_in(sender)
        if case.by == "the consent page":
            form["request"] = request_in(await door.person.opens())
        if case.by == "another user in the same browser":
            idp.user = "bob"
            door.person.http.cookies.delete("__Host-seed-oauth-account")
            await signs_in(door.person)
        if case.by == "the same, without a session":
            door.person.http.cookies.delete("__Host-seed-oauth-account")
        clock.seconds += case.after
        before = await door.samples()
        response = await sender.http.post(ACCOUNT, data={**form, **case.changes})
        assert response.status_code == case.row.status
        assert "Nothing was changed" in response.text
        if case.row.cause == "user":
            assert link_in(response) == PAGE
        assert increases(before, await door.samples()) == {
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="account",reason="{case.row.reason}"}}': 1
        }
        assert await is_connected(door, tokens)


async def test_without_an_identity_provider_there_is_no_page() -> None:
    async with BrokerDoor(settings={"idp_authorization_url": None}) as door:
        response = await door.person.http.get(ACCOUNT)
        assert response.status_code == 503
        assert await door.error_count(Row.NOT_CONFIGURED) == 1


async def test_an_identity_provider_that_cannot_be_asked_is_the_operators_trouble() -> None:
    metadata = PlayedMetadata(failure=IdentityProviderError(IdentityProviderFailure.UNREACHABLE))
    async with door_of(metadata=metadata) as door:
        response = await door.person.http.get(ACCOUNT)
        assert (response.status_code, "cannot be reached" in response.text) == (503, True)
        assert await door.error_count(Row.IDP_UNAVAILABLE) == 1


@pytest.mark.parametrize("failing", ["search", "revoke"])
async def test_a_store_that_fails_is_a_503_and_the_form_can_be_submitted_again(failing: str) -> None:
    async with door_of(grants=(grants := PlayedGrants())) as door:
        tokens = await connects(door)
        page = await signs_in(door.person)
        form = {"request": request_in(page), "grant": grants_on(page)[0]}
        grants.failing = {failing}
        assert (await door.person.http.post(ACCOUNT, data=form)).status_code == 503
        assert await door.error_count(Row.STORE_FAILED) == 1
        assert (await door.person.http.get(ACCOUNT)).status_code == (503 if failing == "search" else 200)
        grants.failing = set()
        assert (await door.person.http.post(ACCOUNT, data=form)).status_code == 303
        assert not await is_connected(door, tokens)


async def test_a_login_that_fails_ends_on_a_page_and_not_in_a_circle() -> None:
    async with door_of() as door:
        returned = await comes_back(door.person, error="access_denied")
        assert returned.headers["location"].startswith(f"{PAGE}?error=access_denied&")
        page = await door.person.http.get(returned.headers["location"])
        assert (page.status_code, link_in(page)) == (400, PAGE)
        assert await door.error_count(CallbackOutcome.DENIED) == 1
        assert await door.error_count(Row.LOGIN_FAILED) == 1


async def test_nothing_of_a_forged_error_is_on_the_page() -> None:
    async with door_of() as door:
        parameters = {"error": "call 555-1234", "error_description": "your account is at risk"}
        page = await door.person.http.get(ACCOUNT, params=parameters)
        assert "555" not in page.text
        assert "risk" not in page.text


async def test_an_exchange_that_fails_leads_back_to_the_page_as_well() -> None:
    async with door_of(idp=lambda _: httpx.Response(400, json={"error": "invalid_grant"})) as door:
        returned = await comes_back(door.person)
        assert returned.headers["location"].startswith(f"{PAGE}?error=")
        assert await door.error_count(CallbackOutcome.IDP_INVALID_GRANT) == 1


async def test_a_user_of_whom_the_identity_provider_says_nothing_is_told_so() -> None:
    idp = Idp()
    idp.user = None
    async with door_of(idp) as door:
        page = await comes_back(door.person)
        assert (page.status_code, "does not say who you are" in page.text) == (403, True)
        assert "set-cookie" not in page.headers
        assert await door.error_count(CallbackOutcome.NO_SUBJECT) == 1


async def test_the_access_rules_hold_here_as_well() -> None:
    idp = Idp()
    async with door_of(idp, {"allowed_subjects": "bob", "contact": "it@example.com"}) as door:
        at_idp = query_of((await door.person.http.get(ACCOUNT)).headers["location"])
        idp.nonce = at_idp["nonce"]
        page = await door.person.returns(state=at_idp["state"], code="code")
        assert (page.status_code, "ask it@example.com for access" in page.text) == (403, True)
        assert PAGE not in page.text
        assert "set-cookie" not in page.headers
        assert await door.error_count(CallbackOutcome.NOT_ALLOWED) == 1


async def test_a_login_that_began_in_another_browser_signs_nobody_in() -> None:
    """THREATS 40: session fixation."""
    async with door_of() as door:
        at_idp = (await door.somebody().http.get(ACCOUNT)).headers["location"]
        await door.person.opens()
        page = await door.person.returns(state=query_of(at_idp)["state"], code="code")
        assert (page.status_code, PAGE in page.text) == (403, True)
        assert "set-cookie" not in page.headers
        assert await door.error_count(CallbackOutcome.OTHER_BROWSER) == 1


async def test_a_login_that_took_too_long_signs_nobody_in() -> None:
    clock = Clock(time())
    async with door_of(now=clock) as door:
        at_idp = (await door.person.http.get(ACCOUNT)).headers["location"]
        clock.seconds += 1801
        page = await door.person.returns(state=query_of(at_idp)["state"], code="code")
        assert (page.status_code, PAGE in page.text) == (400, True)
        assert await door.error_count(CallbackOutcome.EXPIRED) == 1


async def test_the_state_of_a_clients_login_signs_nobody_in() -> None:
    async with door_of() as door:
        at_idp = await door.person.reaches_idp()
        await door.person.returns(state=query_of(at_idp)["state"], code="code")
        assert "__Host-seed-oauth-account" not in door.person.http.cookies


async def test_the_audit_trail_has_who_has_revoked_what(tmp_path: Path) -> None:
    trail = tmp_path / "audit.log"
    async with door_of(settings={"audit_log": str(trail), "audit_subject": "clear"}) as door:
        await connects(door)
        await connects(door)
        page = await signs_in(door.person)
        newest, *_ = grants_on(page)
        for grant in (newest, "all"):
            await door.person.http.post(ACCOUNT, data={"request": request_in(page), "grant": grant})
    records = [orjson.loads(line) for line in trail.read_text().splitlines()]
    one, every = [record for record in records if record["event.action"] == "grant_revoked"]
    assert (one["user.id"], one["oauth.grant.id"], one["oauth.client.id"]) == ("alice", newest, "public")
    assert every["user.id"] == "alice"
    assert "oauth.grant.id" not in every
    assert {record["event.reason"] for record in (one, every)} == {"revoked"}


async def test_the_consent_page_links_to_it() -> None:
    async with door_of() as door:
        assert f'<a href="{PAGE}">' in (await door.person.opens()).text


def test_every_row_of_the_table_has_a_case() -> None:
    apart = {Row.NOT_CONFIGURED, Row.LOGIN_FAILED, Row.IDP_UNAVAILABLE, Row.STORE_FAILED}
    apart |= {Row.REDIRECTED_TO_IDP, Row.SHOWN, Row.NOTHING_TO_REVOKE, Row.REVOKED}
    assert {case.row for case in FORMS} | rows_of_every_endpoint(Row) | apart == set(Row)
