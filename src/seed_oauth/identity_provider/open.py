"""The identity provider that the settings describe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ssl import SSLContext
from time import monotonic, perf_counter, time

import httpx

from seed_oauth.access.identity import ClaimNames
from seed_oauth.http_client.transport import AuthenticatedTransport, IdentityProviderTransport
from seed_oauth.identity_provider.circuit_breaker import CircuitBreaker
from seed_oauth.identity_provider.client import HttpIdentityProvider, IdentityProvider
from seed_oauth.identity_provider.discovery import Discovery
from seed_oauth.identity_provider.id_token import IdTokens
from seed_oauth.identity_provider.identification import Identification
from seed_oauth.identity_provider.jwks import IssuerKeys
from seed_oauth.identity_provider.metadata import ConfiguredMetadata, MetadataSource, ProviderMetadata
from seed_oauth.identity_provider.timed import TimedIdentityProvider
from seed_oauth.settings import Settings
from seed_oauth.settings.access import rule_needs
from seed_oauth.telemetry import Recording, Telemetry
from seed_oauth.telemetry.gauges import CIRCUIT_OPEN, IDP_IN_FLIGHT

Transport = httpx.AsyncBaseTransport


@dataclass(frozen=True, slots=True)
class OpenIdentityProvider:
    """Everything that talks to the identity provider."""

    metadata: MetadataSource
    client: IdentityProvider
    keys: IssuerKeys
    identification: Identification
    observations: Sequence[Callable[[], None]]
    """What ends each of them."""

    def start(self) -> None:
        """Start to read the metadata in the background, if it is to be read."""
        if isinstance(self.metadata, Discovery):
            self.metadata.start()

    async def check(self) -> None:
        """Read the metadata now, if it is to be read.

        Raises:
            IdentityProviderError: it cannot be read, also where an older one is known.
        """
        if isinstance(self.metadata, Discovery):
            await self.metadata.check()

    async def aclose(self) -> None:
        """Cancel what is under way, and close the connections."""
        if isinstance(self.metadata, Discovery):
            await self.metadata.aclose()
        await self.keys.aclose()
        await self.client.aclose()
        for end in self.observations:
            end()


def open_identity_provider(
    settings: Settings,
    pipeline: Recording,
    *,
    transport: Transport | None = None,
    metadata: MetadataSource | None = None,
    clock: Callable[[], float] = perf_counter,
    now: Callable[[], float] = time,
) -> OpenIdentityProvider:
    """The identity provider, its requests counted, timed and stopped while it does not respond.

    Nothing is connected to yet. `transport` and `metadata` are those of the settings by default; `clock` counts seconds
    and never goes back, `now` those since the epoch.
    """
    transport = transport or open_transport(settings)
    # The metadata and the keys are public: no credentials go there.
    public = pipeline.instrument(transport)
    if metadata is None and settings.reads_metadata:
        metadata = open_discovery(settings, public, pipeline.telemetry)
    # A request that the circuit breaker refuses is no exchange, so the timer is inside.
    client = CircuitBreaker(
        TimedIdentityProvider(open_client(settings, transport, pipeline.instrument), pipeline.telemetry, clock), clock
    )
    circuits = client.circuits
    observations = (
        pipeline.observe(IDP_IN_FLIGHT, lambda: {name.value: circuit.in_flight for name, circuit in circuits.items()}),
        pipeline.observe(
            CIRCUIT_OPEN, lambda: {name.value: int(circuit.is_open) for name, circuit in circuits.items()}
        ),
    )
    keys = IssuerKeys(public, pipeline.telemetry)
    preset = settings.preset
    return OpenIdentityProvider(
        metadata or ConfiguredMetadata(configured_metadata(settings)),
        client,
        keys,
        Identification(
            client,
            IdTokens(settings.idp_client_id or "", keys, now),
            claim_names(settings),
            needs=rule_needs(settings),
            has_userinfo=preset is None or preset.has_userinfo,
            is_github=preset is not None and preset.name == "github",
        ),
        observations,
    )


def claim_names(settings: Settings) -> ClaimNames:
    """How the identity provider says who a user is."""
    email_verified = settings.preset.email_verified_claim if settings.preset else ClaimNames().email_verified
    return ClaimNames(email_verified, settings.idp_groups_claim, settings.idp_roles_claim, settings.idp_tenant_claim)


def open_transport(settings: Settings, ssl_context: SSLContext | bool = True) -> IdentityProviderTransport:
    """The connections to the identity provider, with the timeouts of the settings."""
    return IdentityProviderTransport(
        timeout=settings.idp_timeout, connect_timeout=settings.idp_connect_timeout, ssl_context=ssl_context
    )


def open_client(
    settings: Settings,
    transport: Transport,
    instrument: Callable[[Transport], Transport] = lambda transport: transport,
) -> HttpIdentityProvider:
    """The client of the identity provider, which adds our credentials below `instrument`, so that no span has them."""
    public = transport
    client_id = settings.idp_client_id or ""
    credentials = {"client_id": client_id}
    secret = ""
    if settings.idp_client_secret is not None:
        secret = settings.idp_client_secret.get_secret_value()
        if settings.idp_token_auth_method == "client_secret_post":  # noqa: S105 - a method's name
            credentials["client_secret"] = secret
        else:
            credentials = {}
            transport = AuthenticatedTransport(transport, client_id, secret)
    preset = settings.preset
    return HttpIdentityProvider(
        instrument(transport),
        credentials,
        public=instrument(public),
        token_parameters=settings.idp_token_parameters,
        error_codes=preset.error_codes if preset else {},
        scope_separator=preset.scope_separator if preset else " ",
        secret=secret,
    )


def open_discovery(
    settings: Settings, transport: Transport, telemetry: Telemetry, clock: Callable[[], float] = monotonic
) -> Discovery:
    """The metadata at the issuer of the settings, whose URLs override those in it."""
    configured = replace(configured_metadata(settings), issuer=settings.idp_issuer_claim)
    return Discovery(
        settings.idp_issuer or "", configured, transport, telemetry, publishes=publisher(settings), clock=clock
    )


def configured_metadata(settings: Settings) -> ProviderMetadata:
    """The metadata as far as it is in the settings."""
    return ProviderMetadata(
        issuer=settings.idp_issuer_claim or settings.idp_issuer,
        authorization_endpoint=settings.idp_authorization_url,
        token_endpoint=settings.idp_token_url,
        revocation_endpoint=settings.idp_revocation_url,
        jwks_uri=settings.idp_jwks_url,
        introspection_endpoint=settings.idp_introspection_url,
        userinfo_endpoint=settings.idp_userinfo_url,
    )


def publisher(settings: Settings) -> Callable[[str], bool]:
    """Tells whether the metadata at the issuer of the settings may name an issuer."""
    issuer, claim, preset = settings.idp_issuer, settings.idp_issuer_claim, settings.preset

    def publishes(published: str) -> bool:
        return published in {issuer, claim} or (preset is not None and preset.publishes(issuer or "", published))

    return publishes
