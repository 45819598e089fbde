"""Opens what the settings say of clients: where they are looked up, and which of them are accepted."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import httpx

from seed_oauth.clients import ClientStore
from seed_oauth.clients.archive import DocumentArchive, DocumentStore
from seed_oauth.clients.cached import CachedClientStore
from seed_oauth.clients.keys import ClientKeys
from seed_oauth.clients.metadata_document import ClientDocuments
from seed_oauth.clients.policy import ClientPolicy
from seed_oauth.clients.resolved import ResolvedClientStore
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.protocol.redirect_uri import RedirectUriRules
from seed_oauth.settings import Settings
from seed_oauth.telemetry import Recording
from seed_oauth.telemetry.gauges import CLIENT_QUOTA, REGISTERED_CLIENTS, STORE_CHECK


class OpenClients(NamedTuple):
    """The clients, and what is used with them."""

    store: ResolvedClientStore
    keys: ClientKeys
    policy: ClientPolicy
    redirect_uri_rules: RedirectUriRules
    observations: Sequence[Callable[[], None]]
    """What ends each of them."""

    async def aclose(self) -> None:
        """Close the connections, and leave the gauges: the app may have been replaced by another one."""
        await self.store.aclose()
        await self.keys.aclose()
        for end in self.observations:
            end()


def open_clients(
    settings: Settings,
    pipeline: Recording,
    registered: ClientStore,
    documents: DocumentStore,
    sealer: Sealer,
    *,
    transport: httpx.AsyncBaseTransport,
    now: Callable[[], float],
) -> OpenClients:
    """The clients of the settings, the registered ones, and those that `transport` fetches the documents of."""
    policy = ClientPolicy(
        redirect_hosts=settings.redirect_hosts,
        document_hosts=settings.client_document_hosts,
        denied_document_hosts=settings.denied_client_document_hosts,
        contact=settings.contact,
    )
    rules = RedirectUriRules(settings.issuer, settings.private_use_schemes)
    # What is not sealed is not archived; in the relay flow there may be no keys.
    archive = DocumentArchive(documents, sealer, now) if settings.secret_keys else None
    record = pipeline.telemetry.record_document_request
    keys = ClientKeys(transport, archive, record)
    published = ClientDocuments(transport, rules, policy, archive, record)
    cached = CachedClientStore(registered)
    store = ResolvedClientStore(
        cached, settings.clients, published if settings.client_id_metadata_documents else None, keys
    )
    return OpenClients(store, keys, policy, rules, _observations(cached, settings.client_quota, pipeline))


def _observations(clients: CachedClientStore, quota: int, pipeline: Recording) -> list[Callable[[], None]]:
    return [
        pipeline.observe(STORE_CHECK, lambda: clients.check_seconds),
        pipeline.observe(REGISTERED_CLIENTS, lambda: clients.registered),
        # A store that does not tell how many clients it has may have another quota.
        pipeline.observe(CLIENT_QUOTA, lambda: dict.fromkeys(clients.registered, quota)),
    ]
