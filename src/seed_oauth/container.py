"""The parts of a front door, put together as the settings say."""

from collections.abc import Callable
from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol

import httpx

from seed_oauth.clients import ClientStore
from seed_oauth.clients.assertion import ClientAssertions
from seed_oauth.clients.authentication import ClientAuthentication
from seed_oauth.clients.cached import CachedClientStore
from seed_oauth.clients.keys import ClientKeys
from seed_oauth.clients.metadata_document import ClientDocuments
from seed_oauth.clients.resolved import ResolvedClientStore
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import Flow, IdpParameters
from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.relay import RelayFlow
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.tokens import TokenIssuer
from seed_oauth.http import paths
from seed_oauth.http_client.guarded_transport import GuardedTransport
from seed_oauth.http_client.transport import AuthenticatedTransport, IdentityProviderTransport
from seed_oauth.identity_provider.circuit_breaker import CircuitBreaker
from seed_oauth.identity_provider.client import HttpIdentityProvider
from seed_oauth.identity_provider.discovery import Discovery
from seed_oauth.identity_provider.jwks import IssuerKeys
from seed_oauth.identity_provider.metadata import ConfiguredMetadata, MetadataSource
from seed_oauth.identity_provider.timed import TimedIdentityProvider
from seed_oauth.rate_limits import RateLimits
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.resource_server.guard import Guard
from seed_oauth.resource_server.reverse_proxy import ReverseProxy
from seed_oauth.settings import Settings
from seed_oauth.settings.store_url import is_redis
from seed_oauth.storage.open import open_stores
from seed_oauth.telemetry import Recording

if TYPE_CHECKING:
    from seed_oauth.rate_limits.shared import SharedLimits


_DAY = 86_400  # seconds


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class Container:
    """Everything that the endpoints stand on. What is not given is made as the settings say."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Recording,
        *,
        clients: ClientStore | None = None,
        grants: GrantStore | None = None,
        metadata: MetadataSource | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        client_documents: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """See `create_app`."""
        stores = open_stores(settings)
        self.now = now
        self.limits = RateLimits(settings, now)
        self._sharing = _sharing(self.limits, settings.store_url)

        # The way to the identity provider: with our credentials, which are added beneath the instrumentation and so
        # never seen by it, and without them for what is public.
        transport = transport or IdentityProviderTransport(settings)
        bare = pipeline.instrument(transport)
        authenticated = pipeline.instrument(AuthenticatedTransport(settings, transport))
        self._discovery = None
        if metadata is None and settings.reads_metadata:
            metadata = self._discovery = Discovery(settings, bare, pipeline.telemetry)
        self.metadata = metadata or ConfiguredMetadata(settings)
        # What the circuit breaker refuses is no exchange, so the stopwatch is inside of it.
        identity_provider = CircuitBreaker(
            TimedIdentityProvider(HttpIdentityProvider(settings, authenticated), pipeline.telemetry, clock), clock
        )

        # Who the clients are, and whether it is they who ask.
        client_documents = client_documents or GuardedTransport(allow_loopback=settings.client_documents_on_loopback)
        documents = ClientDocuments(client_documents, settings.private_use_schemes)
        self.clients = ResolvedClientStore(
            CachedClientStore(clients or stores.clients),
            settings.clients,
            documents if settings.client_id_metadata_documents else None,
        )
        keys = ClientKeys(client_documents)
        audiences = (settings.issuer, paths.url(settings.issuer, paths.TOKEN))
        assertions = ClientAssertions(audiences, keys, stores.assertions, now)
        self.authentication = ClientAuthentication(self.clients, assertions)

        sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
        parameters = IdpParameters(
            settings.idp_client_id or "",
            default_resource=settings.protected_resources[0],
            send_resource=settings.idp_send_resource,
            authorization=settings.idp_authorization_parameters,
            resource_names=settings.idp_resource_parameters,
        )
        self.broker: BrokerFlow | None = None
        self.flow: Flow = RelayFlow(parameters, self.metadata, identity_provider)
        if settings.flow == "broker":
            self.flow = self.broker = BrokerFlow(
                settings.issuer,
                parameters,
                IdpScopes(settings.idp_scopes, settings.idp_dropped_scopes),
                self.metadata,
                identity_provider,
                sealer=sealer,
                tokens=TokenIssuer(sealer, settings.access_tokens, settings.access_token_seconds),
                rotation=_rotation(settings, grants or stores.grants, sealer, now),
                consent_days=settings.consent_days,
                now=now,
            )

        self._closable: list[_Closable] = [identity_provider, self.clients, keys, client_documents, stores]
        self.proxy: ReverseProxy | None = None
        if settings.mcp_server:
            tokens = BearerTokens(
                settings.issuer,
                sealer,
                self.metadata,
                identity_provider,
                IssuerKeys(bare, pipeline.telemetry),
                idp_client_id=settings.idp_client_id,
                audiences=settings.idp_audiences,
                introspection=settings.idp_introspection,
                now=now,
            )
            self.proxy = ReverseProxy(
                settings.mcp_server,
                Guard(
                    settings.protected_resources[0],
                    tokens,
                    required=settings.required_scopes,
                    advertised=settings.advertised_scopes,
                ),
                issuer=settings.issuer,
                timeout=settings.mcp_server_timeout,
                body_limit=settings.mcp_server_body_limit,
                send_token=settings.mcp_server_send_token,
            )
            self._closable[:0] = [self.proxy, tokens]

    def start(self) -> None:
        """Begin what goes on in the background: finding out about the identity provider, and what others count."""
        if self._discovery is not None:
            self._discovery.start()
        if self._sharing is not None:
            self._sharing.start()

    async def aclose(self) -> None:
        """Let go of connections, of what is under way first."""
        if self._discovery is not None:
            await self._discovery.aclose()
        if self._sharing is not None:
            await self._sharing.aclose()
        for part in self._closable:
            await part.aclose()


def _rotation(settings: Settings, grants: GrantStore, sealer: Sealer, now: Callable[[], float]) -> Rotation:
    lifetime = settings.refresh_token_days * _DAY
    return Rotation(grants, sealer, now, exchange_timeout=settings.idp_timeout, lifetime=lifetime)


def _sharing(limits: RateLimits, store_url: str) -> "SharedLimits | None":
    """What keeps the limits of several hosts together, where they share a store."""
    if not is_redis(store_url):
        return None
    # Who keeps things in SQLite does not pay for the library, in memory or at start.
    from seed_oauth.rate_limits.shared import SharedLimits  # noqa: PLC0415
    from seed_oauth.storage.redis.database import RedisDatabase  # noqa: PLC0415

    # A connection of its own, so that counts wait for no store, and no store for them.
    return SharedLimits(limits, RedisDatabase(store_url))
