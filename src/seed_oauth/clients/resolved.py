"""All clients: those in the settings, those that publish a document, and those that registered."""

from collections.abc import Iterable

from seed_oauth.clients import Client, ClientStore, hash_secret
from seed_oauth.clients.keys import ClientKeys
from seed_oauth.clients.metadata_document import ClientDocuments, is_url_of_document
from seed_oauth.settings.preregistered import PreregisteredClient


class ResolvedClientStore:
    """A `ClientStore` in front of the store of registered clients.

    The settings come first: they are available if the store is not, and the operator may trust a client that publishes
    a document.
    """

    def __init__(
        self,
        registered: ClientStore,
        preregistered: Iterable[PreregisteredClient] = (),
        documents: ClientDocuments | None = None,
        keys: ClientKeys | None = None,
    ) -> None:
        """`documents` is None if Client ID Metadata Documents are disabled; `keys` are those at a `jwks_uri`."""
        self._registered = registered
        self._preregistered = {client.client_id: _client(client) for client in preregistered}
        self._documents = documents
        self._keys = keys

    async def get(self, client_id: str) -> Client | None:
        """The client, or None if there is no such client."""
        preregistered = self._preregistered.get(client_id)
        if preregistered is not None:
            return preregistered
        if self._documents is not None and is_url_of_document(client_id):
            return await self._documents.get(client_id)
        return await self._registered.get(client_id)

    async def add(self, client: Client) -> None:
        """Add a new client."""
        await self._registered.add(client)

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        """Record that the client got a token: registered clients expire without, and documents are archived."""
        if client_id in self._preregistered:
            return
        if not is_url_of_document(client_id):
            await self._registered.mark_used(client_id, subject)
        elif self._documents and (client := await self._documents.keep(client_id)) and self._keys:
            await self._keys.keep(client)

    async def check(self) -> int | None:
        """Return if the store works: the number of registered clients, or None if it is not known."""
        return await self._registered.check()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._documents is not None:
            await self._documents.aclose()
        await self._registered.aclose()


def _client(preregistered: PreregisteredClient) -> Client:
    name = preregistered.client_name
    secret = preregistered.client_secret
    return Client(
        client_id=preregistered.client_id,
        issued_at=0,
        redirect_uris=preregistered.redirect_uris,
        token_endpoint_auth_method=preregistered.auth_method,
        secret_hash=None if secret is None else hash_secret(secret.get_secret_value()),
        scope=preregistered.scope,
        metadata={} if name is None else {"client_name": name},
        jwks=preregistered.jwks,
        preregistered=True,
        trusted=not preregistered.asks_consent,
    )
