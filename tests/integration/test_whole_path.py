"""Real MCP clients, from 401 to a tool call after a refresh, with the front door before each real identity provider."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.certificates import authority_pem
from tests.cli.test_cli import free_port, serving
from tests.clients.test_client_documents import Publisher
from tests.harness import document, query_of
from tests.http_client.test_guarded_transport import publishing
from tests.integration.conftest import Register
from tests.integration.identity_providers import SCOPE, Registration
from tests.integration.keycloak import Keycloak
from tests.integration.mcp_programs import client_command, mcp_server, whole_path
from tests.integration.person import Person

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("sdk", ["python", pytest.param("typescript", marks=pytest.mark.real_parts("node"))]),
]

TOLD = {"sums": [3, 7], "tokens": 2}
"""What each client tells in the end: both calls succeeded, and the tokens of the second came by a refresh."""


@pytest.fixture
def door() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def resource() -> str:
    return f"http://127.0.0.1:{free_port()}/mcp"


async def pages_of_whole_path(
    sdk: str,
    folder: Path,
    door: str,
    resource: str,
    registration: Registration,
    documented_at: str | None = None,
    **environment: str,
) -> list[str]:
    """The pages that a person sees while a client takes the whole path."""
    client = client_command(sdk, folder)
    protection = {
        "authorization_server": door,
        "resource": resource,
        "scope": SCOPE,
        "issuer": registration.issuer,
        "jwks_uri": (await registration.metadata())["jwks_uri"],
    }
    environment = {**registration.settings, "SEED_OAUTH_RESOURCES": resource, **environment}
    async with (
        serving(folder, environment, port=urlsplit(door).port),
        mcp_server(folder, resource, protection),
        Person(registration.user) as person,
    ):
        assert await whole_path(client, resource, person, folder, documented_at) == TOLD
        return person.visited


async def test_an_sdk_logs_in_calls_a_tool_refreshes_and_calls_again(
    sdk: str, register: Register, tmp_path: Path, door: str, resource: str
) -> None:
    async with register(redirect_uris=[f"{door}/oauth/callback"], resource=resource) as registration:
        pages = await pages_of_whole_path(sdk, tmp_path, door, resource, registration)
    consent, onward, *login = pages
    assert consent.startswith(f"{door}/oauth/authorize?")
    assert onward == f"{door}/oauth/consent"
    assert all(urlsplit(page).netloc == urlsplit(registration.issuer).netloc for page in login)


@pytest.mark.parametrize("access_tokens", ["auto", "own"])
async def test_an_sdk_does_the_same_with_the_mcp_server_behind_the_door(
    sdk: str, access_tokens: str, register: Register, tmp_path: Path, door: str, resource: str
) -> None:
    """The tool is called with the identity provider's JWT, and with a token of the door's own."""
    client, behind, public = client_command(sdk, tmp_path), resource, f"{door}/mcp"
    async with register(redirect_uris=[f"{door}/oauth/callback"], resource=public) as registration:
        environment = {
            **registration.settings,
            "SEED_OAUTH_MCP_SERVER": behind,
            "SEED_OAUTH_REQUIRED_SCOPES": SCOPE,
            "SEED_OAUTH_ACCESS_TOKENS": access_tokens,
        }
        async with (
            mcp_server(tmp_path, behind),
            serving(tmp_path, environment, port=urlsplit(door).port),
            Person(registration.user) as person,
        ):
            assert await whole_path(client, public, person, tmp_path) == TOLD


async def test_an_sdk_that_publishes_its_metadata_does_the_same_without_registering(
    sdk: str, register: Register, tmp_path: Path, door: str, resource: str
) -> None:
    """PROTOCOL R5: its client_id is the URL of its document, which the door fetches."""
    publisher = Publisher()
    authority = tmp_path / "authority.pem"
    authority.write_text(authority_pem())
    trusting = {"SEED_OAUTH_CLIENT_DOCUMENTS_ON_LOOPBACK": "true", "SSL_CERT_FILE": str(authority)}
    async with (
        publishing(publisher, "127.0.0.1") as port,
        register(redirect_uris=[f"{door}/oauth/callback"], resource=resource) as registration,
    ):
        client_id = f"https://127.0.0.1:{port}/client.json"
        publisher.files["/client.json"] = document(client_id, redirect_uris=["http://127.0.0.1/callback"])
        consent, *_ = await pages_of_whole_path(
            sdk, tmp_path, door, resource, registration, documented_at=client_id, **trusting
        )
    assert query_of(consent)["client_id"] == client_id
    assert publisher.asked == ["/client.json"]


@pytest.mark.real_parts("keycloak")
async def test_an_sdk_does_the_same_in_the_relay_flow_where_the_idp_accepts_its_redirect_uri(
    sdk: str, keycloak: Keycloak, tmp_path: Path, door: str, resource: str
) -> None:
    # An `iss` of the identity provider's own is refused by clients that compare it with the door's (RFC 9207 §2.4).
    registration = await keycloak.register(
        redirect_uris=["http://127.0.0.1/callback"], resource=resource, sends_iss=False
    )
    pages = await pages_of_whole_path(sdk, tmp_path, door, resource, registration, SEED_OAUTH_FLOW="relay")
    assert all(page.startswith(keycloak.url) for page in pages)
