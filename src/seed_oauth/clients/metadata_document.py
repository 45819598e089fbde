"""Clients whose client_id is the URL of their metadata.

Client ID Metadata Documents (draft-ietf-oauth-client-id-metadata-document), as MCP Authorization recommends them.
"""

import re
from collections.abc import Collection, Mapping

import httpx

from seed_oauth.clients import BadClientDocumentError, Client, TokenEndpointAuthMethod
from seed_oauth.clients import metadata as client_metadata
from seed_oauth.clients.metadata import BadMetadataError
from seed_oauth.clients.published import PublishedDocuments
from seed_oauth.protocol.jwk import BadKeysError, read_jwk_set

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

    def __init__(self, transport: httpx.AsyncBaseTransport, private_use_schemes: Collection[str] = ()) -> None:
        """`transport` is that of `PublishedDocuments`."""
        self._private_use_schemes = private_use_schemes
        self._documents = PublishedDocuments(transport, self._client, limit=MAXIMUM_DOCUMENT)

    async def get(self, client_id: str) -> Client:
        """The client whose document is at `client_id`.

        Raises:
            BadClientDocumentError: the URL or the document breaks a rule.
            ClientDocumentUnavailableError: the document cannot be fetched now.
        """
        if not is_well_formed(client_id):
            raise BadClientDocumentError(
                "must be at an https URL with a host and a path, without user, query, fragment and dot segments"
            )
        return await self._documents.get(client_id)

    async def aclose(self) -> None:
        """Cancel the fetches that are under way."""
        await self._documents.aclose()

    def _client(self, client_id: str, document: Mapping[str, object]) -> Client:
        # §4: simple string comparison (RFC 3986 §6.2.1), or one client could impersonate another.
        if document.get("client_id") != client_id:
            raise BadClientDocumentError("must have its own URL as its client_id")
        if any(name in document for name in _SECRETS):
            raise BadClientDocumentError("must not have a client_secret: everybody can read it")
        try:
            method, *further = _auth_methods(document)
            jwks, jwks_uri = _keys(document) if "private_key_jwt" in {method, *further} else (None, None)
            return Client(
                client_id=client_id,
                issued_at=0,
                redirect_uris=client_metadata.redirect_uris(document, self._private_use_schemes),
                token_endpoint_auth_method=method,
                further_auth_methods=tuple(further),
                metadata=client_metadata.accepted(document),
                jwks=jwks,
                jwks_uri=jwks_uri,
            )
        except BadMetadataError as bad:
            raise BadClientDocumentError(f"breaks a rule: {bad}") from bad


def _auth_methods(document: Mapping[str, object]) -> list[TokenEndpointAuthMethod]:
    """The authentication methods of the client; `none` by default.

    ChatGPT publishes a list instead of one method (OpenID Connect Relying Party Metadata Choices): then every method in
    it that is supported here is accepted, because the client does not learn which one was chosen.
    """
    listed = document.get("token_endpoint_auth_methods_supported")
    if listed is None:
        return [client_metadata.auth_method(document, _AUTH_METHODS, "none")]
    if not isinstance(listed, list):
        raise BadMetadataError("token_endpoint_auth_methods_supported must be a list of strings")
    methods = [method for method in _AUTH_METHODS if method in listed]
    if not methods or document.get("token_endpoint_auth_method", methods[0]) not in listed:
        raise BadMetadataError(f"token_endpoint_auth_methods_supported must list {' or '.join(_AUTH_METHODS)}")
    return methods


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
