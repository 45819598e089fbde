"""The steps of a login, as an MCP client and its user take them over real HTTP."""

from urllib.parse import urlencode

import httpx

from seed_oauth.cli.demo.browser import Browser, next_url
from tests.harness import authorization_request, code_request, json_of, query_of, refresh_request, registration_request


async def client_id_from(http: httpx.AsyncClient, door: str) -> str:
    """Register."""
    registered = await http.post(f"{door}/oauth/register", json=registration_request())
    return str(json_of(registered)["client_id"])


async def sent_to_idp(browser: Browser, door: str, **changes: str) -> str:
    """Ask for authorization and consent: where at the identity provider the browser is to go."""
    asked = await browser.open(f"{door}/oauth/authorize?{urlencode(authorization_request(**changes))}")
    return onward(await browser.send(asked, decision="approve"))


async def code_for(client_id: str, door: str, **changes: str) -> dict[str, str]:
    """Authorize, agree where that is asked, log in and come back with a code: the token request that redeems it."""
    return code_request(client_id=client_id, code=query_of(await returned_from(client_id, door, **changes))["code"])


async def returned_from(client_id: str, door: str, **changes: str) -> str:
    """Where a login sends the browser in the end: to the client, with a code or an error."""
    async with Browser() as browser:
        request = authorization_request(client_id=client_id, **changes)
        asked = await browser.open(f"{door}/oauth/authorize?{urlencode(request)}")
        at_idp = onward(asked if asked.is_redirect else await browser.send(asked, decision="approve"))
        return onward(await browser.open(onward(await browser.open(at_idp))))


async def back_from_idp(browser: Browser, http: httpx.AsyncClient, door: str) -> str:
    """The callback, as the identity provider sends a browser there whose user has logged in."""
    return onward(await browser.open(await sent_to_idp(browser, door, client_id=await client_id_from(http, door))))


async def code_from(http: httpx.AsyncClient, door: str) -> dict[str, str]:
    """The same for a client that registers first."""
    return await code_for(await client_id_from(http, door), door)


async def refresh_from(http: httpx.AsyncClient, door: str) -> dict[str, str]:
    """A whole login: the token request that refreshes its tokens."""
    form = await code_from(http, door)
    tokens = json_of(await http.post(f"{door}/oauth/token", data=form))
    return refresh_request(client_id=form["client_id"], refresh_token=tokens["refresh_token"])


def onward(response: httpx.Response) -> str:
    """Where a response sends the browser."""
    url = next_url(response)
    assert url, response.text
    return url
