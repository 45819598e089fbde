"""An identity provider for development: it lets everybody in.

It stands behind `seed-oauth demo` and behind tests, so that the front door has something real to talk to.
It checks requests as an OAuth 2.1 authorization server does (PKCE, single-use codes, bound redirect URIs,
rotating refresh tokens, client authentication) and misbehaves on demand, but it knows no users, asks nobody
for consent, redirects to any URI that it is given and forgets everything when it stops. Nothing that
matters may ever trust a token from it: never put it where anyone else can reach it.
"""

import hmac
import random
import re
import secrets
import time
from base64 import b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Generic, TypeVar
from urllib.parse import unquote_plus

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from seed_oauth.parameters import BodyTooLargeError, MalformedRequestError, add_to_query, parse_form, read_form

CODE_LIFETIME = 60.0
ACCESS_TOKEN_LIFETIME = 3600
REFRESH_TOKEN_LIFETIME = 86_400.0
"""Lifetimes in seconds."""
MOST_KEPT = 10_000
"""Codes, refresh tokens and scripts, of each kind: beyond it the oldest is forgotten."""

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# Any absolute URI without a fragment (RFC 6749 §3.1.2), unless a browser would run it and not go there.
REDIRECT_URI = re.compile(r"(?!(javascript|vbscript|data|file):)[a-z][a-z0-9+.\-]*:[^#\s]+", re.IGNORECASE)


@dataclass
class Weather:
    """How the token endpoint is doing. Change it while it runs."""

    latency: float = 0.0
    """Seconds before each answer."""
    error_rate: float = 0.0
    """The share of requests, from 0 to 1, that are answered 503."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one particular request is answered; by default as it deserves.

    A `status` or an `error` makes the answer an OAuth error: `server_error` where only the status is given,
    400 where only the error is. 429 and 503 come with `Retry-After`; an error with the status 200 is how
    GitHub refuses. With `html` the answer is a web page, as from a proxy in between.
    """

    latency: float | None = None
    """Seconds before the answer; the weather's when it is None."""
    status: int | None = None
    error: str | None = None
    html: bool = False


@dataclass(frozen=True)
class Approval:
    """What was approved at the authorization endpoint, and what redeeming it is bound to."""

    redirect_uri: str
    code_challenge: str
    scope: str


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - what RFC 6749 calls an error response
    """An error response of RFC 6749 §5.2."""

    error: str
    description: str
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        body = {"error": self.error, "error_description": self.description}
        retry = {"Retry-After": "1"} if self.status in {429, 503} else {}
        return JSONResponse(body, self.status, {**NO_STORE, **retry, **self.headers})


Value = TypeVar("Value")


class Shelf(Generic[Value]):
    """Values that expire, all after the same time, and of which only so many are kept."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        # Put in order of time, so in order of expiry too: what has to go is always in front.
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def put(self, key: str, value: Value) -> None:
        """Keep a value; one that has this key already is replaced."""
        self._values.pop(key, None)
        self._values[key] = self._clock() + self._lifetime, value
        while len(self._values) > MOST_KEPT or self.get(next(iter(self._values))) is None:
            self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """The value while it lasts."""
        expiry, value = self._values.get(key, (0.0, None))
        return value if self._clock() < expiry else None

    def take(self, key: str) -> Value | None:
        """The value, for the last time."""
        value = self.get(key)
        self._values.pop(key, None)
        return value


class DevelopmentIdentityProvider:
    """An authorization server for one client that approves everything at once. See the module's warning.

    `app` serves `/authorize`, `/token` and `/revoke`; `clock` and `sleep` are its time, in seconds.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._sleep = sleep
        self._approvals = Shelf[Approval](CODE_LIFETIME, clock)
        self._refreshable = Shelf[str](REFRESH_TOKEN_LIFETIME, clock)
        self._scripts = Shelf[Behaviour](REFRESH_TOKEN_LIFETIME, clock)
        self.weather = Weather()
        self.app = Starlette(
            routes=[
                Route("/authorize", self._authorize, methods=["GET"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/revoke", self._revoke, methods=["POST"]),
            ],
            exception_handlers=dict.fromkeys(
                (Refusal, MalformedRequestError, BodyTooLargeError, HTTPException), _refused
            ),
        )

    def script(self, value: str, behaviour: Behaviour) -> None:
        """Have the next request that brings this value behave so, once.

        The value is a `code` or a `refresh_token` at the token endpoint, which an error does not spend; or
        a `state` at the authorization endpoint, where an error is delivered by redirect.
        """
        self._scripts.put(value, behaviour)

    async def _authorize(self, request: Request) -> Response:
        parameters = parse_form(request.scope["query_string"])
        # Until the client and its redirect URI are known good, an error stays here (RFC 6749 §4.1.2.1).
        if not _equal(parameters.get("client_id", ""), self._client_id):
            raise Refusal("unauthorized_client", "client_id is not registered here")
        redirect_uri = parameters.get("redirect_uri", "")
        if not REDIRECT_URI.fullmatch(redirect_uri):
            raise Refusal("invalid_request", "redirect_uri must be an absolute URI without a fragment")
        state = parameters.get("state", "")
        try:
            await self._act(self._scripts.take(state) or Behaviour(latency=0))
            answer = {"code": self._approve(parameters, redirect_uri)}
        except Refusal as refusal:
            answer = {"error": refusal.error, "error_description": refusal.description}
        answer |= {"state": state} if state else {}
        return RedirectResponse(add_to_query(redirect_uri, answer), 302, NO_STORE)

    def _approve(self, parameters: Mapping[str, str], redirect_uri: str) -> str:
        if _required(parameters, "response_type") != "code":
            raise Refusal("unsupported_response_type", "response_type must be code")
        # No method means plain (RFC 7636 §4.3), which OAuth 2.1 does away with.
        if parameters.get("code_challenge_method") != "S256":
            raise Refusal("invalid_request", "code_challenge_method must be S256")
        code_challenge = parameters.get("code_challenge", "")
        # The challenge is a SHA-256 in base64url without padding (RFC 7636 §4.2).
        if len(code_challenge) != 43:  # noqa: PLR2004 - the length of that
            raise Refusal("invalid_request", "code_challenge must have 43 characters")
        code = secrets.token_urlsafe(32)
        self._approvals.put(code, Approval(redirect_uri, code_challenge, parameters.get("scope", "")))
        return code

    async def _token(self, request: Request) -> Response:
        form = await read_form(request)
        behaviour = self._scripts.take(form.get("code") or form.get("refresh_token") or "") or self._weathered()
        await self._act(behaviour)
        if behaviour.html:
            return HTMLResponse("<!doctype html><title>Not the token endpoint</title>", behaviour.status or 200)
        self._authenticate(request, form)
        grant_type = _required(form, "grant_type")
        if grant_type == "authorization_code":
            return self._redeem(form)
        if grant_type == "refresh_token":
            return self._refresh(form)
        raise Refusal("unsupported_grant_type", "authorization_code and refresh_token are supported")

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        self._authenticate(request, form)
        # Access tokens are checked by nobody here, and an unknown token is as good as revoked (RFC 7009 §2.2).
        self._refreshable.take(_required(form, "token"))
        return Response(headers=NO_STORE)

    def _weathered(self) -> Behaviour:
        stormy = random.random() < self.weather.error_rate  # noqa: S311 - no secret depends on it
        return Behaviour(status=503) if stormy else Behaviour()

    async def _act(self, behaviour: Behaviour) -> None:
        await self._sleep(self.weather.latency if behaviour.latency is None else behaviour.latency)
        if (behaviour.status or behaviour.error) and not behaviour.html:
            raise Refusal(behaviour.error or "server_error", "answered as told", behaviour.status or 400)

    def _authenticate(self, request: Request, form: Mapping[str, str]) -> None:
        """Client authentication by client_secret_basic or client_secret_post (RFC 6749 §2.3.1)."""
        header = request.headers.get("authorization")
        if header is not None and "client_secret" in form:
            raise Refusal("invalid_request", "the client must authenticate in one way only")
        posted = form.get("client_id", ""), form.get("client_secret", "")
        client_id, client_secret = posted if header is None else _basic(header)
        # Both are compared whatever comes of the first, so that time tells nothing.
        if not _equal(client_id, self._client_id) & _equal(client_secret, self._client_secret):
            challenge = {} if header is None else {"WWW-Authenticate": 'Basic realm="development"'}
            raise Refusal("invalid_client", "client authentication failed", 401, challenge)

    def _redeem(self, form: Mapping[str, str]) -> Response:
        # Spent by the first attempt, whatever comes of it (RFC 6749 §4.1.2).
        approval = self._approvals.take(_required(form, "code"))
        if approval is None:
            raise Refusal("invalid_grant", "code is unknown, expired or spent")
        if form.get("redirect_uri") != approval.redirect_uri:
            raise Refusal("invalid_grant", "redirect_uri is not the one of the authorization request")
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        if not _equal(urlsafe_b64encode(digest).rstrip(b"=").decode(), approval.code_challenge):
            raise Refusal("invalid_grant", "code_verifier does not match the code_challenge")
        return self._issue(approval.scope, approval.scope)

    def _refresh(self, form: Mapping[str, str]) -> Response:
        refresh_token = _required(form, "refresh_token")
        granted = self._refreshable.get(refresh_token)
        if granted is None:
            raise Refusal("invalid_grant", "refresh_token is unknown, expired, spent or revoked")
        scope = form.get("scope", granted)  # It may narrow the scope, never widen it (RFC 6749 §6).
        if not set(scope.split()) <= set(granted.split()):
            raise Refusal("invalid_scope", "scope goes beyond what was granted")
        self._refreshable.take(refresh_token)
        return self._issue(scope, granted)

    def _issue(self, scope: str, granted: str) -> Response:
        """Tokens of this scope; the refresh token keeps what was `granted` (RFC 6749 §6)."""
        access_token, refresh_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._refreshable.put(refresh_token, granted)
        body = {"access_token": access_token, "token_type": "Bearer", "expires_in": ACCESS_TOKEN_LIFETIME}
        body |= {"refresh_token": refresh_token} | ({"scope": scope} if scope else {})
        return JSONResponse(body, headers=NO_STORE)


def _required(parameters: Mapping[str, str], name: str) -> str:
    if name not in parameters:
        raise Refusal("invalid_request", f"{name} is missing")
    return parameters[name]


def _basic(header: str) -> tuple[str, str]:
    """Client id and secret, each form-urlencoded before they were joined (RFC 6749 §2.3.1)."""
    scheme, _, credentials = header.partition(" ")
    try:
        joined = b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        joined = ""
    client_id, _, client_secret = joined.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


async def _refused(_request: Request, error: Exception) -> Response:
    match error:
        case Refusal():
            return error.response()
        case BodyTooLargeError():
            return Refusal("invalid_request", "the body is too large", 413).response()
        case HTTPException():
            return Refusal("invalid_request", error.detail, error.status_code, error.headers or {}).response()
        case _:
            return Refusal("invalid_request", str(error)).response()
