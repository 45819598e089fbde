"""Every client there is: those in the settings, those that publish documents, and those that registered."""

from collections.abc import Iterable

from seed_oauth.clients import Client, ClientStore, hash_secret
from seed_oauth.clients.metadata_document import ClientDocuments, is_url_of_document
from seed_oauth.settings.preregistered import PreregisteredClient


class ResolvedClientStore:
    """A `ClientStore` in front of another, which then only keeps those that register.

    The settings come first: they are there when the store is not, and an operator may vouch for a client
    that publishes a document.
    """

    def __init__(
        self,
        registered: ClientStore,
        preregistered: Iterable[PreregisteredClient] = (),
        documents: ClientDocuments | None = None,
    ) -> None:
        """`documents` is None where clients may not publish any."""
        self._registered = registered
        self._preregistered = {client.client_id: _client(client) for client in preregistered}
        self._documents = documents

    async def get(self, client_id: str) -> Client | None:
        """The client, or None when there is no such client."""
        preregistered = self._preregistered.get(client_id)
        if preregistered is not None:
            return preregistered
        if self._documents is not None and is_url_of_document(client_id):
            return await self._documents.get(client_id)
        return await self._registered.get(client_id)

    async def add(self, client: Client) -> None:
        """Keep a new client."""
        await self._registered.add(client)

    async def mark_used(self, client_id: str) -> None:
        """Note that the client got a token; only of one that registered can that be forgotten."""
        if client_id not in self._preregistered and not is_url_of_document(client_id):
            await self._registered.mark_used(client_id)

    async def check(self) -> None:
        """Return when the store can answer."""
        await self._registered.check()

    async def aclose(self) -> None:
        """Let go of connections."""
        if self._documents is not None:
            await self._documents.aclose()
        await self._registered.aclose()


def _client(preregistered: PreregisteredClient) -> Client:
    metadata = {"client_name": preregistered.client_name, "scope": preregistered.scope}
    secret = preregistered.client_secret
    return Client(
        client_id=preregistered.client_id,
        issued_at=0,
        redirect_uris=preregistered.redirect_uris,
        token_endpoint_auth_method=preregistered.auth_method,
        secret_hash=None if secret is None else hash_secret(secret.get_secret_value()),
        metadata={name: value for name, value in metadata.items() if value is not None},
        jwks=preregistered.jwks,
        trusted=True,
    )
