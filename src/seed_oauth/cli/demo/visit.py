"""A small web client, for a login at the demo's front door with a real browser."""

import json
import secrets
import time
from html import escape
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from seed_oauth.cli.demo.expiring_store import ExpiringStore
from seed_oauth.flows.tokens import claims_of
from seed_oauth.flows.transaction import LOGIN_LIFETIME, code_challenge
from seed_oauth.outcomes import GrantType

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<body style="font: 1.1rem/1.5 system-ui; max-width: 42rem; margin: 3rem auto; padding: 0 1rem">
<h1>{title}</h1>
<p>{what}</p>
<pre style="overflow-x: auto">{details}</pre>
<p><a href="/">Log in again</a></p>
"""


class VisitingClient:
    """`app` serves `/`, which begins a login, and `/callback`, which ends it."""

    def __init__(self, front_door: str) -> None:
        self._front_door = front_door
        self._begun = ExpiringStore[tuple[str, str]](LOGIN_LIFETIME, time.time)
        self.app = Starlette(routes=[Route("/", self._begin), Route("/callback", self._finish)])

    async def _begin(self, request: Request) -> Response:
        """Register as MCP clients do, and redirect the browser to the front door."""
        callback = f"{request.base_url}callback"
        client_metadata = {
            "client_name": "Demo in your browser",
            "redirect_uris": [callback],
            "token_endpoint_auth_method": "none",
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            registered = await http.post(f"{self._front_door}/oauth/register", json=client_metadata)
        client_id = registered.json()["client_id"]
        state, code_verifier = secrets.token_urlsafe(16), secrets.token_urlsafe(48)
        self._begun.put(state, (client_id, code_verifier))
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": callback,
            "code_challenge": code_challenge(code_verifier),
            "code_challenge_method": "S256",
            "scope": "openid offline_access",
            "state": state,
        }
        return RedirectResponse(f"{self._front_door}/oauth/authorize?{urlencode(asked)}", 302)

    async def _finish(self, request: Request) -> Response:
        """Exchange the code, send the MCP server a request, and show the claims of the access token."""
        answer = request.query_params
        begun = self._begun.take(answer.get("state", ""))
        if begun is None or "code" not in answer:
            reason = answer.get("error_description", "this login is unknown or has expired")
            return HTMLResponse(_PAGE.format(title="Login failed", what="The reason:", details=escape(reason)))
        client_id, code_verifier = begun
        form = {
            "grant_type": GrantType.AUTHORIZATION_CODE,
            "code": answer["code"],
            "code_verifier": code_verifier,
            "redirect_uri": f"{request.base_url}callback",
            "client_id": client_id,
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            tokens = (await http.post(f"{self._front_door}/oauth/token", data=form)).json()
            sent = {"Authorization": f"Bearer {tokens.get('access_token')}"}
            await http.post(f"{self._front_door}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=sent)
        claims = json.dumps(claims_of(tokens.get("access_token")), indent=2)
        what = "This client received an access token for the MCP server. Its claims:"
        return HTMLResponse(_PAGE.format(title="You are logged in", what=what, details=escape(claims)))
