"""A simulated MCP client and its user: the steps of a login, over real HTTP."""

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from seed_oauth.cli.demo.browser import Browser, has_form, next_url
from seed_oauth.cli.demo.environment import Environment
from seed_oauth.cli.demo.fault_injection import Behaviour
from seed_oauth.flows.transaction import code_challenge
from seed_oauth.http.paths import SERVER_METADATA, resource_metadata_path
from seed_oauth.outcomes import GrantType

Sample = tuple[str, tuple[str, ...]]
"""A series and its label values, in the order of the contract."""

Tokens = Mapping[str, Any]
"""The members of a token response or of an error response."""


@dataclass(frozen=True)
class Application:
    """An MCP client application."""

    name: str
    redirect_uri: str
    user_agent: str


class User:
    """A user of one registration of an application.

    Each step adds the response to the tally, which the metrics must match.
    """

    def __init__(
        self,
        environment: Environment,
        application: Application,
        browser: Browser,
        http: httpx.AsyncClient,
        tally: Counter[Sample],
    ) -> None:
        """`http` sends the requests of the application, `browser` those of the user."""
        self._environment = environment
        self._application = application
        self._browser = browser
        self._http = http
        self._tally = tally
        self._headers = {"User-Agent": application.user_agent}
        self._code_verifier = secrets.token_urlsafe(48)
        self.client_id = ""

    async def discover(self) -> None:
        """Send a request without a token, and read where to get one."""
        await self.call({})
        for path in (resource_metadata_path(f"{self._environment.front_door}/mcp"), SERVER_METADATA):
            await self._http.get(f"{self._environment.front_door}{path}", headers=self._headers)

    async def call(self, tokens: Tokens) -> None:
        """Send a request to the MCP server."""
        sent = {"Authorization": f"Bearer {tokens['access_token']}"} if "access_token" in tokens else {}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        answer = await self._http.post(
            f"{self._environment.front_door}/mcp", json=ping, headers={**self._headers, **sent}
        )
        refused = "refused" if sent else "challenged"
        self._saw("oauth_resource_requests_total", "allowed" if answer.is_success else refused)

    async def register(self, door: str | None = None, **changes: object) -> None:
        """Register as a public client."""
        client_metadata = {
            "client_name": self._application.name,
            "redirect_uris": [self._application.redirect_uri],
            "token_endpoint_auth_method": "none",
        }
        response = await self._http.post(
            f"{door or self._environment.front_door}/oauth/register", json={**client_metadata, **changes}
        )
        result = "success" if response.status_code == httpx.codes.CREATED else "invalid"
        self._saw("oauth_dcr_registrations_total", "error" if response.is_server_error else result)
        self.client_id = str(response.json().get("client_id", ""))

    async def authorize(self, door: str | None = None, **changes: str) -> httpx.Response:
        """Send an authorization request, and return the response to the browser."""
        request = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self._application.redirect_uri,
            "code_challenge": code_challenge(self._code_verifier),
            "code_challenge_method": "S256",
            "scope": "openid offline_access",
            "state": secrets.token_urlsafe(8),
            **changes,
        }
        answer = await self._browser.open(
            f"{door or self._environment.front_door}/oauth/authorize?{urlencode(request)}"
        )
        if not has_form(answer):  # the consent page is counted with the decision
            unknown = "<code>invalid_client</code>" in answer.text
            self._saw_authorization(answer, otherwise="invalid_client" if unknown else "error")
        return answer

    async def decide(self, page: httpx.Response, decision: str, **fields: str) -> httpx.Response:
        """Approve or deny on the consent page."""
        answer = await self._browser.send(page, decision=decision, **fields)
        self._saw("oauth_consent_decisions_total", {"approve": "approved", "deny": "denied"}[decision])
        self._saw_authorization(answer, otherwise="error")
        return answer

    async def log_in(self, sent: httpx.Response, *behaviours: Behaviour) -> str:
        """Log in at the identity provider, with scripted responses, and return its redirect to the callback."""
        at_idp = next_url(sent) or ""
        if behaviours:
            self._environment.identity_provider.script(_query(at_idp)["state"], *behaviours)
        return next_url(await self._browser.open(at_idp)) or ""

    async def come_back(self, callback: str, browser: Browser | None = None) -> Mapping[str, str]:
        """Follow the redirect to the callback, in this or another browser, and return the client's parameters."""
        answer = await (browser or self._browser).open(callback)
        returned = _query(next_url(answer) or "")
        if "code" in returned:
            self._saw("oauth_authorization_wait_seconds_count")
        if returned and "code" in _query(callback):
            self._saw_exchange(GrantType.AUTHORIZATION_CODE, succeeded="code" in returned)
        denied = returned.get("error") == "access_denied"
        self._saw("oauth_callbacks_total", "success" if "code" in returned else "denied" if denied else "error")
        return returned

    async def code(self, *behaviours: Behaviour, **fields: str) -> str | None:
        """Log in, approve if asked for consent, and return the code; None if the identity provider fails."""
        answer = await self.authorize()
        if has_form(answer):
            answer = await self.decide(answer, "approve", **fields)
        return (await self.come_back(await self.log_in(answer, *behaviours))).get("code")

    async def tokens(self, *behaviours: Behaviour, **fields: str) -> Tokens:
        """Log in and redeem the code."""
        code = await self.code(*behaviours, **fields)
        tokens: Tokens = {} if code is None else (await self.redeem(code)).json()
        return tokens

    async def refresh(self, tokens: Tokens) -> Tokens:
        """Refresh tokens at the identity provider."""
        answer = await self.spend(tokens)
        self._saw_exchange(GrantType.REFRESH_TOKEN, succeeded=answer.status_code == httpx.codes.OK)
        refreshed: Tokens = answer.json()
        return refreshed

    async def redeem(self, code: str | None, **changes: str | None) -> httpx.Response:
        """Send a token request for a code."""
        form = {
            "grant_type": GrantType.AUTHORIZATION_CODE,
            "code": code,
            "code_verifier": self._code_verifier,
            "redirect_uri": self._application.redirect_uri,
            **changes,
        }
        return await self._post("token", form)

    async def spend(self, tokens: Tokens) -> httpx.Response:
        """Send a token request for a refresh token, without counting an exchange."""
        return await self._post(
            "token", {"grant_type": GrantType.REFRESH_TOKEN, "refresh_token": tokens.get("refresh_token", "none")}
        )

    async def revoke(self, tokens: Tokens) -> None:
        """Revoke the refresh token."""
        await self._post("revoke", {"token": tokens.get("refresh_token", "none")})

    async def _post(self, endpoint: str, form: Mapping[str, str | None]) -> httpx.Response:
        filled = {name: value for name, value in form.items() if value is not None}
        url = f"{self._environment.front_door}/oauth/{endpoint}"
        return await self._http.post(url, data={"client_id": self.client_id, **filled})

    def _saw(self, series: str, *labels: str) -> None:
        self._tally[series, labels] += 1

    def _saw_authorization(self, answer: httpx.Response, *, otherwise: str) -> None:
        sent_on = (next_url(answer) or "").startswith(self._environment.identity_provider_url)
        self._saw("oauth_authorization_requests_total", "success" if sent_on else otherwise)

    def _saw_exchange(self, grant_type: GrantType, *, succeeded: bool) -> None:
        self._saw("oauth_token_exchanges_total", grant_type, "success" if succeeded else "failure")
        self._saw("oauth_token_exchange_duration_seconds_count", grant_type)


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))
