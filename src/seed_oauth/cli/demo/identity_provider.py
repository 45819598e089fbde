"""An identity provider for development. It is insecure on purpose: everybody is logged in.

`seed-oauth demo` and the tests use it as a real peer of the front door. It validates requests as an OAuth 2.1
authorization server and OpenID provider does (PKCE, single-use codes, bound redirect URIs, rotating refresh tokens,
client authentication, signed tokens) and injects faults. But it has no users, asks for no consent, redirects to any
URI and keeps everything in memory. Never make it reachable for others, and never trust its tokens in production.
"""

import hmac
import re
import secrets
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import unquote_plus

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from seed_oauth.cli.demo.expiring_store import ExpiringStore
from seed_oauth.cli.demo.fault_injection import Behaviour, Faults, Scripts
from seed_oauth.cli.demo.refusal import REFUSALS, Refusal, refused, required
from seed_oauth.cli.demo.tokens import ACCESS_TOKEN_LIFETIME, ALGORITHM, IssuedGrant, Signer
from seed_oauth.http.answer import NO_STORE
from seed_oauth.http.parameters import add_to_query, parse_form, read_form

CODE_LIFETIME = 60.0
REFRESH_TOKEN_LIFETIME = 86_400.0
"""Lifetimes in seconds."""

# Any absolute URI without a fragment (RFC 6749 §3.1.2, RFC 8707 §2), except those that a browser executes or reads.
SAFE_URI = re.compile(r"(?!(javascript|vbscript|data|file):)[a-z][a-z0-9+.\-]*:[^#\s]+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Approval:
    """An approved authorization request, which its code is bound to."""

    redirect_uri: str
    code_challenge: str
    nonce: str | None
    grant: IssuedGrant


class DevelopmentIdentityProvider:
    """An OpenID provider for one client that approves every request. See the warning of the module.

    `app` is the ASGI app; the issuer is the base URL of each request.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        opaque: bool = False,
        rotates: bool = True,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Create an identity provider.

        Args:
            client_id: of its client.
            client_secret: of its client.
            opaque: issue opaque access tokens and no ID tokens, as GitHub does.
            rotates: replace the refresh token with each refresh.
            clock: returns seconds since the epoch.
            sleep: waits for some seconds.
        """
        self._client_id = client_id
        self._client_secret = client_secret
        self._opaque = opaque
        self._rotates = rotates
        self._signer = Signer(client_id, clock)
        self._approvals = ExpiringStore[Approval](CODE_LIFETIME, clock)
        self._refreshable = ExpiringStore[IssuedGrant](REFRESH_TOKEN_LIFETIME, clock)
        self._scripts = Scripts(REFRESH_TOKEN_LIFETIME, clock)
        self._sleep = sleep
        self.faults = Faults()
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata, methods=["GET"]),
                Route("/jwks", self._jwks, methods=["GET"]),
                Route("/authorize", self._authorize, methods=["GET"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/revoke", self._revoke, methods=["POST"]),
            ],
            exception_handlers=dict.fromkeys(REFUSALS, refused),
        )

    def script(self, value: str, *behaviours: Behaviour) -> None:
        """Script the responses to a session, beginning with its next request.

        `value` identifies the session: a `state` at the authorization endpoint, where errors are redirected, or a
        `code` or `refresh_token` at the token endpoint, which remains valid after an injected error.
        """
        self._scripts.put(value, behaviours)

    async def _metadata(self, request: Request) -> Response:
        """The provider metadata (OpenID Connect Discovery §3, RFC 8414 §2)."""
        issuer = _issuer(request)
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "revocation_endpoint": f"{issuer}/revoke",
                "jwks_uri": f"{issuer}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "scopes_supported": ["openid", "offline_access"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, _request: Request) -> Response:
        return JSONResponse(self._signer.jwks)

    async def _authorize(self, request: Request) -> Response:
        parameters = parse_form(request.scope["query_string"])
        # Errors are not redirected before client_id and redirect_uri are validated (RFC 6749 §4.1.2.1).
        if not _equal(parameters.get("client_id", ""), self._client_id):
            raise Refusal("unauthorized_client", "client_id is not registered here")
        redirect_uri = parameters.get("redirect_uri", "")
        if not SAFE_URI.fullmatch(redirect_uri):
            raise Refusal("invalid_request", "redirect_uri must be an absolute URI without a fragment")
        state = parameters.get("state", "")
        try:
            await self._act(self._scripts.next_behaviour(state, otherwise=Behaviour(latency=0)))
            code = self._approve(parameters, redirect_uri)
            self._scripts.carry_over(state, code)
            answer = {"code": code}
        except Refusal as refusal:
            answer = {"error": refusal.error, "error_description": refusal.description}
        # RFC 9207 §2
        answer |= {"iss": _issuer(request)} | ({"state": state} if state else {})
        return RedirectResponse(add_to_query(redirect_uri, answer), 302, NO_STORE)

    def _approve(self, parameters: Mapping[str, str], redirect_uri: str) -> str:
        if required(parameters, "response_type") != "code":
            raise Refusal("unsupported_response_type", "response_type must be code")
        # The default is plain (RFC 7636 §4.3), which OAuth 2.1 removes.
        if parameters.get("code_challenge_method") != "S256":
            raise Refusal("invalid_request", "code_challenge_method must be S256")
        code_challenge = parameters.get("code_challenge", "")
        # The challenge is a SHA-256 in base64url without padding (RFC 7636 §4.2).
        if len(code_challenge) != 43:  # noqa: PLR2004 - the length of that
            raise Refusal("invalid_request", "code_challenge must have 43 characters")
        resource = parameters.get("resource")
        if resource is not None and not SAFE_URI.fullmatch(resource):
            raise Refusal("invalid_target", "resource must be an absolute URI without a fragment")
        code = secrets.token_urlsafe(32)
        approval = Approval(
            redirect_uri=redirect_uri,
            code_challenge=code_challenge,
            nonce=parameters.get("nonce"),
            grant=IssuedGrant(scope=parameters.get("scope", ""), resource=resource),
        )
        self._approvals.put(code, approval)
        return code

    async def _token(self, request: Request) -> Response:
        form = await read_form(request)
        presented = form.get("code") or form.get("refresh_token") or ""
        behaviour = self._scripts.next_behaviour(presented, otherwise=self.faults.behaviour())
        await self._act(behaviour)
        if behaviour.html:
            return HTMLResponse("<!doctype html><title>Not the token endpoint</title>", behaviour.status or 200)
        self._authenticate(request, form)
        grant_type = required(form, "grant_type")
        if grant_type == "authorization_code":
            return self._redeem(form, _issuer(request))
        if grant_type == "refresh_token":
            return self._refresh(form, _issuer(request))
        raise Refusal("unsupported_grant_type", "authorization_code and refresh_token are supported")

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        self._authenticate(request, form)
        # Access tokens cannot be revoked, and an unknown token counts as revoked (RFC 7009 §2.2).
        self._refreshable.take(required(form, "token"))
        return Response(headers=NO_STORE)

    async def _act(self, behaviour: Behaviour) -> None:
        await self._sleep(self.faults.latency if behaviour.latency is None else behaviour.latency)
        if refusal := behaviour.refusal():
            raise refusal

    def _authenticate(self, request: Request, form: Mapping[str, str]) -> None:
        """Authenticate the client by client_secret_basic or client_secret_post (RFC 6749 §2.3.1)."""
        header = request.headers.get("authorization")
        if header is not None and "client_secret" in form:
            raise Refusal("invalid_request", "the client must use a single authentication method")
        posted = form.get("client_id", ""), form.get("client_secret", "")
        client_id, client_secret = posted if header is None else _basic(header)
        # Both are always compared, so that timing reveals nothing.
        if not _equal(client_id, self._client_id) & _equal(client_secret, self._client_secret):
            challenge = {} if header is None else {"WWW-Authenticate": 'Basic realm="development"'}
            raise Refusal("invalid_client", "client authentication failed", 401, challenge)

    def _redeem(self, form: Mapping[str, str], issuer: str) -> Response:
        # Spent by the first attempt, successful or not (RFC 6749 §4.1.2).
        code = required(form, "code")
        approval = self._approvals.take(code)
        if approval is None:
            raise Refusal("invalid_grant", "code is unknown, expired or spent")
        if form.get("redirect_uri") != approval.redirect_uri:
            raise Refusal("invalid_grant", "redirect_uri does not match the authorization request")
        digest = sha256(form.get("code_verifier", "").encode()).digest()
        if not _equal(urlsafe_b64encode(digest).rstrip(b"=").decode(), approval.code_challenge):
            raise Refusal("invalid_grant", "code_verifier does not match the code_challenge")
        grant = approval.grant
        _check_resource(form, grant)
        refresh_token = secrets.token_urlsafe(32)
        self._scripts.carry_over(code, refresh_token)
        self._refreshable.put(refresh_token, grant)
        id_token = {}
        if "openid" in grant.scope.split() and not self._opaque:
            id_token = {"id_token": self._signer.id_token(issuer, approval.nonce)}
        return self._issued(grant, grant.scope, issuer, refresh_token=refresh_token, **id_token)

    def _refresh(self, form: Mapping[str, str], issuer: str) -> Response:
        refresh_token = required(form, "refresh_token")
        grant = self._refreshable.get(refresh_token)
        if grant is None:
            raise Refusal("invalid_grant", "refresh_token is unknown, expired, spent or revoked")
        scope = form.get("scope", grant.scope)  # It must not exceed the granted scope (RFC 6749 §6).
        if not set(scope.split()) <= set(grant.scope.split()):
            raise Refusal("invalid_scope", "scope exceeds the granted scope")
        _check_resource(form, grant)
        if not self._rotates:
            return self._issued(grant, scope, issuer)
        successor = secrets.token_urlsafe(32)
        self._refreshable.take(refresh_token)
        self._scripts.carry_over(refresh_token, successor)
        self._refreshable.put(successor, grant)
        return self._issued(grant, scope, issuer, refresh_token=successor)

    def _issued(self, grant: IssuedGrant, scope: str, issuer: str, **tokens: str) -> Response:
        """The token response (RFC 6749 §5.1). A narrower `scope` applies to the access token only."""
        access_token = secrets.token_urlsafe(32) if self._opaque else self._signer.access_token(issuer, grant, scope)
        body = {"access_token": access_token, "token_type": "Bearer", "expires_in": ACCESS_TOKEN_LIFETIME, **tokens}
        return JSONResponse(body | ({"scope": scope} if scope else {}), headers=NO_STORE)


def _issuer(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _check_resource(form: Mapping[str, str], grant: IssuedGrant) -> None:
    # RFC 8707 §2.2: a token request may name authorized resources only.
    if form.get("resource", grant.resource) != grant.resource:
        raise Refusal("invalid_target", "resource does not match the authorization request")


def _basic(header: str) -> tuple[str, str]:
    """client_id and client_secret, each form-urlencoded (RFC 6749 §2.3.1)."""
    scheme, _, credentials = header.partition(" ")
    try:
        joined = b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        joined = ""
    client_id, _, client_secret = joined.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())
