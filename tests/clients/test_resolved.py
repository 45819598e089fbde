"""Where a client is looked for: in the settings, at its URL, in the store."""

from typing import ClassVar

import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.clients.resolved import ResolvedClientStore
from seed_oauth.outcomes import AuthorizationOutcome
from tests.broker import KnownClients
from tests.harness import (
    CALLBACK,
    PUBLIC,
    SETTINGS,
    TOKENS,
    BrokenStore,
    FrontDoor,
    RelayDoor,
    code_request,
    document,
    json_of,
    query_of,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


SECRET = "0123456789abcdef0123456789ABCDEF"
URL = "https://app.example/oauth/client.json"
PREREGISTERED = {"client_id": "settings", "redirect_uris": [CALLBACK], "client_name": "Ours", "scope": "mail"}


async def test_a_client_in_the_settings_works_when_the_store_is_down() -> None:
    async with RelayDoor(settings={"clients": [PREREGISTERED]}, clients=BrokenStore()) as door:
        assert (await door.authorize(client_id="settings")).status_code == 302
        assert (await door.token(code_request(client_id="settings"))).status_code == 200
        assert (await door.token(code_request())).status_code == 503
        assert (await door.register()).status_code == 503
        assert (await door.http.get("/readyz")).status_code == 503


async def test_a_client_in_the_settings_has_the_name_and_scope_that_are_set_there() -> None:
    settings = Settings(**{**SETTINGS, "clients": [PREREGISTERED, {**PREREGISTERED, "client_id": "b", "scope": None}]})
    store = ResolvedClientStore(BrokenStore(), settings.clients)
    named, without_scope = await store.get("settings"), await store.get("b")
    assert named is not None
    assert without_scope is not None
    assert (named.metadata, named.scope) == ({"client_name": "Ours"}, "mail")
    assert (without_scope.metadata, without_scope.scope) == ({"client_name": "Ours"}, None)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_client_in_the_settings_authenticates_with_its_secret(method: str) -> None:
    """PROTOCOL T3."""
    client = {**PREREGISTERED, "client_secret": SECRET, "token_endpoint_auth_method": method}
    async with RelayDoor(settings={"clients": [client]}) as door:
        for secret, status in ((SECRET, 200), (SECRET + "x", 401)):
            if method == "client_secret_basic":
                response = await door.token(code_request(client_id=None), auth=("settings", secret))
            else:
                response = await door.token(code_request(client_id="settings", client_secret=secret))
            assert response.status_code == status
        assert (await door.token(code_request(client_id="settings"))).status_code == 401


async def test_an_operator_may_vouch_for_a_client_that_publishes_a_document() -> None:
    """Then the document is not even asked for."""
    async with RelayDoor(settings={"clients": [{**PREREGISTERED, "client_id": URL}]}) as door:
        assert (await door.authorize(client_id=URL)).status_code == 302
        assert door.document_requests == []


async def test_a_client_that_publishes_a_document_logs_in_without_registering() -> None:
    """PROTOCOL R5."""
    async with RelayDoor(documents=lambda _: httpx.Response(200, json=document(URL))) as door:
        response = await door.authorize(client_id=URL)
        assert query_of(response.headers["location"])["redirect_uri"] == CALLBACK
        assert json_of(await door.token(code_request(client_id=URL)))["access_token"] == TOKENS["access_token"]
        evil = await door.authorize(client_id=URL, redirect_uri="https://evil.example/")
        assert (evil.status_code, "location" in evil.headers) == (400, False)
        (asked,) = door.document_requests
        assert str(asked.url) == URL


async def test_the_page_of_a_person_says_which_rule_a_document_breaks() -> None:
    content = document("https://evil.example/<script>")
    async with RelayDoor(documents=lambda _: httpx.Response(200, json=content)) as door:
        door.http.headers["Accept"] = "text/html"
        page = await door.authorize(client_id=URL)
        assert page.status_code == 400
        assert "For its developer: the document at this client_id must have its own URL as its client_id" in page.text
        assert "evil" not in page.text
        assert await door.error_count(AuthorizationOutcome.BAD_CLIENT_DOCUMENT) == 1


async def test_a_client_id_that_is_issued_never_looks_like_a_document(door: FrontDoor) -> None:
    """Draft, "Supporting Both Pre-Registered and Unregistered Clients"."""
    assert not json_of(await door.register())["client_id"].startswith("https://")


async def test_only_of_a_client_that_registered_it_is_noted_that_it_is_used() -> None:
    """The others cannot be forgotten, and their logins go on without the store."""

    class Watched(KnownClients):
        marked: ClassVar[list[str]] = []

        async def mark_used(self, client_id: str, subject: str | None = None) -> None:
            self.marked.append(client_id)

    store = Watched(PUBLIC)
    settings = {"clients": [PREREGISTERED]}
    documents = lambda _: httpx.Response(200, json=document(URL))  # noqa: E731 - as above
    async with RelayDoor(documents=documents, settings=settings, clients=store) as door:
        for client_id in ("settings", URL, "public"):
            assert (await door.token(code_request(client_id=client_id))).status_code == 200
    assert store.marked == ["public"]
