"""Scopes that only members of a group are granted: at the callback, at each refresh, and at the MCP server."""

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from seed_oauth.http import log_fields
from seed_oauth.outcomes import TokenOutcome
from tests.broker import BrokerDoor
from tests.endpoints.test_access import Github, Google, door_to, logs_in, opened, tokens_after
from tests.harness import form_of, json_of, query_of, refresh_request

pytestmark = pytest.mark.anyio

TABLE = {
    "group_scopes": {"ops": ["mcp:admin"], "staff": ["mcp:read"]},
    "scope_hierarchy": {"mcp:admin": ["mcp:read"]},
    "tool_scopes": {"mcp:admin": ["restart"], "mcp:read": ["status"]},
}
USERINFO = "https://openidconnect.googleapis.com/v1/userinfo"
SUBJECT = "10769150350006150715113082367"
ALL = "mail mcp:admin mcp:read"


@dataclass
class Idp(Google):
    """An identity provider that no preset is for, and that grants `scope`, whatever it is asked for."""

    issuer = "https://idp.example"
    scope: str = "openid mail"
    asked: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metadata = {**self.metadata, "issuer": self.issuer}
        # Its ID token has all that is known, as far as `answers` says nothing else.
        self.answers[USERINFO] = lambda _: httpx.Response(200, json={"sub": SUBJECT})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = super().__call__(request)
        if request.method != "POST":
            return answer
        self.asked.append(form_of(request).get("scope"))
        return httpx.Response(200, json={**json_of(answer), "scope": self.scope})


async def scopes_of(door: BrokerDoor, idp: Idp, scope: str | None = ALL) -> set[str]:
    """What a client gets that asks for `scope`; it is told what its access token has."""
    tokens = await tokens_after(door, await logs_in(door, idp, scope=scope))
    return told_by(door, tokens)


def told_by(door: BrokerDoor, tokens: dict[str, Any]) -> set[str]:
    scopes = set(opened(door, tokens["access_token"]).scope.split())
    assert set(tokens.get("scope", "").split()) == scopes
    return scopes


async def refreshed(door: BrokerDoor, tokens: dict[str, Any], **changes: str) -> dict[str, Any]:
    return json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"], **changes)))


@pytest.mark.parametrize(
    ("groups", "brought"),
    [
        (["ops"], {"mcp:admin", "mcp:read"}),
        (["staff", "other"], {"mcp:read"}),
        (["OPS", "ops "], set()),
        ([], set()),
        (None, set()),
        (["ops", *map(str, range(200))], set()),
    ],
)
async def test_only_members_get_the_scopes_of_their_groups(groups: list[str] | None, brought: set[str]) -> None:
    """THREATS 36"""
    idp = Idp({"groups": groups})
    async with door_to(idp, **TABLE) as door:
        assert await scopes_of(door, idp) == {"mail", *brought}


async def test_the_log_says_where_the_groups_are_not_known() -> None:
    idp = Idp({"groups": None})
    async with door_to(idp, **TABLE) as door:
        with capture_logs(processors=[log_fields.merge]) as lines:
            await scopes_of(door, idp)
            idp.claims = {"groups": []}
            await scopes_of(door, idp)
    returned = [line.get("groups") for line in lines if line.get("outcome") == "returned"]
    assert returned == ["unknown", None]


async def test_the_identity_provider_is_not_asked_for_them_and_what_it_says_of_them_does_not_count() -> None:
    """THREATS 36"""
    idp = Idp({"groups": ["other"]}, scope="openid mail mcp:admin mcp:read")
    async with door_to(idp, **TABLE) as door:
        assert "mcp:" not in query_of(await door.person.reaches_idp(scope=ALL))["scope"]
        tokens = await tokens_after(door, await logs_in(door, idp, scope=ALL))
        assert told_by(door, tokens) == {"mail"}
        assert told_by(door, await refreshed(door, tokens)) == {"mail"}
    assert "mcp:" not in str(idp.asked)


async def test_members_get_nothing_that_the_client_has_not_asked_for() -> None:
    idp = Idp({"groups": ["ops"]})
    async with door_to(idp, **TABLE) as door:
        assert await scopes_of(door, idp, "mail mcp:read") == {"mail", "mcp:read"}
        assert await scopes_of(door, idp, "mcp:admin") == {"mcp:admin"}
        assert "mcp:admin" not in await scopes_of(door, idp, None)


async def test_who_leaves_the_group_loses_the_scope_at_the_next_refresh_and_keeps_the_rest() -> None:
    """THREATS 36"""
    idp = Idp({"groups": ["ops"]})
    async with door_to(idp, **TABLE) as door:
        tokens = await tokens_after(door, await logs_in(door, idp, scope=ALL))
        assert told_by(door, tokens) == {"mail", "mcp:admin", "mcp:read"}
        idp.claims = {"groups": ["staff"]}
        tokens = await refreshed(door, tokens)
        assert told_by(door, tokens) == {"mail", "mcp:read"}
        tokens = await refreshed(door, tokens, scope=ALL)
        assert told_by(door, tokens) == {"mail", "mcp:read"}
        # Who is back in the group has what the client asked for at the login.
        idp.claims = {"groups": ["ops"]}
        assert told_by(door, await refreshed(door, tokens)) == {"mail", "mcp:admin", "mcp:read"}


async def test_a_refresh_gets_no_scope_of_a_group_that_the_login_did_not_ask_for() -> None:
    """RFC 6749 §6."""
    idp = Idp({"groups": ["ops"]})
    async with door_to(idp, **TABLE) as door:
        tokens = await tokens_after(door, await logs_in(door, idp, scope="mail mcp:read"))
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"], scope="mail mcp:admin"))
        assert json_of(refused)["error"] == "invalid_scope"
        assert await door.error_count(TokenOutcome.BAD_SCOPE) == 1
        assert told_by(door, await refreshed(door, tokens, scope="mcp:read")) == {"mcp:read"}


async def test_a_look_up_of_the_groups_that_fails_changes_no_grant() -> None:
    """THREATS 37"""
    idp = Idp({"groups": ["ops"]})
    async with door_to(idp, **TABLE) as door:
        tokens = await tokens_after(door, await logs_in(door, idp, scope=ALL))
        idp.claims = {}
        idp.answers[USERINFO] = lambda _: httpx.Response(500)
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert (refused.status_code, json_of(refused)["error"]) == (502, "temporarily_unavailable")
        idp.answers[USERINFO] = lambda _: httpx.Response(200, json={"sub": SUBJECT, "groups": ["ops"]})
        assert told_by(door, await refreshed(door, tokens)) == {"mail", "mcp:admin", "mcp:read"}


async def test_clients_get_our_own_access_tokens_where_a_group_brings_scopes() -> None:
    idp = Idp({"groups": ["ops"]})
    async with door_to(idp, **TABLE, access_tokens="auto") as door:
        assert "mcp:admin" in await scopes_of(door, idp)


async def test_a_github_organization_brings_scopes_in_any_case_of_its_name() -> None:
    idp = Github(orgs=["Ops"])
    table = {**TABLE, "group_scopes": {"ops": ["mcp:admin", "mcp:read"]}}
    async with door_to(idp, **table, allow_everybody=True) as door:
        tokens = await tokens_after(door, await logs_in(door, idp, scope="mcp:admin"))
        assert told_by(door, tokens) == {"mcp:admin"}
        idp.orgs = []
        assert opened(door, (await refreshed(door, tokens))["access_token"]).scope == ""
