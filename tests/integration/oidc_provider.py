"""panva's oidc-provider, one for each front door: how it is started."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cli.test_cli import free_port
from tests.integration.identity_providers import SCOPE, Registration
from tests.integration.node_programs import node_command
from tests.integration.real_parts import ready, running

CLIENT_ID = "mcp-front-door"
SECRET = "secret of the door at oidc-provider"
USER = {"login": "alice", "password": "any password"}


@asynccontextmanager
async def oidc_provider(
    folder: Path, *, redirect_uris: Sequence[str], resource: str, scope: str = SCOPE
) -> AsyncIterator[Registration]:
    """An oidc-provider that knows one front door, and gives it access tokens for `resource`, once it answers."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    client = {"client_id": CLIENT_ID, "client_secret": SECRET, "redirect_uris": redirect_uris}
    configuration = json.dumps({"port": port, "client": client, "resource": resource, "scope": scope})
    log = folder / "oidc_provider.log"
    with running(node_command(folder, "oidc_provider.mjs", configuration), log) as process:
        await ready(f"{issuer}/.well-known/openid-configuration", process, log)
        yield Registration(issuer=issuer, client_id=CLIENT_ID, client_secret=SECRET, user=USER)
