"""`protect(app)`: bearer protection for an MCP server in Python, as ASGI middleware (RFC 6750, RFC 9728)."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import anyio
import httpx
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seed_oauth.endpoints.boundary import Boundary, document_route
from seed_oauth.endpoints.metadata import protected_resource_metadata
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.access_tokens import AccessTokens
from seed_oauth.flows.revocations import Revocations
from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import READABLE, allows_origin, is_preflight, resource_cors
from seed_oauth.http.paths import JWKS, RESOURCE_METADATA, resource_metadata_path, url
from seed_oauth.identity_provider.open import open_identity_provider
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.scope import is_valid
from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.headers import is_event_stream, without_identity
from seed_oauth.resource_server.measured import measuring
from seed_oauth.resource_server.open import open_guard, open_tokens
from seed_oauth.resource_server.operations import LARGEST
from seed_oauth.resource_server.request_stream import RequestStream, listens
from seed_oauth.resource_server.tool_lists import ToolLists, uncompressed
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.storage.open import Stores, open_stores
from seed_oauth.telemetry import Pipeline, Recording
from seed_oauth.telemetry.audit import AuditTrail

TOKEN = "seed_oauth.token"  # noqa: S105 - where a token is, not what it is
"""Where in the ASGI scope the `VerifiedToken` is."""

_IDENTITY = frozenset({TOKEN, "user", "auth"})  # the latter two are Starlette's

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_NOT_ANSWERED = frozenset({404, 405, 501})
"""What an app without CORS answers to a preflight."""

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1; before the handshake the server makes a 403 of it


class VerifiedUser(SimpleUser):
    """The user, as Starlette's `request.user`; the name is empty when the token does not say it."""

    def __init__(self, token: VerifiedToken) -> None:
        super().__init__(token.subject or "")
        self.token = token

    @property
    def identity(self) -> str:
        """The subject."""
        return self.username


class ProtectedApp:
    """An ASGI app that only requests with a valid access token reach; `protect` makes it."""

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        *,
        documents: Router,
        pipeline: Recording,
        issuer: str,
        audit: AuditTrail | None,
        measured: Callable[[ASGIApp], ASGIApp] | None,
        opened: AsyncExitStack,
    ) -> None:
        self.pipeline = pipeline
        """Where outcomes are recorded."""
        self._app = app
        self._guard = guard
        self._documents = documents
        self._document_paths = {route.path for route in documents.routes if isinstance(route, Route)}
        boundary = Boundary(
            self._admit, ResourceOutcome, _METHODS, telemetry=pipeline.telemetry, issuer=issuer, audit=audit
        )
        self._boundary = measured(boundary) if measured else boundary
        self._opened = opened
        preflights = resource_cors(("*",))
        self._cors = preflights.cls(app, *preflights.args, **preflights.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the app's lifespan."""
        if scope["type"] == "lifespan":
            async with self._opened:
                await self._app(scope, receive, send)
        elif scope["type"] != "http":
            # MCP has no WebSocket transport, and a browser cannot send a token with one.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif scope["path"] in self._document_paths:
            await self._documents(scope, receive, send)
        elif is_preflight(scope):
            await self._answer_preflight(_anonymous(scope), receive, send)
        else:
            await self._boundary(scope, receive, send)

    async def _answer_preflight(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave it to the app, and allow the request if the app knows nothing of preflights: the token protects it."""
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        if answer[0]["status"] in _NOT_ANSWERED:
            await self._cors(scope, receive, send)
            return
        for message in answer:
            await send(message)

    async def aclose(self) -> None:
        """Close the connections to the identity provider. Running the app's lifespan does it, too."""
        await self._opened.aclose()

    async def _admit(self, request: Request) -> Answer:
        token = await self._guard.check(request)
        passed_on = _PassedOn(self._app, self._guard, token)
        if self._guard.reads_bodies:
            passed_on.client = client = RequestStream(request, LARGEST)
            passed_on.tool_lists = await self._guard.check_operations(request, token, client)
        return await self._guard.allowed(request, token, passed_on)


def protect(
    app: ASGIApp,
    settings: Settings | None = None,
    *,
    scopes: Sequence[str] = (),
    resource: str | None = None,
    pipeline: Recording | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> ProtectedApp:
    """Let only requests with a valid access token reach `app`.

    The token is read from the Authorization header, which is removed before `app` sees the request. What it says is
    a `VerifiedToken` at `request.scope["seed_oauth.token"]`; Starlette's `request.user` and `request.auth` are set
    from it. The resource's metadata (RFC 9728) is served here, too, so the authorization server may be elsewhere.

    What is listed in `settings.tool_scopes` and `settings.method_scopes` needs scopes in addition. Each body must then
    be a message of MCP, and `app` receives the same bytes.

    Access tokens that the authorization server revokes are refused within a second if `settings.store_url`
    is set, to the store that the authorization server has. Otherwise they are valid until they expire. The store also
    tells which login a request is the first use of, for the metrics; otherwise each process counts by itself.

    Args:
        app: the MCP server.
        settings: from the environment when left out.
        scopes: the scopes that a token must have, all of them; by default `settings.required_scopes`.
        resource: which of the protected resources this is; optional if there is only one.
        pipeline: where to record metrics; by default a new one, at the result's `pipeline`.
        transport: sends requests to the identity provider, for tests and for special networks.

    Raises:
        SettingsError: the settings do not say how to check a token, or for which resource.
    """
    settings = settings or Settings.load()
    pipeline = pipeline or Pipeline()
    resource = _resource(settings, resource)
    required = _required(settings, scopes, resource)
    advertised = tuple(dict.fromkeys((*required, *settings.scopes_at(resource))))
    idp = open_identity_provider(settings, pipeline, transport=transport)
    opened = AsyncExitStack()
    opened.push_async_callback(idp.aclose)
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys], settings.issuer)
    # The authorization server publishes its keys, so that a new one needs no change here.
    verify = partial(idp.keys.verify, url(settings.issuer, JWKS)) if settings.access_tokens == "jwt" else None
    own = AccessTokens(settings.issuer, sealer, verify=verify)
    stores = _stores(settings, opened)
    revocations = Revocations(stores.revocations if stores else None, epoch=settings.revoke_before)
    opened.push_async_callback(revocations.aclose)
    guard = open_guard(
        settings,
        resource,
        open_tokens(settings, idp, sealer, own, revocations=revocations),
        grants=stores.grants if stores else None,
        required=required,
    )
    document = protected_resource_metadata(settings.issuer, resource, advertised)
    documents = Router(
        [
            document_route(path, document, pipeline.telemetry)
            for known in {resource_metadata_path(resource), RESOURCE_METADATA}
            for path in (known, f"{known}/")
        ]
    )
    audit = None
    if settings.audit_log:
        audit = AuditTrail(settings, sealer.pseudonym, ClientAddresses(settings.trusted_proxies).text_of)
        opened.push_async_callback(audit.aclose)
    return ProtectedApp(
        app,
        guard,
        documents=documents,
        pipeline=pipeline,
        issuer=settings.issuer,
        audit=audit,
        measured=measuring(settings, pipeline),
        opened=opened,
    )


def _stores(settings: Settings, opened: AsyncExitStack) -> Stores | None:
    # The default is a file in this folder, where the authorization server need not have one.
    if "store_url" not in settings.model_fields_set:
        return None
    stores = open_stores(settings)
    opened.push_async_callback(stores.aclose)
    return stores


def _resource(settings: Settings, resource: str | None) -> str:
    if not settings.can_check_tokens:
        raise SettingsError(
            f"{PREFIX}IDP_ISSUER is missing: without it no access token of the identity provider can be checked; "
            f"in the broker flow {PREFIX}ACCESS_TOKENS=own needs none"
        )
    known = settings.protected_resources
    if resource is None and len(known) == 1:
        return known[0]
    if resource not in known:
        raise SettingsError(f"protect(resource=…) must be one of {PREFIX}RESOURCES, as it is written there")
    return resource


def _required(settings: Settings, scopes: Sequence[str], resource: str) -> Sequence[str]:
    if isinstance(scopes, str) or not all(is_valid(scope) and " " not in scope for scope in scopes):
        raise SettingsError('protect(scopes=…) must be a list of scopes (RFC 6749 §3.3): write ["files:read"]')
    return scopes or settings.scope_rules(resource).required


def _anonymous(scope: Scope) -> Scope:
    """The request without anything by which it claims to be from somebody."""
    kept = {name: value for name, value in scope.items() if name not in _IDENTITY}
    return {**kept, "headers": without_identity(scope["headers"])}


class _PassedOn(Response):
    """The app's own answer to a request that was admitted; an event stream ends with the token."""

    def __init__(self, app: ASGIApp, guard: Guard, token: VerifiedToken) -> None:
        super().__init__()
        self.raw_headers = []  # those that are added to the app's
        self._app = app
        self._guard = guard
        self._token = token
        self.client: RequestStream | None = None
        """Where the body of the request was read."""
        self.tool_lists: ToolLists | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.client is not None:
            receive = self.client.receive_again
        if self.tool_lists is not None:
            scope = {**scope, "headers": uncompressed(scope["headers"])}
            send = self.tool_lists.filtering(send)
        more = False
        with anyio.CancelScope() as running, ExitStack() as watching:

            async def send_with_headers(message: Message) -> None:
                nonlocal more
                if message["type"] == "http.response.start":
                    readable = () if allows_origin(message) else READABLE
                    headers = [*message.get("headers", ()), *self.raw_headers, *readable]
                    message = {**message, "headers": headers}
                    if is_event_stream(headers):
                        watching.enter_context(
                            self._guard.tokens.watching(self._token, running.cancel, until_expiry=listens(scope))
                        )
                more = message.get("more_body", message["type"] == "http.response.start")
                await send(message)

            verified = {
                **_anonymous(scope),
                TOKEN: self._token,
                "user": VerifiedUser(self._token),
                "auth": AuthCredentials(sorted(self._token.scopes)),
            }
            await self._app(verified, receive, send_with_headers)
        if running.cancelled_caught and more:
            await send({"type": "http.response.body", "body": b""})
