"""Who may come in to which MCP server: each may have rules besides the common ones (THREATS 36)."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from seed_oauth.outcomes import CallbackOutcome, TokenOutcome
from tests.broker import BrokerDoor, target_of
from tests.endpoints.test_access import Entra, Google, logs_in, tokens_after
from tests.endpoints.test_access import door_to as door_of
from tests.harness import CALLBACK, ISSUER, code_request, json_of, query_of, refresh_request
from tests.resource_server.issuing import signed

pytestmark = pytest.mark.anyio

MAIL, PAYROLL = f"{ISSUER}/mail", f"{ISSUER}/payroll"
FINANCE = {"allowed_groups": "finance", "denied_subjects": "7"}


def door_to(idp: Google, *, payroll: dict[str, Any] | None = None, **settings: Any) -> BrokerDoor:
    """A door to two MCP servers; only finance may use the second one."""
    rules = FINANCE if payroll is None else payroll
    servers = [
        {"resource": MAIL, "url": "http://127.0.0.1:9/mail"},
        {"resource": PAYROLL, "url": "http://127.0.0.1:9/payroll", **rules},
    ]
    return door_of(idp, mcp_servers=servers, **{"access_tokens": "auto", "idp_send_resource": True, **settings})


async def comes_in(door: BrokerDoor, idp: Google, resource: str | None) -> bool:
    """Whether somebody gets a code; who does not has got the page."""
    returned = await logs_in(door, idp, resource=resource)
    assert returned.status_code in {302, 403}
    return "code" in query_of(returned.headers.get("location", ""))


async def test_who_may_use_one_server_gets_the_page_at_the_other(tmp_path: Path) -> None:
    trail = tmp_path / "audit.log"
    idp = Entra({"groups": ["staff"]})
    async with door_to(idp, contact="it@example.com", audit_log=str(trail)) as door:
        assert "access_token" in await tokens_after(door, await logs_in(door, idp, resource=MAIL))
        with capture_logs() as lines:
            page = await logs_in(door, idp, resource=PAYROLL)
        assert (page.status_code, "location" in page.headers) == (403, False)
        assert "This account may not use this server: ask it@example.com for access" in page.text
        assert f'href="{CALLBACK}?code' not in page.text
        assert await door.error_count(CallbackOutcome.NOT_ALLOWED) == 1
    (line,) = [line for line in lines if line.get("outcome") == "not_allowed"]
    assert line["access"] == f"ALLOWED_GROUPS of {PAYROLL}: no match"
    records = [json.loads(record) for record in trail.read_text().splitlines()]
    (denied,) = [record for record in records if record["event.action"] == "access_denied"]
    assert (denied["event.reason"], denied["oauth.resource"]) == ("not_allowed", PAYROLL)


@pytest.mark.parametrize(
    ("common", "claims", "at_mail", "at_payroll"),
    [
        ({}, {"groups": ["finance"]}, True, True),
        ({}, {"groups": None}, True, False),
        ({}, {"groups": ["finance"], "sub": "7"}, True, False),
        ({"allowed_groups": "staff"}, {"groups": ["staff"]}, True, False),
        ({"allowed_groups": "staff"}, {"groups": ["finance"]}, False, True),
        ({"denied_groups": "guests"}, {"groups": ["finance", "guests"]}, False, False),
        ({"denied_subjects": "8"}, {"groups": ["finance"], "sub": "8"}, False, False),
    ],
)
async def test_nobody_may_deny_a_user_and_the_servers_rules_that_allow_replace_the_common_ones(
    common: dict[str, Any], claims: dict[str, Any], at_mail: bool, at_payroll: bool
) -> None:
    """THREATS 36"""
    idp = Entra(claims)
    async with door_to(idp, **common) as door:
        assert await comes_in(door, idp, MAIL) == at_mail
        assert await comes_in(door, idp, PAYROLL) == at_payroll


async def test_a_server_that_only_denies_keeps_the_common_rules_that_allow() -> None:
    idp = Entra({"groups": ["staff", "contractors"]})
    async with door_to(idp, payroll={"denied_groups": "contractors"}, allowed_groups="staff") as door:
        assert await comes_in(door, idp, MAIL)
        assert not await comes_in(door, idp, PAYROLL)
        idp.claims = {"groups": ["staff"]}
        assert await comes_in(door, idp, PAYROLL)
        idp.claims = {"groups": ["others"]}
        assert not await comes_in(door, idp, PAYROLL)


async def test_who_has_left_the_group_is_out_at_the_next_refresh_and_goes_on_elsewhere() -> None:
    """THREATS 36"""
    idp = Entra({"groups": ["finance"]})
    async with door_to(idp) as door:
        tokens = {
            resource: (await tokens_after(door, await logs_in(door, idp, resource=resource)))["refresh_token"]
            for resource in (MAIL, PAYROLL)
        }
        idp.claims = {"groups": ["staff"]}
        with capture_logs() as lines:
            refused = await door.token(refresh_request(refresh_token=tokens[PAYROLL]))
        assert (refused.status_code, json_of(refused)["error"]) == (400, "invalid_grant")
        assert await door.error_count(TokenOutcome.NOT_ALLOWED) == 1
        (line,) = [line for line in lines if line.get("outcome") == "not_allowed"]
        assert line["access"] == f"ALLOWED_GROUPS of {PAYROLL}: no match"
        assert (await door.token(refresh_request(refresh_token=tokens[MAIL]))).status_code == 200


async def test_the_rules_are_those_of_the_resource_that_the_login_is_for_however_it_is_written() -> None:
    idp = Entra({"groups": ["staff"]})
    async with door_to(idp) as door:
        for spelling in (PAYROLL, f"{PAYROLL}/", f"{PAYROLL}?x=y", PAYROLL.replace("https://door", "HTTPS://DOOR")):
            assert not await comes_in(door, idp, spelling), spelling
        # RFC 8707 §2: without one, the login is for the default.
        assert await comes_in(door, idp, None)
    async with door_to(idp, resources=PAYROLL) as door:
        assert not await comes_in(door, idp, None)


async def test_neither_a_code_nor_a_refresh_token_becomes_one_for_another_server() -> None:
    """THREATS 36 (RFC 8707 §2.2)"""
    idp = Entra({"groups": ["staff"]})
    async with door_to(idp) as door:
        code = query_of((await logs_in(door, idp, resource=MAIL)).headers["location"])["code"]
        refused = await door.token(code_request(code=code, resource=PAYROLL))
        assert json_of(refused)["error"] == "invalid_target"
        tokens = json_of(await door.token(code_request(code=code)))
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"], resource=PAYROLL))
        assert json_of(refused)["error"] == "invalid_target"
        assert await door.error_count(TokenOutcome.BAD_RESOURCE) == 2
        authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await door.http.post("/mail", headers=authorization)).status_code == 502
        assert (await door.http.post("/payroll", headers=authorization)).status_code == 401


@dataclass
class ForBoth(Entra):
    """An identity provider that writes the same audience into every token, as with an audience mapper of Keycloak."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = super().__call__(request)
        if request.method != "POST":
            return answer
        claims = {"iss": self.issuer, "sub": "8", "aud": [MAIL, PAYROLL], "exp": time() + 300, "iat": time()}
        return httpx.Response(200, json={**json_of(answer), "access_token": signed(claims)})


async def test_no_client_gets_a_token_of_the_identity_provider_that_may_be_for_several_servers() -> None:
    """THREATS 36"""
    idp = ForBoth({"groups": ["staff"]})
    async with door_to(idp, payroll={}) as door:
        token = (await tokens_after(door, await logs_in(door, idp, resource=MAIL)))["access_token"]
        authorization = {"Authorization": f"Bearer {token}"}
        assert (await door.http.post("/payroll", headers=authorization)).status_code == 502
    async with door_to(idp) as door:
        tokens = await tokens_after(door, await logs_in(door, idp, resource=MAIL))
        refreshed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
        for token in (tokens["access_token"], refreshed["access_token"]):
            authorization = {"Authorization": f"Bearer {token}"}
            assert (await door.http.post("/mail", headers=authorization)).status_code == 502
            assert (await door.http.post("/payroll", headers=authorization)).status_code == 401


async def test_a_remembered_consent_lets_nobody_in() -> None:
    """THREATS 36"""
    idp = Entra({"groups": ["finance"]})
    async with door_to(idp) as door:
        page = await door.person.opens(resource=PAYROLL)
        at_idp = query_of(target_of(await door.person.decides(page, remember="on")))
        idp.nonce = at_idp["nonce"]
        assert (await door.person.returns(code="the code", state=at_idp["state"])).is_redirect
        assert (await door.person.opens(resource=PAYROLL)).is_redirect
        for claims in ({"groups": ["staff"]}, {"groups": ["staff"], "sub": "somebody else at the browser"}):
            idp.claims = claims
            assert not await comes_in(door, idp, PAYROLL)


async def test_who_may_use_one_of_the_servers_sees_the_account_page_and_nobody_else() -> None:
    idp = Entra({"groups": ["finance"]})

    async def signs_in(door: BrokerDoor) -> httpx.Response:
        at_idp = query_of((await door.somebody().http.get("/oauth/account")).headers["location"])
        idp.nonce = at_idp["nonce"]
        return await door.people[-1].returns(code="the code", state=at_idp["state"])

    async with door_to(idp, allowed_groups="staff") as door:
        assert (await signs_in(door)).is_redirect
        idp.claims = {"groups": ["others"]}
        with capture_logs() as lines:
            assert (await signs_in(door)).status_code == 403
    (line,) = [line for line in lines if line.get("outcome") == "not_allowed"]
    assert line["access"] == f"ALLOWED_GROUPS: no match; ALLOWED_GROUPS of {PAYROLL}: no match"


async def test_where_the_server_is_not_known_nobody_comes_in_to_it() -> None:
    """A replica may have read the settings before another one: it must not decide by other rules."""
    idp = Entra({"groups": ["finance"]})
    async with door_to(idp) as door, door_of(idp, resources=MAIL) as other:
        at_idp = query_of(await door.person.reaches_idp(resource=PAYROLL))
        idp.nonce = at_idp["nonce"]
        other.person.http.cookies = door.person.http.cookies
        with capture_logs() as lines:
            page = await other.person.returns(code="the code", state=at_idp["state"])
        assert page.status_code == 403
    (line,) = [line for line in lines if line.get("outcome") == "not_allowed"]
    assert line["access"] == "the resource is not protected here any more"


@pytest.mark.parametrize(("group", "status"), [("finance", 200), ("staff", 400)])
async def test_a_grant_from_before_the_rules_meets_them_at_its_next_refresh(
    group: str, status: int, tmp_path: Path
) -> None:
    idp = Entra({"groups": [group]})
    store = {"store_url": f"sqlite:///{tmp_path}/store.db"}
    async with door_to(idp, payroll={}, **store) as door:
        refresh_token = (await tokens_after(door, await logs_in(door, idp, resource=PAYROLL)))["refresh_token"]
    # The operator writes the resource in another way, too.
    async with door_to(idp, payroll={**FINANCE, "resource": f"{PAYROLL}/"}, **store) as door:
        assert (await door.token(refresh_request(refresh_token=refresh_token))).status_code == status


async def test_the_identity_provider_is_asked_for_what_the_rules_of_any_server_need() -> None:
    idp = Entra({"groups": ["finance"]})
    async with door_to(idp) as door:
        asked = query_of(await door.person.reaches_idp(scope="mail", resource=MAIL))
        assert "openid" in asked["scope"].split()
