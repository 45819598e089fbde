"""The composition root: which parts there are, and the route table. Nothing else."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter, time
from typing import Protocol

import httpx
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from seed_oauth.answer import json_response
from seed_oauth.boundary import Boundary, Endpoint
from seed_oauth.client_assertion import ClientAssertions
from seed_oauth.client_authentication import ClientAuthentication
from seed_oauth.clients import ClientStore
from seed_oauth.clients.assertions import SqliteUsedAssertions
from seed_oauth.clients.cached import CachedClientStore
from seed_oauth.clients.keys import ClientKeys
from seed_oauth.clients.metadata_document import ClientDocuments
from seed_oauth.clients.resolved import ResolvedClientStore
from seed_oauth.clients.sqlite import SqliteClientStore
from seed_oauth.cors import ENDPOINT_CORS, RESOURCE_CORS
from seed_oauth.database import Database
from seed_oauth.discovery import Discovery
from seed_oauth.endpoints.authorization import AuthorizationEndpoint
from seed_oauth.endpoints.callback import CallbackEndpoint
from seed_oauth.endpoints.consent import ConsentEndpoint
from seed_oauth.endpoints.health import ReadinessEndpoint, healthz
from seed_oauth.endpoints.metadata import documents
from seed_oauth.endpoints.registration import RegistrationEndpoint
from seed_oauth.endpoints.revocation import RevocationEndpoint
from seed_oauth.endpoints.token import TokenEndpoint
from seed_oauth.flows import Flow
from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.flows.relay import RelayFlow
from seed_oauth.grants import GrantStore
from seed_oauth.grants.sqlite import SqliteGrantStore
from seed_oauth.guarded_transport import GuardedTransport
from seed_oauth.identity_provider import HttpIdentityProvider
from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.protection.bearer import BearerTokens
from seed_oauth.protection.guard import Guard
from seed_oauth.protection.issuer_keys import IssuerKeys
from seed_oauth.provider_metadata import ConfiguredMetadata, MetadataSource
from seed_oauth.reverse_proxy import METHODS, ReverseProxy
from seed_oauth.settings import Settings
from seed_oauth.telemetry import Pipeline, Recording
from seed_oauth.timed_identity_provider import TimedIdentityProvider
from seed_oauth.transport import AuthenticatedTransport, IdentityProviderTransport


class _Part(Protocol):
    async def aclose(self) -> None: ...


def create_app(
    settings: Settings | None = None,
    *,
    pipeline: Recording | None = None,
    clients: ClientStore | None = None,
    grants: GrantStore | None = None,
    metadata: MetadataSource | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    client_documents: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time,
    clock: Callable[[], float] = perf_counter,
) -> Starlette:
    """The front door as an ASGI app, to be run by itself or mounted into another.

    Args:
        settings: from the environment when left out.
        pipeline: where to record; its registry is what `create_metrics_app` serves. A new one by default,
            to be found at `app.state.pipeline`.
        clients: where registered clients are kept; by default what `settings.store_url` says.
        grants: where it is remembered which refresh tokens were used; by default what `settings.store_url` says.
        metadata: what is known of the identity provider; by default what the settings say.
        transport: the way to the identity provider, for tests and for special networks.
        client_documents: the way to what clients publish, for the same; it must refuse addresses that are not public.
        now: counts seconds since the epoch, for tests.
        clock: counts the seconds that exchanges take, for tests.

    Raises:
        SettingsError: the environment's settings cannot be used.
    """
    settings = settings or Settings.load()
    pipeline = pipeline or Pipeline()
    database = Database(settings.store_url)
    client_documents = client_documents or GuardedTransport(allow_loopback=settings.client_documents_on_loopback)
    clients = _every_client(settings, clients or SqliteClientStore(database, settings.client_days), client_documents)
    keys = ClientKeys(client_documents)
    audiences = (settings.issuer, f"{settings.issuer}/oauth/token")
    assertions = ClientAssertions(audiences, keys, SqliteUsedAssertions(database), now)
    authentication = ClientAuthentication(clients, assertions)
    transport = transport or IdentityProviderTransport(settings)
    bare = pipeline.instrument(transport)
    discovery = None
    if metadata is None and settings.reads_metadata:
        metadata = discovery = Discovery(settings, bare, pipeline.telemetry)
    metadata = metadata or ConfiguredMetadata(settings)
    # Credentials are added beneath the instrumentation, which so never sees them.
    transport = pipeline.instrument(AuthenticatedTransport(settings, transport))
    identity_provider = TimedIdentityProvider(HttpIdentityProvider(settings, transport), pipeline.telemetry, clock)
    flow: Flow = RelayFlow(settings, metadata, identity_provider)

    def counted(
        path: str,
        endpoint: Endpoint,
        outcomes: EndpointOutcomes,
        *methods: str,
        cors: Middleware | None = ENDPOINT_CORS,
    ) -> Route:
        boundary = Boundary(endpoint, outcomes, methods, telemetry=pipeline.telemetry, issuer=settings.issuer)
        return Route(path, boundary, middleware=[cors] if cors else [])

    endpoints: list[BaseRoute] = []
    if settings.flow == "broker":
        flow = broker = BrokerFlow(settings, metadata, identity_provider, grants or SqliteGrantStore(database), now)
        consent = ConsentEndpoint(settings, broker, now)
        callback = CallbackEndpoint(settings, metadata, now)
        endpoints += [
            counted("/oauth/consent", consent, ConsentOutcome, "POST", cors=None),
            counted("/oauth/callback", callback, CallbackOutcome, "GET", cors=None),
        ]
    authorization = AuthorizationEndpoint(settings, clients, flow)
    token = TokenEndpoint(settings, authentication, flow)
    registration = RegistrationEndpoint(settings, clients)
    endpoints += [
        counted("/oauth/authorize", authorization, AuthorizationOutcome, "GET", "POST", cors=None),
        counted("/oauth/token", token, TokenOutcome, "POST"),
        counted("/oauth/register", registration, RegistrationOutcome, "POST"),
    ]
    if settings.can_revoke:
        revocation = RevocationEndpoint(authentication, flow)
        endpoints.append(counted("/oauth/revoke", revocation, RevocationOutcome, "POST"))
    tokens = BearerTokens(settings, metadata, identity_provider, IssuerKeys(bare, pipeline.telemetry), now=now)
    parts: list[_Part] = [tokens, identity_provider, clients, keys, client_documents, database]
    if settings.upstream:
        proxy = ReverseProxy(settings, Guard(settings, settings.protected_resources[0], tokens))
        parts.insert(0, proxy)
        # Clients write the resource with and without a slash at its end (PROTOCOL A9).
        for path in {settings.upstream_path, settings.upstream_path.rstrip("/") + "/"}:
            endpoints.append(counted(path, proxy, ResourceOutcome, *METHODS, cors=RESOURCE_CORS))
    routes = [
        *endpoints,
        Route("/healthz", healthz),
        Route("/readyz", ReadinessEndpoint(settings, clients, metadata).__call__),
        *(
            Route(path, document.__call__, methods=["GET", "OPTIONS"], middleware=[ENDPOINT_CORS])
            for path, document in documents(settings).items()
        ),
    ]
    if settings.issuer_path:
        # Behind a reverse proxy that keeps the issuer's path.
        routes.append(Mount(settings.issuer_path, routes=endpoints))

    app = Starlette(
        routes=routes,
        middleware=pipeline.middleware(),
        lifespan=_lifespan(settings, pipeline, discovery, parts),
        exception_handlers={404: _not_found},
    )
    app.router.redirect_slashes = False
    app.state.pipeline = pipeline
    return app


def _every_client(
    settings: Settings, registered: ClientStore, client_documents: httpx.AsyncBaseTransport
) -> ResolvedClientStore:
    documents = ClientDocuments(client_documents, settings.private_use_schemes)
    return ResolvedClientStore(
        CachedClientStore(registered),
        settings.clients,
        documents if settings.client_id_metadata_documents else None,
    )


def _lifespan(
    settings: Settings, pipeline: Recording, discovery: Discovery | None, parts: Iterable[_Part]
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """What happens at start and at the end, when `parts` let go of what they hold."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log = structlog.get_logger("seed_oauth")
        if missing := settings.missing():
            log.warning("not configured", missing=missing)
        if pipeline.is_partial():
            log.warning(
                "a scrape of this process tells of a part only",
                remedy="use seed-oauth serve --workers, or push: set OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        if discovery is not None:
            discovery.start()
        yield
        if discovery is not None:
            await discovery.aclose()
        for part in parts:
            await part.aclose()

    return lifespan


async def _not_found(_: Request, __: Exception) -> Response:
    description = "there is nothing here: the endpoints are listed at /.well-known/oauth-authorization-server"
    return json_response({"error": "not_found", "error_description": description}, 404)
