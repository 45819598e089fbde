"""What is stored of a grant, and how access ends that the operator takes back (PROTOCOL M11, THREATS 17)."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from seed_oauth import Pipeline, Settings, protect
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import Selection, StoredGrant
from seed_oauth.flows.issued_grants import LONGEST_NAME
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked, hashed
from seed_oauth.http.answer import json_response
from seed_oauth.outcomes import TokenOutcome as Row
from seed_oauth.storage.open import open_stores
from tests.broker import IDP, BrokerDoor, Clock, PlayedGrants
from tests.harness import (
    SETTINGS,
    code_request,
    increases,
    json_of,
    query_of,
    refresh_request,
    registration_request,
)
from tests.resource_server.issuing import rsa_key, signed

pytestmark = pytest.mark.anyio

RESOURCE = "https://door.example/mcp"
DAY = 86_400


def idp(request: httpx.Request) -> httpx.Response:
    """An identity provider whose access tokens are for the MCP server, each with an ID of its own."""
    if request.url.path == "/keys":
        return httpx.Response(200, json={"keys": [rsa_key().as_dict(private=False)]})
    if request.url.path != "/token":
        return httpx.Response(200)
    now = int(time())
    claims = {"iss": IDP, "aud": RESOURCE, "sub": "alice", "iat": now, "exp": now + 300, "jti": f"{request.content!r}"}
    tokens = {"access_token": signed(claims), "token_type": "bearer", "expires_in": 300, "refresh_token": "rt"}
    id_token = signed({**claims, "aud": "proxy", "sid": "session of alice"}, typ="JWT")
    return httpx.Response(200, json={**tokens, "id_token": id_token})


def settings_of(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "store_url": f"sqlite:///{tmp_path}/store.db",
        "idp_issuer_claim": IDP,
        "idp_jwks_url": f"{IDP}/keys",
        **more,
    }


async def code_at(door: BrokerDoor, **changes: str | None) -> str:
    """The code of a new login."""
    at_idp = await door.person.reaches_idp(**changes)
    returned = await door.person.returns(state=query_of(at_idp)["state"], code="code")
    return query_of(returned.headers["location"])["code"]


async def login(door: BrokerDoor, **changes: str | None) -> dict[str, Any]:
    client_id = changes.get("client_id") or "public"
    code = await code_at(door, **changes)
    return json_of(await door.token(code_request(code=code, client_id=client_id)))


async def found(tmp_path: Path, **chosen: Any) -> list[StoredGrant]:
    stores = open_stores(Settings(**{**SETTINGS, **settings_of(tmp_path)}))
    try:
        return [*await stores.grants.search(Selection(**chosen), now=time())]
    finally:
        await stores.aclose()


async def revoke(tmp_path: Path, **chosen: Any) -> int:
    """What `seed-oauth grants revoke` does."""
    stores = open_stores(Settings(**{**SETTINGS, **settings_of(tmp_path)}))
    try:
        revocation = GrantRevocation(stores.grants, Revocations(stores.revocations), time, lifetime=DAY)
        return await revocation.revoke(Selection(**chosen))
    finally:
        await stores.aclose()


async def refreshed(door: BrokerDoor, tokens: dict[str, Any]) -> httpx.Response:
    return await door.token(refresh_request(refresh_token=tokens["refresh_token"]))


async def test_a_grant_is_stored_when_its_code_is_redeemed_without_any_token(tmp_path: Path) -> None:
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path)) as door:
        door.person = door.somebody("52.1.2.3")
        code = await code_at(door, scope="files:read")
        assert await found(tmp_path) == []
        tokens = json_of(await door.token(code_request(code=code)))
        (grant,) = await found(tmp_path)
        assert grant._replace(grant_id="", issued_at=0, used_at=0, token_hash=None) == StoredGrant(
            grant_id="",
            client_id="public",
            client_name=None,
            client_family="other",
            subject_hash=hashed("alice"),
            session_hash=hashed("session of alice"),
            scope="files:read",
            resource=RESOURCE,
            issued_at=0,
            used_at=0,
            address="52.1.2.3",
        )
        assert grant.issued_at == grant.used_at
        assert abs(grant.issued_at - time()) < 60
        stored = (tmp_path / "store.db").read_bytes() + (tmp_path / "store.db-wal").read_bytes()
        for secret in (*tokens.values(), "alice", "session of alice", code):
            assert str(secret).encode() not in stored or secret in {"Bearer", 300, "files:read"}


@pytest.mark.parametrize(("name", "stored"), [("Claude", "Claude"), ("x" * 200, "x" * LONGEST_NAME)])
async def test_it_has_the_name_of_the_client_and_its_family(name: str, stored: str, tmp_path: Path) -> None:
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path)) as door:
        claude = registration_request(client_name=name, redirect_uris=["https://claude.ai/api/mcp/auth_callback"])
        client_id = json_of(await door.http.post("/oauth/register", json=claude))["client_id"]
        redirect_uri = "https://claude.ai/api/mcp/auth_callback"
        code = await code_at(door, client_id=client_id, redirect_uri=redirect_uri)
        form = code_request(code=code, client_id=client_id, redirect_uri=redirect_uri)
        assert (await door.token(form)).status_code == 200
        (grant,) = await found(tmp_path)
        assert (grant.client_name, grant.client_family) == (stored, "claude")


async def test_of_an_ipv6_address_the_network_is_stored(tmp_path: Path) -> None:
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path)) as door:
        door.person = door.somebody("2600:1f14:1:2:3:4:5:6")
        await login(door)
        (grant,) = await found(tmp_path)
        assert grant.address == "2600:1f14:1:2::/64"


async def test_without_a_rate_limit_no_address_is_known(tmp_path: Path) -> None:
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path, rate_limit_authorize="")) as door:
        door.person = door.somebody("52.1.2.3")
        await login(door)
        (grant,) = await found(tmp_path)
        assert grant.address is None


async def test_a_grant_without_a_refresh_token_lasts_as_long_as_its_access_token(tmp_path: Path) -> None:
    clock = Clock(time())

    def without_refresh_token(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": "at", "token_type": "bearer", "expires_in": 300})

    async with BrokerDoor(idp=without_refresh_token, settings=settings_of(tmp_path), now=clock) as door:
        await login(door)
        stores = open_stores(Settings(**{**SETTINGS, **settings_of(tmp_path)}))
        for later, listed in ((299, 1), (301, 0)):
            assert len(await stores.grants.search(Selection(), now=clock.seconds + later)) == listed
        await stores.aclose()


async def test_nobody_gets_tokens_whose_grant_cannot_be_stored() -> None:
    """THREATS 34."""
    async with BrokerDoor(idp=idp, grants=(grants := PlayedGrants())) as door:
        code = await code_at(door)
        grants.failing = {"add"}
        response = await door.token(code_request(code=code))
        assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
        assert await door.error_count(Row.STORE_FAILED) == 1


@pytest.mark.parametrize(
    "chosen", [{"subject_hash": hashed("alice")}, {"client_id": "public"}, {}], ids=["user", "client", "everybody"]
)
async def test_a_code_and_a_grant_that_is_not_stored_are_refused_as_well(
    chosen: dict[str, Any], tmp_path: Path
) -> None:
    """The store may have lost the grant, and a login may be on its way."""
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path)) as door:
        tokens, code = await login(door), await code_at(door)
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute("DELETE FROM grants")
        connection.close()
        assert await revoke(tmp_path, **chosen) == 0
        before = await door.samples()
        for response in (await door.token(code_request(code=code)), await refreshed(door, tokens)):
            assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="user",endpoint="token",reason="grant_revoked"}': 2
        }
        assert await found(tmp_path) == []


async def test_what_was_issued_before_the_operators_time_ends_and_what_comes_later_does_not(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    async with BrokerDoor(idp=idp, settings=settings, now=Clock(time() - 100)) as door:
        tokens, code = await login(door), await code_at(door)
    before = datetime.fromtimestamp(time() - 50, UTC).isoformat()
    async with BrokerDoor(idp=idp, settings={**settings, "revoke_before": before}, now=Clock(time() - 45)) as door:
        for response in (await door.token(code_request(code=code)), await refreshed(door, tokens)):
            assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert await door.error_count(Row.GRANT_REVOKED) == 2
        assert (await refreshed(door, await login(door))).status_code == 200


Ends = Callable[[BrokerDoor, Path, dict[str, Any]], Awaitable[object]]


async def by_user(_: BrokerDoor, tmp_path: Path, __: dict[str, Any]) -> None:
    await revoke(tmp_path, subject_hash=hashed("alice"))


async def by_grant(_: BrokerDoor, tmp_path: Path, __: dict[str, Any]) -> None:
    grants = await found(tmp_path)
    assert await revoke(tmp_path, grant_id=grants[0].grant_id) == 1


async def by_session(_: BrokerDoor, tmp_path: Path, __: dict[str, Any]) -> None:
    assert await revoke(tmp_path, session_hash=hashed("session of alice")) == 1


async def by_client(_: BrokerDoor, tmp_path: Path, __: dict[str, Any]) -> None:
    assert await revoke(tmp_path, client_id="public") == 1


async def by_everybody(_: BrokerDoor, tmp_path: Path, __: dict[str, Any]) -> None:
    assert await revoke(tmp_path) == 1


async def by_the_client_itself(door: BrokerDoor, _: Path, tokens: dict[str, Any]) -> None:
    form = {"token": tokens["refresh_token"], "client_id": "public"}
    assert (await door.http.post("/oauth/revoke", data=form)).status_code == 200


@pytest.fixture
async def mcp_server(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An MCP server elsewhere that is protected with the door's store."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await json_response({}, 200)(scope, receive, send)

    settings = Settings(**{**SETTINGS, **settings_of(tmp_path)})
    protected = protect(app, settings, pipeline=Pipeline(), transport=httpx.MockTransport(idp))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(protected), base_url="https://door.example") as http:
        yield http
    await protected.aclose()


@pytest.mark.parametrize("access_tokens", ["idp", "own"])
@pytest.mark.parametrize("refreshes", [0, 2])
@pytest.mark.parametrize("end", [by_user, by_grant, by_session, by_client, by_everybody, by_the_client_itself])
async def test_the_access_token_of_a_grant_ends_with_it_whoever_issued_it(
    end: Ends, refreshes: int, access_tokens: str, tmp_path: Path, mcp_server: httpx.AsyncClient
) -> None:
    """The newest one: of an identity provider's earlier ones nothing is stored."""
    async with BrokerDoor(idp=idp, settings=settings_of(tmp_path, access_tokens=access_tokens)) as door:
        tokens = await login(door)
        for _ in range(refreshes):
            tokens = json_of(await refreshed(door, tokens))
        assert (tokens["access_token"].count(".") == 2) is (access_tokens == "idp")
        await end(door, tmp_path, tokens)
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        response = await mcp_server.get("/mcp", headers=headers)
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
        assert (await refreshed(door, tokens)).status_code == 400


@pytest.mark.parametrize(
    ("claims", "issued_in"),
    [
        ({"sub": "bob", "jti": "one"}, 0),
        ({"sub": "alice"}, 30),
        ({"sub": "bob", "uti": "two", "sid": "session of bob"}, 0),
    ],
)
async def test_other_tokens_of_the_identity_provider_are_good(
    claims: dict[str, Any], issued_in: int, tmp_path: Path, mcp_server: httpx.AsyncClient
) -> None:
    now = int(time())
    token = signed({"iss": IDP, "aud": RESOURCE, "iat": now + issued_in, "exp": now + 300, **claims})
    await revoke(tmp_path, subject_hash=hashed("alice"))
    await revoke(tmp_path, session_hash=hashed("session of alice"))
    assert (await mcp_server.get("/mcp", headers={"Authorization": f"Bearer {token}"})).status_code == 200


@pytest.mark.parametrize(
    "claims", [{"uti": "as Entra ID calls it"}, {"jti": "as Entra ID calls it", "uti": "other"}, {"sid": "ended"}]
)
async def test_a_token_of_the_identity_provider_is_refused_by_its_id_and_its_session(
    claims: dict[str, Any], tmp_path: Path, mcp_server: httpx.AsyncClient
) -> None:
    now = int(time())
    token = signed({"iss": IDP, "aud": RESOURCE, "sub": "bob", "iat": now, "exp": now + 300, **claims})
    stores = open_stores(Settings(**{**SETTINGS, **settings_of(tmp_path)}))
    revocations = Revocations(stores.revocations)
    await revocations.revoke(Revoked.TOKEN, hashed("as Entra ID calls it"))
    await revocations.revoke(Revoked.SESSION, hashed("ended"))
    await stores.aclose()
    assert (await mcp_server.get("/mcp", headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_a_token_that_does_not_say_when_it_was_issued_ends_with_everything(tmp_path: Path) -> None:
    token = signed({"iss": IDP, "aud": RESOURCE, "sub": "bob", "exp": int(time()) + 300})
    for changes, status in (({}, 200), ({"revoke_before": "2020-01-01T00:00:00Z"}, 401)):
        settings = Settings(**{**SETTINGS, **settings_of(tmp_path), **changes})

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await json_response({}, 200)(scope, receive, send)

        protected = protect(app, settings, pipeline=Pipeline(), transport=httpx.MockTransport(idp))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(protected), base_url="https://door.example") as http:
            assert (await http.get("/mcp", headers={"Authorization": f"Bearer {token}"})).status_code == status
        await protected.aclose()
