from collections.abc import Mapping

import httpx
import pytest

from seed_oauth.outcomes import RevocationOutcome as Row
from tests.harness import (
    DOCUMENT_DOWN,
    DOCUMENT_GONE,
    BrokenStore,
    FrontDoor,
    IdentityProvider,
    RelayDoor,
    form_of,
    increases,
    json_of,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


TOKEN = {"token": "the token", "client_id": "public"}


def down(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def test_a_token_is_revoked_at_the_identity_provider(door: FrontDoor) -> None:
    """PROTOCOL V1 (RFC 7009)."""
    response = await door.http.post("/oauth/revoke", data={**TOKEN, "token_type_hint": "refresh_token"})
    assert (response.status_code, response.content) == (200, b"")
    (sent,) = door.idp_requests
    assert str(sent.url) == "https://idp.example/revoke"
    assert form_of(sent) == {"token": "the token", "token_type_hint": "refresh_token"}
    assert sent.headers["authorization"].startswith("Basic ")
    assert await door.value("oauth_idp_requests_total", operation="revocation", outcome="ok") == 1


async def test_a_token_that_the_identity_provider_does_not_know_is_revoked_too() -> None:
    """PROTOCOL V1 (RFC 7009 §2.2)."""
    answer = {"error": "unsupported_token_type"}
    async with RelayDoor(idp=lambda _: httpx.Response(400, json=answer)) as door:
        response = await door.http.post("/oauth/revoke", data=TOKEN)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("row", "form", "error", "status", "idp", "broken_store"),
    [
        (Row.UNKNOWN_CLIENT, {**TOKEN, "client_id": "nobody"}, "invalid_client", 401, None, False),
        (Row.BAD_CLIENT_DOCUMENT, {**TOKEN, "client_id": DOCUMENT_GONE}, "invalid_client", 401, None, False),
        (
            Row.CLIENT_DOCUMENT_UNAVAILABLE,
            {**TOKEN, "client_id": DOCUMENT_DOWN},
            "temporarily_unavailable",
            503,
            None,
            False,
        ),
        (Row.BAD_CLIENT_AUTHENTICATION, {**TOKEN, "client_id": "basic"}, "invalid_client", 401, None, False),
        (Row.CLIENT_LOOKUP_FAILED, TOKEN, "temporarily_unavailable", 503, None, True),
        (Row.MISSING_PARAMETER, {"client_id": "public"}, "invalid_request", 400, None, False),
        (Row.IDP_REFUSED_OUR_CREDENTIALS, TOKEN, "server_error", 502, lambda _: httpx.Response(401), False),
        (Row.IDP_FAILED, TOKEN, "temporarily_unavailable", 503, lambda _: httpx.Response(500), False),
        (Row.IDP_FAILED, TOKEN, "temporarily_unavailable", 503, down, False),
    ],
)
async def test_a_revocation_that_fails_is_answered_and_counted_as_its_row(
    row: Row, form: Mapping[str, str], error: str, status: int, idp: IdentityProvider | None, broken_store: bool
) -> None:
    door = RelayDoor(clients=BrokenStore() if broken_store else None)
    door.idp = idp or door.idp
    async with door:
        before = await door.samples()
        response = await door.http.post("/oauth/revoke", data=form)
        assert response.status_code == status
        assert json_of(response)["error"] == error
        grown = increases(before, await door.samples())
        errors = {name: by for name, by in grown.items() if name.startswith("oauth_errors_total")}
        assert errors == {f'oauth_errors_total{{cause="{row.cause}",endpoint="revoke",reason="{row.reason}"}}': 1}
        assert not [name for name in grown if "exchange" in name]


async def test_there_is_no_revocation_where_the_identity_provider_has_none() -> None:
    async with RelayDoor(settings={"idp_revocation_url": None}) as door:
        assert (await door.http.post("/oauth/revoke", data=TOKEN)).status_code == 404
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
    assert "revocation_endpoint" not in metadata
