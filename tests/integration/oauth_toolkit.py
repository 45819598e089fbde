"""django-oauth-toolkit, one for each front door: how it is started."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cli.test_cli import free_port
from tests.integration.identity_providers import SCOPE, Registration
from tests.integration.python_programs import packaged_command
from tests.integration.real_parts import ready, running

CLIENT_ID = "mcp-front-door"
SECRET = "secret of the door at django-oauth-toolkit"
USER = {"username": "alice", "password": "password of alice"}


@asynccontextmanager
async def oauth_toolkit(folder: Path, *, redirect_uris: Sequence[str]) -> AsyncIterator[Registration]:
    """A django-oauth-toolkit that knows one front door, and gives it opaque access tokens, once it answers."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    client = {"client_id": CLIENT_ID, "client_secret": SECRET, "redirect_uris": redirect_uris}
    configuration = json.dumps({"port": port, "client": client, "user": USER, "scope": SCOPE})
    log = folder / "oauth_toolkit.log"
    with running(packaged_command("oauth_toolkit.py", configuration), log) as process:
        await ready(f"{issuer}/.well-known/openid-configuration", process, log)
        # The button of its consent page is pressed as it came, and so needs no answer here.
        yield Registration(issuer=issuer, client_id=CLIENT_ID, client_secret=SECRET, user=USER)
