"""The app and its route table. `container.py` builds what the endpoints use."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter, time
from typing import NamedTuple

import httpx
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from seed_oauth.clients import ClientStore
from seed_oauth.clients.assertion import UsedAssertions
from seed_oauth.container import Container
from seed_oauth.endpoints.account import AccountEndpoint
from seed_oauth.endpoints.authorization import AuthorizationEndpoint
from seed_oauth.endpoints.boundary import Boundary, Endpoint, document_route
from seed_oauth.endpoints.callback import CallbackEndpoint
from seed_oauth.endpoints.consent import ConsentEndpoint
from seed_oauth.endpoints.health import ReadinessEndpoint, healthz
from seed_oauth.endpoints.metadata import Document, authorization_server_metadata, documents
from seed_oauth.endpoints.openapi import ApiDescription
from seed_oauth.endpoints.registration import RegistrationEndpoint
from seed_oauth.endpoints.revocation import RevocationEndpoint
from seed_oauth.endpoints.token import TokenEndpoint
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.held_responses import HeldResponseStore
from seed_oauth.http import paths
from seed_oauth.http.answer import json_response
from seed_oauth.http.cors import DOCUMENT_CORS, ENDPOINT_CORS, resource_cors
from seed_oauth.http.pages import Presentation, not_found_page
from seed_oauth.http.routes_by_url import RoutedFirst, RoutesByUrl
from seed_oauth.http.security_headers import SecurityHeaders
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import (
    AccountOutcome,
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    EndpointOutcomes,
    IntrospectionOutcome,
    LogoutOutcome,
    RegistrationOutcome,
    ResourceOutcome,
    RevocationOutcome,
    TokenOutcome,
)
from seed_oauth.resource_server.measured import measuring
from seed_oauth.resource_server.reverse_proxy import METHODS, ReverseProxy
from seed_oauth.settings import Settings
from seed_oauth.settings.mcp_server import host_of
from seed_oauth.settings.store_url import SQLITE, overlooked
from seed_oauth.telemetry import Pipeline, Recording
from seed_oauth.telemetry.mcp_operations import OTHER


def create_app(
    settings: Settings | None = None,
    *,
    pipeline: Recording | None = None,
    clients: ClientStore | None = None,
    grants: GrantStore | None = None,
    held: HeldResponseStore | None = None,
    assertions: UsedAssertions | None = None,
    metadata: MetadataSource | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    client_documents: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time,
    clock: Callable[[], float] = perf_counter,
) -> Starlette:
    """The front door as an ASGI app, to run on its own or to mount in another app.

    Args:
        settings: read from the environment by default.
        pipeline: records the metrics; `create_metrics_app` serves its registry. A new one by default, which is
            available as `app.state.pipeline`.
        clients: the store of registered clients; by default the one at `settings.store_url`.
        grants: the store of grants and their used refresh tokens; by default the one at `settings.store_url`.
        held: the store of token responses that wait for their clients; by default the same.
        assertions: the store of used client assertions; by default the one at `settings.store_url`.
        metadata: the identity provider's metadata; by default read or taken from the settings.
        transport: connects to the identity provider; for tests and special networks.
        client_documents: connects to the URLs that clients publish; must refuse addresses that are not public.
        now: counts seconds since the epoch; for tests.
        clock: counts seconds and never goes back; for tests.

    Raises:
        SettingsError: the settings in the environment cannot be used.
    """
    settings = settings or Settings.load()
    pipeline = pipeline or Pipeline()
    container = Container(
        settings,
        pipeline,
        clients=clients,
        grants=grants,
        held=held,
        assertions=assertions,
        metadata=metadata,
        transport=transport,
        client_documents=client_documents,
        now=now,
        clock=clock,
    )
    endpoints = _endpoints(settings, pipeline, container)
    app = Starlette(
        routes=_routes(settings, pipeline, container, endpoints),
        middleware=[
            Middleware(SecurityHeaders, issuer=settings.issuer),
            *pipeline.middleware(),
            Middleware(RoutedFirst, routes=endpoints.by_url),
        ],
        lifespan=_lifespan(settings, pipeline, container),
        exception_handlers={404: _NotFound(container.presentation, settings.protected_resources)},
    )
    app.router.redirect_slashes = False
    app.state.pipeline = pipeline
    return app


class _Endpoints(NamedTuple):
    """The routes that are below the path of the issuer, too."""

    by_url: RoutesByUrl
    """Those of which each answers every method itself, at a path without parameters."""
    others: list[BaseRoute]


def _routes(settings: Settings, pipeline: Recording, container: Container, endpoints: _Endpoints) -> list[BaseRoute]:
    fallbacks = [
        Route(paths.FALLBACKS[route.path], route.app)
        for route in endpoints.by_url.routes
        if route.path in paths.FALLBACKS
    ]
    routes: list[BaseRoute] = [
        endpoints.by_url,
        *endpoints.others,
        *fallbacks,
        Route(paths.HEALTH, healthz),
        Route(paths.READINESS, ReadinessEndpoint(container.readiness).__call__),
        _document_routes(settings, pipeline),
        Route(
            paths.OPENAPI,
            ApiDescription(settings).__call__,
            methods=["GET", "OPTIONS"],
            middleware=[DOCUMENT_CORS],
        ),
    ]
    if settings.issuer_path:
        # For a reverse proxy that does not strip the path of the issuer.
        routes.append(Mount(settings.issuer_path, routes=[endpoints.by_url, *endpoints.others]))
    return routes


def _document_routes(settings: Settings, pipeline: Recording) -> RoutesByUrl:
    server = authorization_server_metadata(
        settings.issuer,
        flow=settings.flow,
        scopes=settings.advertised_scopes,
        revocation=settings.can_revoke,
        introspection=bool(settings.introspection_clients),
        signing_keys=bool(settings.signing_keys),
        registration=settings.registration,
        client_documents=settings.client_id_metadata_documents,
        client_keys=settings.client_id_metadata_documents or any(client.jwks for client in settings.clients),
        contact=settings.contact,
    )

    def routes(resources: Iterable[str]) -> list[Route]:
        scopes = {resource: settings.scopes_at(resource) for resource in resources}
        found = documents(settings.issuer, server, scopes)
        return [document_route(path, document, pipeline.telemetry) for path, document in found.items()]

    by_host = defaultdict[str, list[str]](list)
    for resource in settings.protected_resources:
        by_host[host_of(resource, settings.issuer)].append(resource)
    # A reverse proxy in front of another host may not pass its name on, so all of them are found under any other name.
    of_issuer = by_host.pop("", [])
    everywhere = dict.fromkeys([*of_issuer, *settings.protected_resources])
    return RoutesByUrl(routes(everywhere), {host: routes(own) for host, own in by_host.items()})


def _endpoints(settings: Settings, pipeline: Recording, container: Container) -> _Endpoints:
    measured = measuring(settings, pipeline)

    def counted(
        path: str,
        endpoint: Endpoint,
        outcomes: EndpointOutcomes,
        *methods: str,
        cors: Middleware | None = ENDPOINT_CORS,
        resource: str = "",
    ) -> Route:
        boundary = Boundary(
            endpoint,
            outcomes,
            methods,
            telemetry=pipeline.telemetry,
            issuer=settings.issuer,
            limit=container.limits.of(outcomes),
            audit=container.audit,
            resource=resource,
        )
        app = measured(boundary) if measured and isinstance(endpoint, ReverseProxy) else boundary
        return Route(path, app, middleware=[cors] if cors else [])

    forwarding = defaultdict[str, list[Route]](list)
    for server, proxy in zip(settings.forwarded, container.proxies, strict=True):
        # Clients write the resource with and without a trailing slash (MCP Authorization, "Canonical Server URI").
        for path in {proxy.path, proxy.path.rstrip("/") + "/"}:
            name = container.resource_names.get(server.resource, "")
            route = counted(path, proxy, ResourceOutcome, *METHODS, cors=resource_cors(proxy.origins), resource=name)
            forwarding[proxy.host].append(route)
    of_issuer = forwarding.pop("", [])
    endpoints: list[Route] = []
    others: list[BaseRoute] = []
    if settings.can_check_tokens:
        unknown = OTHER if container.resource_names else ""
        endpoints.append(counted(paths.VERIFY, container.verify, ResourceOutcome, "GET", cors=None, resource=unknown))
        others.append(
            counted(paths.VERIFY_OF_PATH, container.verify, ResourceOutcome, *METHODS, cors=None, resource=unknown)
        )
    clients, authentication, flow = container.clients, container.authentication, container.flow
    resources = container.resources
    authorization = AuthorizationEndpoint(
        settings.issuer, clients, flow, resources, container.policy, configured=settings.can_authorize
    )
    token = TokenEndpoint(authentication, flow, clients, resources, configured=settings.can_exchange)
    registration = RegistrationEndpoint(
        clients,
        container.redirect_uri_rules,
        container.policy,
        registration=settings.registration,
        tokens=[token.get_secret_value() for token in settings.registration_tokens],
    )
    endpoints += [
        counted(paths.TOKEN, token, TokenOutcome, "POST"),
        counted(paths.AUTHORIZE, authorization, AuthorizationOutcome, "GET", "POST", cors=None),
    ]
    if container.broker and container.account:
        callback = CallbackEndpoint(container.broker, container.account)
        account = AccountEndpoint(container.account)
        endpoints += [
            counted(paths.CALLBACK, callback, CallbackOutcome, "GET", cors=None),
            counted(paths.ACCOUNT, account, AccountOutcome, "GET", "POST", cors=None),
            counted(paths.CONSENT, ConsentEndpoint(container.broker), ConsentOutcome, "POST", cors=None),
            counted(paths.BACKCHANNEL_LOGOUT, container.backchannel_logout, LogoutOutcome, "POST", cors=None),
        ]
    endpoints.append(counted(paths.REGISTER, registration, RegistrationOutcome, "POST"))
    if settings.introspection_clients:
        endpoints.append(counted(paths.INTROSPECT, container.introspection, IntrospectionOutcome, "POST", cors=None))
    if (keys := container.own_tokens.keys) is not None:
        jwks = Document(keys.published)
        others.append(Route(paths.JWKS, jwks.__call__, methods=["GET", "OPTIONS"], middleware=[DOCUMENT_CORS]))
    if settings.can_revoke:
        endpoints.append(counted(paths.REVOKE, RevocationEndpoint(authentication, flow), RevocationOutcome, "POST"))
    # A path of an MCP server comes first, as the operator has set it.
    by_host = {host: [*endpoints, *own] for host, own in forwarding.items()}
    return _Endpoints(RoutesByUrl([*endpoints, *of_issuer], by_host), others)


def _lifespan(
    settings: Settings, pipeline: Recording, container: Container
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log = structlog.get_logger("seed_oauth")
        if pipeline.is_partial():
            log.warning(
                "a scrape of this process shows only its own share of the metrics",
                remedy="use seed-oauth serve --workers, or push: set OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        if former := overlooked(settings.store_url):
            log.warning(
                "the store of an earlier version is not used",
                path=str(former),
                remedy=f"set SEED_OAUTH_STORE_URL={SQLITE}{former} to keep its clients, or delete it",
            )
        async with container.running():
            yield

    return lifespan


class _NotFound:
    """The response at unknown paths: a page in a browser, JSON otherwise."""

    def __init__(self, server: Presentation, resources: Sequence[str]) -> None:
        self._page = not_found_page(server, resources)

    async def __call__(self, request: Request, _: Exception) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return self._page
        description = f"nothing is at this path: {paths.SERVER_METADATA} lists the endpoints"
        return json_response({"error": "not_found", "error_description": description}, 404)
