"""What a request takes does not depend on how many MCP servers there are: instructions under valgrind, one and 200."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from time import time

import aiohttp
import pytest
from broker import SECRET_KEYS
from callgrind import Callgrind
from instructions import Counting, served
from run import identity_provider

from seed_oauth import Settings
from tests.harness import CALLBACK, authorization_request
from tests.resource_server.issuing import own_token

pytestmark = pytest.mark.real_parts("valgrind")

TOLERANCE = 0.03
DOOR = "https://door.example"
LAST = f"{DOOR}/servers/0"
"""The last of them in the settings."""
PATHS = ("call", "challenge", "verify", "metadata", "register", "authorize")


async def counted(base: str, callgrind: Callgrind) -> dict[str, float]:
    """The instructions of each kind of request."""
    now = time()
    settings = Settings(issuer=DOOR, secret_keys=SECRET_KEYS)  # type: ignore[arg-type]  # pydantic takes text
    token = own_token(settings, resource=LAST, issued_at=now, expires_at=int(now) + 3600)
    authorization = {"Authorization": f"Bearer {token}"}
    asked = {
        "X-Original-URI": "/servers/0",
        "X-Original-Method": "POST",
        "X-Forwarded-Host": "door.example",
        "X-Forwarded-Proto": "https",
    }
    registration = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    async with aiohttp.ClientSession(base) as http:

        def asking(method: str, path: str, status: int, **options: object) -> Callable[[int], Awaitable[str]]:
            async def ask(_: int) -> str:
                async with http.request(method, path, **options) as answer:  # type: ignore[arg-type]  # its options
                    assert answer.status == status, await answer.text()
                    return await answer.text()

            return ask

        async with http.post("/oauth/register", json=registration) as registered:
            client_id = (await registered.json())["client_id"]
        query = authorization_request(client_id=client_id, resource=LAST)
        # The first checked token begins to read revocations, whether anybody asks or not.
        await asking("POST", "/servers/0", 200, json={}, headers=authorization)(0)
        await asking("GET", "/readyz", 200)(0)
        await callgrind.measure_idle()
        counting = Counting(callgrind, PATHS)
        await counting.count("call", asking("POST", "/servers/0", 200, json={}, headers=authorization))
        await counting.count("challenge", asking("POST", "/servers/0", 401, json={}))
        await counting.count("verify", asking("GET", "/oauth/verify", 200, headers={**authorization, **asked}))
        metadata = "/.well-known/oauth-protected-resource/servers/0"
        await counting.count("metadata", asking("GET", metadata, 200))
        await counting.count("register", asking("POST", "/oauth/register", 201, json=registration))
        await counting.count("authorize", asking("GET", "/oauth/authorize", 200, params=query))
    return counting.figures


def measured(servers: int, url: str) -> dict[str, float]:
    """The same with so many MCP servers."""
    entries = [{"resource": f"{DOOR}/servers/{number}", "url": f"{url}/token"} for number in reversed(range(servers))]
    environment = {
        "SEED_OAUTH_ISSUER": DOOR,
        "SEED_OAUTH_ACCESS_TOKENS": "own",
        "SEED_OAUTH_MCP_SERVERS": json.dumps(entries),
    }
    with served("broker", url, environment) as (base, callgrind):
        return asyncio.run(counted(base, callgrind))


def test_no_path_takes_more_with_200_mcp_servers_than_with_one() -> None:
    with identity_provider() as url:
        one, many = measured(1, url), measured(200, url)
    ratios = {path: round(many[path] / one[path], 4) for path in PATHS}
    print(ratios)  # noqa: T201 - the figures are what is of interest
    assert {path: ratio for path, ratio in ratios.items() if ratio > 1 + TOLERANCE} == {}
