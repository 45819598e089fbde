"""Whether a request takes more with 200 MCP servers behind the door than with one: instructions under valgrind.

python tests/bench/many_servers.py
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Collection

import aiohttp
import table
from access_tokens import own_token
from broker import SECRET_KEYS
from callgrind import Callgrind
from instructions import Counting, served
from load import BenchmarkError
from login import REDIRECT_URI, authorization_parameters
from run import identity_provider

MANY = 200
DOOR = "https://door.example"
PATH = "/servers/0"
"""That of the last of them in the settings."""
PATHS = ("call", "challenge", "verify", "metadata", "register", "authorize")


async def counted(base: str, callgrind: Callgrind, paths: Collection[str]) -> dict[str, float]:
    """The instructions of each kind of request that is among `paths`."""
    authorization = {"Authorization": f"Bearer {own_token(DOOR, SECRET_KEYS, path=PATH)}"}
    asked = {
        "X-Original-URI": PATH,
        "X-Original-Method": "POST",
        "X-Forwarded-Host": "door.example",
        "X-Forwarded-Proto": "https",
    }
    registration = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
    async with aiohttp.ClientSession(base) as http:

        def asking(method: str, path: str, status: int, **options: object) -> Callable[[int], Awaitable[str]]:
            async def ask(_: int) -> str:
                async with http.request(method, path, **options) as answer:  # type: ignore[arg-type]  # its options
                    if answer.status != status:
                        raise BenchmarkError(f"{method} {path}: {answer.status} {await answer.text()}")
                    return await answer.text()

            return ask

        async with http.post("/oauth/register", json=registration) as registered:
            client_id = (await registered.json())["client_id"]
        query = {**authorization_parameters(client_id), "resource": f"{DOOR}{PATH}"}
        # The first checked token begins to read revocations, whether anybody asks or not.
        await asking("POST", PATH, 200, json={}, headers=authorization)(0)
        await asking("GET", "/readyz", 200)(0)
        await callgrind.measure_idle()
        counting = Counting(callgrind, paths)
        await counting.count("call", asking("POST", PATH, 200, json={}, headers=authorization))
        await counting.count("challenge", asking("POST", PATH, 401, json={}))
        await counting.count("verify", asking("GET", "/oauth/verify", 200, headers={**authorization, **asked}))
        await counting.count("metadata", asking("GET", f"/.well-known/oauth-protected-resource{PATH}", 200))
        await counting.count("register", asking("POST", "/oauth/register", 201, json=registration))
        await counting.count("authorize", asking("GET", "/oauth/authorize", 200, params=query))
    return counting.figures


def measured(servers: int, url: str, paths: Collection[str]) -> dict[str, float]:
    """The same with so many MCP servers, all of which are at `url`."""
    entries = [{"resource": f"{DOOR}/servers/{number}", "url": f"{url}/token"} for number in reversed(range(servers))]
    environment = {
        "SEED_OAUTH_ISSUER": DOOR,
        "SEED_OAUTH_ACCESS_TOKENS": "own",
        "SEED_OAUTH_MCP_SERVERS": json.dumps(entries),
    }
    with served("broker", url, environment) as (base, callgrind):
        return asyncio.run(counted(base, callgrind, paths))


def ratios(paths: Collection[str] = PATHS) -> dict[str, float]:
    """What each path takes with many MCP servers as a multiple of what it takes with one.

    Raises:
        BenchmarkError: a figure would mean nothing.
    """
    with identity_provider() as url:
        one, many = measured(1, url, paths), measured(MANY, url, paths)
    return {path: round(many[path] / one[path], 4) for path in paths}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        print(table.figures({f"{MANY} MCP servers / one": ratios()}, PATHS, corner="ratio"))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
