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
from tests.integration.oauth_toolkit import oauth_toolkit
from tests.integration.person import Person

pytestmark = pytest.mark.anyio

SDKS = ["python", pytest.param("typescript", marks=pytest.mark.real_parts("node"))]
CLIENTS = [
    *SDKS,
    pytest.param("fastmcp", marks=pytest.mark.real_parts("python packages")),
    pytest.param("mcp-remote", marks=pytest.mark.real_parts("node")),
]
each_sdk = pytest.mark.parametrize("client", SDKS)
each_client = pytest.mark.parametrize("client", CLIENTS)

TOLD = {"sums": [3, 7], "tokens": 2}
"""What each client tells in the end: both calls succeeded, and the tokens of the second came by a refresh."""


@pytest.fixture
def door() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def resource() -> str:
    return f"http://127.0.0.1:{free_port()}/mcp"


async def pages_of_whole_path(
    client: str,
    folder: Path,
    door: str,
    resource: str,
    registration: Registration,
    documented_at: str | None = None,
    **environment: str,
) -> list[str]:
    """The pages that a person sees while a client takes the whole path."""
    command = client_command(client, folder)
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
        assert await whole_path(command, resource, person, folder, documented_at) == TOLD
        return person.visited


async def whole_path_through_the_door(
    client: str, folder: Path, door: str, behind: str, registration: Registration, **environment: str
) -> None:
    """The whole path to an MCP server that the door passes requests on to, and that checks no tokens."""
    environment = {
        **registration.settings,
        "SEED_OAUTH_MCP_SERVER": behind,
        "SEED_OAUTH_REQUIRED_SCOPES": SCOPE,
        **environment,
    }
    async with (
        mcp_server(folder, behind),
        serving(folder, environment, port=urlsplit(door).port),
        Person(registration.user) as person,
    ):
        assert await whole_path(client_command(client, folder), f"{door}/mcp", person, folder) == TOLD


@each_client
async def test_a_client_logs_in_calls_a_tool_refreshes_and_calls_again(
    client: str, register: Register, tmp_path: Path, door: str, resource: str
) -> None:
    async with register(redirect_uris=[f"{door}/oauth/callback"], resource=resource) as registration:
        pages = await pages_of_whole_path(client, tmp_path, door, resource, registration)
    consent, onward, *login = pages
    assert consent.startswith(f"{door}/oauth/authorize?")
    assert onward == f"{door}/oauth/consent"
    assert all(urlsplit(page).netloc == urlsplit(registration.issuer).netloc for page in login)


@each_sdk
@pytest.mark.parametrize("access_tokens", ["auto", "own"])
async def test_an_sdk_does_the_same_with_the_mcp_server_behind_the_door(
    client: str, access_tokens: str, register: Register, tmp_path: Path, door: str, resource: str
) -> None:
    """The tool is called with the identity provider's JWT, and with a token of the door's own."""
    async with register(redirect_uris=[f"{door}/oauth/callback"], resource=f"{door}/mcp") as registration:
        await whole_path_through_the_door(
            client, tmp_path, door, resource, registration, SEED_OAUTH_ACCESS_TOKENS=access_tokens
        )


@pytest.mark.real_parts("python packages")
@each_client
async def test_a_client_does_the_same_where_the_access_tokens_of_the_idp_are_opaque(
    client: str, tmp_path: Path, door: str, resource: str
) -> None:
    """Without a setting the tool is called with a token of the door's own, as there is no JWT to check."""
    async with oauth_toolkit(tmp_path, redirect_uris=[f"{door}/oauth/callback"]) as registration:
        await whole_path_through_the_door(client, tmp_path, door, resource, registration)


@each_sdk
async def test_an_sdk_that_publishes_its_metadata_does_the_same_without_registering(
    client: str, register: Register, tmp_path: Path, door: str, resource: str
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
            client, tmp_path, door, resource, registration, documented_at=client_id, **trusting
        )
    assert query_of(consent)["client_id"] == client_id
    assert publisher.asked == ["/client.json"]


@each_sdk
@pytest.mark.real_parts("keycloak")
async def test_an_sdk_does_the_same_in_the_relay_flow_where_the_idp_accepts_its_redirect_uri(
    client: str, keycloak: Keycloak, tmp_path: Path, door: str, resource: str
) -> None:
    # An `iss` of the identity provider's own is refused by clients that compare it with the door's (RFC 9207 §2.4).
    registration = await keycloak.register(
        redirect_uris=["http://127.0.0.1/callback"], resource=resource, sends_iss=False
    )
    pages = await pages_of_whole_path(client, tmp_path, door, resource, registration, SEED_OAUTH_FLOW="relay")
    assert all(page.startswith(keycloak.url) for page in pages)
