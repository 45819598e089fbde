"""Which request counts as the first use of a login: where the store knows it, and where it does not."""

from typing import Any

import anyio
import pytest
from starlette.requests import Request

from seed_oauth.flows.grants import StoredGrant
from seed_oauth.flows.revoked import hashed
from seed_oauth.outcomes import ClientFamily
from seed_oauth.resource_server import VerifiedToken, first_use
from seed_oauth.resource_server.first_use import PAUSE, FirstUses
from tests.broker import PlayedGrants
from tests.resource_server.issuing import IDP, Clock

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000
GRANT = StoredGrant(
    grant_id="grant",
    client_id="client",
    client_name=None,
    client_family=ClientFamily.CURSOR.value,
    subject_hash=hashed("alice"),
    session_hash=None,
    scope=None,
    resource="https://door.example/mcp",
    issued_at=NOW,
    used_at=NOW,
    token_hash=hashed("number 1"),
)


def own(**changes: Any) -> VerifiedToken:
    return token(**{"grant_id": "grant", "client_id": "client", "issuer": "https://door.example", **changes})


def token(**changes: Any) -> VerifiedToken:
    of_idp: dict[str, Any] = {"subject": "alice", "client_id": "proxy", "issuer": IDP, "token_id": "number 1"}
    return VerifiedToken(**{"scopes": frozenset(), "expires_at": NOW + 300, **of_idp, **changes})


def request(user_agent: str | None = "Claude-User", method: str = "POST") -> Request:
    headers = [] if user_agent is None else [(b"user-agent", user_agent.encode())]
    return Request({"type": "http", "method": method, "headers": headers})


async def in_store() -> PlayedGrants:
    grants = PlayedGrants()
    await grants.add(GRANT, expires_at=NOW + 300)
    return grants


def uses(grants: PlayedGrants | None, clock: Clock | None = None) -> FirstUses:
    return FirstUses(grants, lambda: NOW, clock or Clock())


@pytest.mark.parametrize("presented", [own(token_id=None), token()])
async def test_the_store_tells_the_first_use_and_the_family_and_is_asked_once(presented: VerifiedToken) -> None:
    grants = await in_store()
    here, elsewhere = uses(grants), uses(grants)
    assert await here.family(request(), presented) is ClientFamily.CURSOR
    asked = len(grants.reached)
    assert [await here.family(request(), presented) for _ in range(3)] == [None] * 3
    assert len(grants.reached) == asked
    assert await elsewhere.family(request(), presented) is None


async def test_of_twenty_requests_at_once_one_is_the_first_use() -> None:
    grants, found = await in_store(), list[ClientFamily | None]()
    here, elsewhere = uses(grants), uses(grants)

    async def call(number: int) -> None:
        found.append(await (here if number % 2 else elsewhere).family(request(), own()))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(call, number)
    assert [family for family in found if family] == [ClientFamily.CURSOR]


async def test_a_refreshed_token_of_the_identity_provider_is_of_the_same_grant() -> None:
    grants = await in_store()
    here = uses(grants)
    assert await here.family(request(), token()) is ClientFamily.CURSOR
    await grants.finish("grant", 0, "answer", now=NOW, token_hash=hashed("number 2"))
    assert await here.family(request(), token(token_id="number 2")) is None


async def test_a_family_that_another_release_has_stored_is_other() -> None:
    grants = PlayedGrants()
    await grants.add(GRANT._replace(client_family="zed"), expires_at=NOW + 300)
    assert await uses(grants).family(request(), own()) is ClientFamily.OTHER


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_request_that_is_not_counted_uses_nothing(method: str) -> None:
    here = uses(await in_store())
    assert await here.family(request(method=method), own()) is None
    assert await here.family(request(), own()) is ClientFamily.CURSOR


async def test_a_store_that_fails_is_asked_again_after_a_pause() -> None:
    grants, clock = await in_store(), Clock()
    here = uses(grants, clock)
    grants.failing = {"first_use"}
    assert await here.family(request(), own()) is None
    grants.failing = set()
    clock.now += PAUSE - 1
    asked = len(grants.reached)
    assert await here.family(request(), own()) is None
    assert len(grants.reached) == asked
    clock.now += 1
    assert await here.family(request(), own()) is ClientFamily.CURSOR


async def test_without_a_store_each_process_counts_a_grant_once_and_tells_the_family_by_user_agent() -> None:
    here = uses(None)
    assert await here.family(request(), own()) is ClientFamily.CLAUDE
    assert await here.family(request("Cursor/1.7"), own()) is None
    assert await here.family(request(None), own(grant_id="another")) is ClientFamily.OTHER


@pytest.mark.parametrize("grants", [None, PlayedGrants()], ids=["without a store", "unknown to the store"])
async def test_where_no_grant_is_known_each_token_of_a_user_counts_once_for_its_client(
    grants: PlayedGrants | None,
) -> None:
    here = uses(grants)
    assert await here.family(request(), token()) is ClientFamily.CLAUDE
    assert await here.family(request(), token(token_id="number 2")) is None
    assert await here.family(request("Cursor/1.7"), token(token_id="number 3")) is ClientFamily.CURSOR
    others: tuple[dict[str, Any], ...] = (
        {"subject": "bob"},
        {"issued_at": NOW + 3600.0},
        {"session_id": "s1"},
        {"subject": None},
    )
    for number, changes in enumerate(others, 4):
        other = token(token_id=f"number {number}", **changes)
        assert await here.family(request(), other) is ClientFamily.CLAUDE
        assert await here.family(request(), other) is None


async def test_a_token_without_a_name_is_not_looked_up() -> None:
    grants = await in_store()
    assert await uses(grants).family(request(), token(token_id=None)) is ClientFamily.CLAUDE
    assert grants.reached == ["add"]


async def test_what_is_remembered_is_bounded_and_the_store_remembers_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "MOST", 2)
    here = uses(await in_store())
    found = [await here.family(request(), own(grant_id=name)) for name in ("grant", "b", "c", "grant")]
    assert found == [ClientFamily.CURSOR, None, None, None]


async def test_a_login_in_use_is_not_forgotten_for_others_that_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "MOST", 2)
    here = uses(None)
    found = [await here.family(request(), own(grant_id=name)) for name in ("a", "b", "a", "c", "a")]
    assert found == [ClientFamily.CLAUDE, ClientFamily.CLAUDE, None, ClientFamily.CLAUDE, None]


async def test_grants_do_not_displace_logins_that_only_this_process_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "MOST", 2)
    here = uses(await in_store())
    nameless = token(token_id=None)
    found = [await here.family(request(), nameless)]
    for name in ("a", "b", "c"):
        await here.family(request(), own(grant_id=name))
    assert [*found, await here.family(request(), nameless)] == [ClientFamily.CLAUDE, None]
