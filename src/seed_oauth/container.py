"""The parts of a front door, built from the settings."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING, Protocol

import httpx

from seed_oauth.access.rules import rules_of
from seed_oauth.clients import ClientStore
from seed_oauth.clients.assertion import ClientAssertions, UsedAssertions
from seed_oauth.clients.authentication import ClientAuthentication
from seed_oauth.clients.open import open_clients
from seed_oauth.endpoints.backchannel_logout import BackchannelLogoutEndpoint
from seed_oauth.endpoints.health import Readiness
from seed_oauth.endpoints.introspection import IntrospectionEndpoint
from seed_oauth.endpoints.verify import VerifyEndpoint
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import Flow, IdpParameters
from seed_oauth.flows.access_tokens import open_access_tokens
from seed_oauth.flows.account import Account
from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.flows.consent import ConsentPages
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.held_responses import HeldResponses, HeldResponseStore
from seed_oauth.flows.idp_authorization import IdpAuthorization
from seed_oauth.flows.issued_grants import IssuedGrants
from seed_oauth.flows.relay import RelayFlow
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoker import Revoker
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import idp_scopes
from seed_oauth.flows.tokens import TokenIssuer
from seed_oauth.http import paths
from seed_oauth.http.pages import Presentation
from seed_oauth.http.requested_resource import ProtectedResources
from seed_oauth.http_client.guarded_transport import GuardedTransport
from seed_oauth.identity_provider.logout_token import LogoutTokens
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.identity_provider.open import open_identity_provider
from seed_oauth.rate_limits import RateLimits
from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.resource_server.open import accepting, guards_without_bodies, open_tokens, reverse_proxies
from seed_oauth.settings import Settings
from seed_oauth.settings.issued_tokens import token_policy
from seed_oauth.settings.mcp_server import resource_names, sent_by_verify
from seed_oauth.settings.store_url import is_redis
from seed_oauth.storage.open import open_stores
from seed_oauth.telemetry import Recording
from seed_oauth.telemetry.audit import AuditTrail
from seed_oauth.telemetry.gauges import MCP_SERVER_CIRCUIT_OPEN
from seed_oauth.telemetry.mcp_operations import OTHER
from seed_oauth.telemetry.steps import Step

if TYPE_CHECKING:
    from seed_oauth.rate_limits.shared import SharedLimits


_DAY = 86_400  # seconds


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class _Background(Protocol):
    def start(self) -> None: ...


class Container:
    """Everything that the endpoints use. What is not given is built from the settings."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Recording,
        *,
        clients: ClientStore | None = None,
        grants: GrantStore | None = None,
        held: HeldResponseStore | None = None,
        assertions: UsedAssertions | None = None,
        metadata: MetadataSource | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        client_documents: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """See `create_app`."""
        stores = open_stores(settings)
        self.now = now
        self.limits = RateLimits(
            authorize=settings.rate_limit_authorize,
            register=settings.rate_limit_register,
            token=settings.rate_limit_token,
            token_address=settings.rate_limit_token_address,
            trusted_proxies=settings.trusted_proxies,
            now=now,
        )
        sharing = _sharing(self.limits, settings.store_url)

        idp = open_identity_provider(settings, pipeline, transport=transport, metadata=metadata, clock=clock, now=now)
        self.metadata = idp.metadata

        sealer = Sealer([key.get_secret_value() for key in settings.secret_keys], settings.issuer)
        addresses = ClientAddresses(settings.trusted_proxies)
        self.audit = AuditTrail(settings, sealer.pseudonym, addresses.text_of) if settings.audit_log else None
        client_documents = client_documents or GuardedTransport(allow_loopback=settings.client_documents_on_loopback)
        self.resources = ProtectedResources(settings.protected_resources)
        self.resource_names = resource_names(settings)
        if self.resource_names:
            pipeline.telemetry.expect([*self.resource_names.values(), OTHER])
        opened = open_clients(
            settings, pipeline, clients or stores.clients, stores.documents, sealer, transport=client_documents, now=now
        )
        self.clients, self.policy, self.redirect_uri_rules = opened.store, opened.policy, opened.redirect_uri_rules
        self.readiness = Readiness(settings, self.clients, idp, pipeline.telemetry.record_ready)
        verifier = ClientAssertions(settings.issuer, opened.keys, assertions or stores.assertions, now)
        self.authentication = ClientAuthentication(self.clients, verifier)

        revocations = Revocations(stores.revocations, now, epoch=settings.revoke_before)
        parameters = idp_parameters(settings)
        lifetime = settings.refresh_token_days * _DAY
        grants = grants or stores.grants
        rotation = Rotation(
            grants,
            sealer,
            now,
            exchange_timeout=settings.idp_timeout,
            lifetime=lifetime,
            login_lifetime=settings.login_days * _DAY,
        )
        revocation = GrantRevocation(grants, revocations, now, lifetime=lifetime)
        self.own_tokens = own = open_access_tokens(settings, sealer)
        revoker = Revoker(
            sealer,
            own,
            rotation,
            revocations,
            revocation,
            metadata=self.metadata,
            identity_provider=idp.client,
            now=now,
        )
        self.backchannel_logout = BackchannelLogoutEndpoint(
            LogoutTokens(self.metadata, idp.keys, settings.idp_client_id or "", now),
            assertions or stores.assertions,
            revocation,
            now,
            sealer.pseudonym,
        )
        held_responses = HeldResponses(
            held or stores.held, revoker, partial(pipeline.telemetry.record_step, Step.ABANDONED), now
        )
        self.broker: BrokerFlow | None = None
        self.account: Account | None = None
        self.flow: Flow = RelayFlow(parameters, self.metadata, idp.client)
        self.presentation = Presentation(
            name=settings.server_name, logo=settings.server_logo, scopes=settings.scope_descriptions
        )
        if settings.flow == "broker":
            tokens_of_clients = TokenIssuer(
                sealer,
                own,
                token_policy(settings),
                settings.access_token_seconds,
                accepting(settings, now),
            )
            scopes = idp_scopes(settings)
            idp_authorization = IdpAuthorization(
                paths.url(settings.issuer, paths.CALLBACK),
                parameters,
                scopes,
                self.metadata,
                idp.client,
                identification=idp.identification,
                rules=rules_of(settings),
                contact=settings.contact,
                selects_account=settings.preset is not None and settings.preset.selects_account,
                tokens=tokens_of_clients,
                sealer=sealer,
                now=now,
            )
            self.account = Account(
                settings.issuer,
                parameters.default_resource,
                idp_authorization,
                sealer=sealer,
                grants=grants,
                revocation=revocation,
                server=self.presentation,
                configured=settings.can_authorize,
                now=now,
            )
            self.flow = self.broker = BrokerFlow(
                settings.issuer,
                parameters.default_resource,
                idp_authorization,
                scopes=scopes,
                sealer=sealer,
                tokens=tokens_of_clients,
                held=held_responses,
                issued=IssuedGrants(grants, revocations, revocation, now, lifetime=lifetime),
                rotation=rotation,
                revoker=revoker,
                consent=ConsentPages(settings.issuer, sealer, self.presentation, days=settings.consent_days),
                clients=self.clients,
                resources=self.resources,
                now=now,
            )

        tokens = open_tokens(settings, idp, sealer, own, revocations=revocations, now=now)
        self.proxies = reverse_proxies(settings, tokens, grants=grants, spans=pipeline.client_spans, now=now)
        circuits = {
            self.resource_names.get(server.resource, ""): proxy.circuit
            for server, proxy in zip(settings.forwarded, self.proxies, strict=True)
        }
        self._end_observation = pipeline.observe(
            MCP_SERVER_CIRCUIT_OPEN, lambda: {name: int(circuit.is_open) for name, circuit in circuits.items()}
        )

        self.verify = VerifyEndpoint(
            guards_without_bodies(settings, tokens, grants=grants, now=now),
            addresses,
            settings.issuer,
            names=self.resource_names,
            sends_token_for=sent_by_verify(settings),
            now=now,
        )
        self.introspection = IntrospectionEndpoint(
            settings.introspection_clients,
            tokens,
            self.limits.introspection_failures,
            default_resource=settings.protected_resources[0],
            told=settings.access_token_claims,
        )

        self._background: list[_Background] = [idp, self.readiness, *([sharing] if sharing else [])]
        # Closed in reverse order.
        self._closable: list[_Closable] = [stores, client_documents, opened, idp, revocations, revoker]
        self._closable += [held_responses, self.readiness]
        self._closable += [part for part in (*self.proxies, sharing, self.audit) if part is not None]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the work in the background, and close everything at the end, even if some of it fails to close."""
        async with AsyncExitStack() as opened:
            opened.callback(self._end_observation)
            for part in self._closable:
                opened.push_async_callback(part.aclose)
            for work in self._background:
                work.start()
            yield


def idp_parameters(settings: Settings) -> IdpParameters:
    """The parameters of every request to the identity provider."""
    return IdpParameters(
        settings.idp_client_id or "",
        default_resource=settings.protected_resources[0],
        send_resource=settings.idp_send_resource,
        authorization=settings.idp_authorization_parameters,
        resource_names=settings.idp_resource_parameters,
    )


def _sharing(limits: RateLimits, store_url: str) -> "SharedLimits | None":
    """The exchange of counts between the hosts that share a store."""
    if not is_redis(store_url):
        return None
    # Imported here: with SQLite the library would only cost memory and start-up time.
    from seed_oauth.rate_limits.shared import SharedLimits  # noqa: PLC0415
    from seed_oauth.storage.redis.database import RedisDatabase  # noqa: PLC0415

    # A connection of its own, so that counts and stores do not wait for each other.
    return SharedLimits(limits, RedisDatabase(store_url))
