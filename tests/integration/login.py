"""The steps of a login, as an MCP client takes them over real HTTP."""

import httpx

from tests.harness import authorization_request, code_request, json_of, query_of, refresh_request, registration_request


async def code_from(http: httpx.AsyncClient, door: str) -> dict[str, str]:
    """Register, authorize and come back with a code: the token request that redeems it."""
    registered = await http.post(f"{door}/oauth/register", json=registration_request())
    client_id = json_of(registered)["client_id"]
    asked = await http.get(f"{door}/oauth/authorize", params=authorization_request(client_id=client_id))
    returned = await http.get(asked.headers["location"])
    return code_request(client_id=client_id, code=query_of(returned.headers["location"])["code"])


async def refresh_from(http: httpx.AsyncClient, door: str) -> dict[str, str]:
    """A whole login: the token request that refreshes its tokens."""
    form = await code_from(http, door)
    tokens = json_of(await http.post(f"{door}/oauth/token", data=form))
    return refresh_request(client_id=form["client_id"], refresh_token=tokens["refresh_token"])
