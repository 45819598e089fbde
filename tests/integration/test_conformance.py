"""The front door before the official MCP conformance suite, for each flow and each version of the specification."""

from pathlib import Path

import pytest

from tests.cli.test_cli import free_port, serving
from tests.harness import json_of
from tests.integration.conformance import conformance
from tests.integration.keycloak import Keycloak
from tests.integration.person import Person

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("keycloak", "node")]


@pytest.mark.parametrize("spec_version", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("flow", ["broker", "relay"])
async def test_the_suite_finds_nothing_wrong(flow: str, spec_version: str, keycloak: Keycloak, tmp_path: Path) -> None:
    door_port, port = free_port(), free_port()
    door, redirect_uri = f"http://127.0.0.1:{door_port}", f"http://127.0.0.1:{port}/callback"
    registration = await keycloak.register(
        redirect_uris=[f"{door}/oauth/callback" if flow == "broker" else redirect_uri],
        resource=f"{door}/mcp",
        # In the relay flow its `iss` would reach the suite, which rightly refuses it: it is not the door's.
        sends_iss=flow == "broker",
    )
    environment = {**registration.settings, "SEED_OAUTH_FLOW": flow}
    async with serving(tmp_path, environment, port=door_port) as server, Person(registration.user) as person:
        metadata = {"redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none"}
        registered = await server.http.post(f"{door}/oauth/register", json=metadata)
        checks = await conformance(
            door,
            spec_version=spec_version,
            client_id=json_of(registered)["client_id"],
            port=port,
            resource=f"{door}/mcp",
            person=person,
            folder=tmp_path / "report",
        )
    assert checks == {
        "authorization-server-metadata": "SUCCESS",
        "authorization-server-metadata-cimd": "SUCCESS",
        "authorization-code-grant": "SUCCESS",
    }
