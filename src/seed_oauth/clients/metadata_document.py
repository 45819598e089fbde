"""Clients whose client_id is the URL of their metadata.

Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document), as MCP Authorization recommends them.
"""

import re
from collections.abc import Mapping

import httpx

from seed_oauth.clients import BadClientDocumentError, Client, ClientNotAllowedError, TokenEndpointAuthMethod
from seed_oauth.clients import metadata as client_metadata
from seed_oauth.clients.archive import DocumentArchive
from seed_oauth.clients.metadata import BadMetadataError
from seed_oauth.clients.policy import ALLOW_ALL, ClientPolicy
from seed_oauth.clients.published import PublishedDocuments, Record
from seed_oauth.protocol.jwk import BadKeysError, read_jwk_set
from seed_oauth.protocol.redirect_uri import RedirectUriRules

MAXIMUM_DOCUMENT = 5 * 1024
"""Bytes of a document, as the draft recommends."""

_MAXIMUM_URL = 1024

# §3: https and a path, without user or fragment. A query is refused although it is only a SHOULD NOT: no known client
# needs one, and it would turn one document into any number of clients.
_URL = re.compile(
    r"https://(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
)

# §4.1: a public document cannot establish a secret.
_AUTH_METHODS: tuple[TokenEndpointAuthMethod, ...] = ("private_key_jwt", "none")
_SECRETS = ("client_secret", "client_secret_expires_at")


def is_url_of_document(client_id: str) -> bool:
    """Whether `client_id` is the URL of a document; client_ids issued here never look like one."""
    return client_id.startswith("https://")


def is_well_formed(client_id: str) -> bool:
    """Whether `client_id` is a Client Identifier URL (§3)."""
    if len(client_id) > _MAXIMUM_URL or not _URL.fullmatch(client_id):
        return False
    segments = client_id.lower().replace("%2e", ".").split("/")
    return not {".", ".."} & set(segments)


class ClientDocuments:
    """The clients that publish a document."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        rules: RedirectUriRules,
        policy: ClientPolicy = ALLOW_ALL,
        archive: DocumentArchive | None = None,
        record: Record = lambda *_: None,
    ) -> None:
        """`transport`, `archive` and `record` are those of `PublishedDocuments`."""
        self._rules = rules
        self._policy = policy
        self._documents = PublishedDocuments(
            transport, self._client, limit=MAXIMUM_DOCUMENT, archive=archive, record=record
        )

    async def get(self, client_id: str) -> Client:
        """The client whose document is at `client_id`.

        Raises:
            ClientNotAllowedError: the operator does not allow it.
            BadClientDocumentError: the URL or the document breaks a rule.
            ClientDocumentUnavailableError: the document cannot be fetched now.
        """
        if not is_well_formed(client_id):
            raise BadClientDocumentError(
                "must be at an https URL with a host and a path, without user, query, fragment and dot segments"
            )
        if objection := self._policy.document_objection(client_id):
            raise ClientNotAllowedError(objection)
        return await self._documents.get(client_id)

    async def keep(self, client_id: str) -> Client | None:
        """Archive the document at `client_id`; the client, if its document was fetched."""
        return await self._documents.keep(client_id)

    async def aclose(self) -> None:
        """Cancel the fetches that are under way."""
        await self._documents.aclose()

    def _client(self, client_id: str, published: Mapping[str, object]) -> Client:
        document = client_metadata.present(published)
        # §4: simple string comparison (RFC 3986 §6.2.1), or one client could impersonate another.
        if document.get("client_id") != client_id:
            raise BadClientDocumentError("must have its own URL as its client_id")
        if any(name in document for name in _SECRETS):
            raise BadClientDocumentError("must not have a client_secret: everybody can read it")
        try:
            method = _auth_method(document)
            jwks, jwks_uri = _keys(document) if method == "private_key_jwt" else (None, None)
            return Client(
                client_id=client_id,
                issued_at=0,
                redirect_uris=client_metadata.redirect_uris(document, self._rules, self._policy),
                token_endpoint_auth_method=method,
                metadata=_named(client_metadata.accepted(document)),
                jwks=jwks,
                jwks_uri=jwks_uri,
            )
        except BadMetadataError as bad:
            raise BadClientDocumentError(f"breaks a rule: {bad}") from bad


def _named(metadata: dict[str, object]) -> dict[str, object]:
    # §4.1, MCP Authorization: a MUST
    if "client_name" not in metadata:
        raise BadMetadataError("client_name must be there, of at most 256 printable characters")
    return metadata


def _auth_method(document: Mapping[str, object]) -> TokenEndpointAuthMethod:
    """The authentication method of the client; `none` by default.

    Of a list it is the strongest one that is supported here: whoever steals a code would choose the weakest. The list
    replaces the single method, also if they disagree (OpenID Connect Relying Party Metadata Choices 1.0, SEP-3149).
    """
    listed = document.get("token_endpoint_auth_methods_supported")
    if listed is None:
        return client_metadata.auth_method(document, _AUTH_METHODS, "none")
    if not isinstance(listed, list):
        raise BadMetadataError("token_endpoint_auth_methods_supported must be a list of strings")
    for method in _AUTH_METHODS:
        if method in listed:
            return method
    raise BadMetadataError(f"token_endpoint_auth_methods_supported must list {' or '.join(_AUTH_METHODS)}")


def _keys(document: Mapping[str, object]) -> tuple[Mapping[str, object] | None, str | None]:
    """`jwks` or `jwks_uri`, and None for the other (RFC 7591 §2: never both)."""
    jwks = document.get("jwks")
    if (jwks is None) == (document.get("jwks_uri") is None):
        raise BadMetadataError("private_key_jwt needs either jwks or jwks_uri")
    if jwks is None:
        return None, client_metadata.https_url(document, "jwks_uri")
    try:
        read_jwk_set(jwks)
    except BadKeysError as bad:
        raise BadMetadataError(f"jwks {bad}") from bad
    return jwks, None  # type: ignore[return-value]  # read_jwk_set has checked that it is a mapping
