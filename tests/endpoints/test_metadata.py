from typing import Any

import pytest
from joserfc.jwk import ECKey

from seed_oauth import Settings, SettingsError
from seed_oauth.protocol.jwk import SIGNING_ALGORITHMS
from tests.broker import BrokerDoor
from tests.harness import CALLBACK, ISSUER, FrontDoor, json_of, query_of

pytestmark = pytest.mark.anyio

AUTH_METHODS = ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"]


async def test_the_metadata_says_what_is_served(door: FrontDoor) -> None:
    """PROTOCOL M1, M2 and M3."""
    response = await door.http.get("/.well-known/oauth-authorization-server")
    assert response.headers["content-type"] == "application/json"
    assert json_of(response) == {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/oauth/authorize",
        "token_endpoint": f"{ISSUER}/oauth/token",
        "registration_endpoint": f"{ISSUER}/oauth/register",
        "revocation_endpoint": f"{ISSUER}/oauth/revoke",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "client_id_metadata_document_supported": True,
        "authorization_response_iss_parameter_supported": True,
    }


@pytest.mark.parametrize(
    ("settings", "members"),
    [
        ({"registration": "off"}, {}),
        ({"registration": "off", "contact": "it@example.com"}, {}),
        (
            {"registration": "off", "contact": "https://it.example/mcp"},
            {"service_documentation": "https://it.example/mcp"},
        ),
        (
            {"registration": "token", "registration_tokens": "an-initial-access-token-0123456789"},
            {"registration_endpoint": f"{ISSUER}/oauth/register", "initial_access_token_required": True},
        ),
    ],
)
async def test_the_metadata_says_who_may_register(settings: dict[str, Any], members: dict[str, Any]) -> None:
    """PROTOCOL R7."""
    async with FrontDoor(settings=settings) as door:
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
    about = {"registration_endpoint", "service_documentation", "initial_access_token_required"}
    assert {name: value for name, value in metadata.items() if name in about} == members


@pytest.mark.parametrize(
    "path",
    [
        "oauth-protected-resource/mcp/",
        "oauth-protected-resource/",
        "oauth-authorization-server/",
    ],
)
async def test_a_slash_at_the_end_of_a_well_known_path_makes_no_difference(door: FrontDoor, path: str) -> None:
    with_slash, without = await door.http.get(f"/.well-known/{path}"), await door.http.get(f"/.well-known/{path[:-1]}")
    assert with_slash.status_code == 200
    assert with_slash.content == without.content


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/oauth/token", "/oauth/register"])
async def test_a_page_of_the_internet_may_ask_a_server_in_a_private_network(door: FrontDoor, path: str) -> None:
    """Private Network Access: Chrome asks before, and was answered 400."""
    headers = {"Origin": "https://app.example", "Access-Control-Request-Private-Network": "true"}
    method = "GET" if "well-known" in path else "POST"
    preflight = await door.http.options(path, headers={**headers, "Access-Control-Request-Method": method})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("with_keys", [False, True])
async def test_documents_and_signed_assertions_are_advertised_where_they_are_accepted(*, with_keys: bool) -> None:
    """PROTOCOL R5 and M3."""
    jwks = {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}
    clients = [{"client_id": "a", "redirect_uris": [CALLBACK], "jwks": jwks}]
    settings = {"client_id_metadata_documents": False, "clients": clients if with_keys else []}
    async with FrontDoor(settings=settings) as door:
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
    assert "client_id_metadata_document_supported" not in metadata
    assert ("private_key_jwt" in metadata["token_endpoint_auth_methods_supported"]) == with_keys
    assert ("token_endpoint_auth_signing_alg_values_supported" in metadata) == with_keys


async def test_in_the_broker_flow_every_answer_is_ours_and_says_so() -> None:
    """PROTOCOL M3 and A8 (RFC 9207): clients may insist on `iss`."""
    async with BrokerDoor(settings={"idp_revocation_url": None}) as door:
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
        assert metadata["authorization_response_iss_parameter_supported"] is True
        assert metadata["revocation_endpoint"] == f"{ISSUER}/oauth/revoke"
        returned = await door.person.logs_in(await door.person.reaches_idp())
        assert query_of(returned.headers["location"])["iss"] == metadata["issuer"]
        for name, url in metadata.items():
            if name.endswith("_endpoint"):
                assert (await door.http.post(url)).status_code == 400


async def test_every_endpoint_that_is_advertised_answers(door: FrontDoor) -> None:
    """PROTOCOL M3."""
    metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
    for name, url in metadata.items():
        if name.endswith("_endpoint"):
            assert (await door.http.post(url)).status_code == 400


@pytest.mark.parametrize("prefix", ["", "/tenant"])
async def test_an_issuer_with_a_path_is_found_in_every_form(prefix: str) -> None:
    """PROTOCOL M1 and M2; with and without a reverse proxy that strips the path."""
    issuer = f"{ISSUER}/tenant"
    async with FrontDoor(settings={"issuer": issuer}) as door:
        for path in ("/.well-known/oauth-authorization-server/tenant", "/.well-known/oauth-authorization-server"):
            metadata = json_of(await door.http.get(path))
            assert metadata["issuer"] == issuer
            assert metadata["token_endpoint"] == f"{issuer}/oauth/token"
        assert (await door.http.post(f"{prefix}/oauth/token")).status_code == 400
        assert (await door.http.post(f"{prefix}/oauth/register", json={})).status_code == 400
        assert (await door.http.get(f"{prefix}/oauth/authorize")).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ],
)
async def test_there_is_no_openid_configuration_because_there_are_no_id_tokens(path: str) -> None:
    """OpenID Connect Discovery §3 requires members that would be untrue; clients go on to RFC 8414's path."""
    async with FrontDoor(settings={"issuer": f"{ISSUER}/tenant"}) as door:
        assert (await door.http.get(path)).status_code == 404


async def test_the_protected_resource_names_its_authorization_server() -> None:
    """PROTOCOL M4 (RFC 9728)."""
    settings = {"scopes": "mail files", "resources": "https://one.example/mcp,https://two.example/other/"}
    async with FrontDoor(settings=settings) as door:
        first = json_of(await door.http.get("/.well-known/oauth-protected-resource/mcp"))
        assert first == {
            "resource": "https://one.example/mcp",
            "authorization_servers": [ISSUER],
            "scopes_supported": ["mail", "files"],
            "bearer_methods_supported": ["header"],
        }
        assert json_of(await door.http.get("/.well-known/oauth-protected-resource")) == first
        second = json_of(await door.http.get("/.well-known/oauth-protected-resource/other"))
        assert second["resource"] == "https://two.example/other/"


async def test_no_resource_says_that_its_clients_should_ask_for_offline_access() -> None:
    """PROTOCOL M4: a refresh token is a client's own wish, and clients ask for every scope that is advertised."""
    with pytest.raises(SettingsError, match="must not contain offline_access"):
        Settings.load(scopes="mail offline_access")
    async with BrokerDoor(settings={"scopes": "mail", "idp_scopes": "offline_access"}) as door:
        document = json_of(await door.http.get("/.well-known/oauth-protected-resource/mcp"))
    assert document["scopes_supported"] == ["mail"]


async def test_metadata_can_be_read_from_any_origin(door: FrontDoor) -> None:
    """PROTOCOL M6."""
    for path in (
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/mcp",
        "/openapi.json",
    ):
        response = await door.http.get(path, headers={"Origin": "https://app.example"})
        assert response.headers["access-control-allow-origin"] == "*"
        # It may be cached, and what a cache has for one origin is not for all.
        assert (await door.http.get(path)).headers["vary"] == "Origin"
        preflight = await door.http.options(
            path,
            headers={
                "Origin": "https://app.example",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "mcp-protocol-version",
            },
        )
        assert preflight.status_code == 200


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server/x", "/x", "/"])
async def test_what_is_not_there_is_a_json_404(door: FrontDoor, path: str) -> None:
    """PROTOCOL M7."""
    response = await door.http.get(path)
    assert response.status_code == 404
    assert json_of(response)["error"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/x", "/login"])
async def test_a_person_who_looks_for_something_here_is_told_what_the_server_is_for(path: str) -> None:
    async with FrontDoor(settings={"server_name": "Example <Tools>"}) as door:
        page = await door.http.get(path, headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "Example &lt;Tools&gt; is for MCP clients" in page.text
    assert f"{ISSUER}/mcp" in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
