"""Clients whose client_id is the URL of a document that says what they are.

Client ID Metadata Documents: draft-ietf-oauth-client-id-metadata-document, as MCP asks for them.
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

# §3: https, no user, no fragment; a path. A query, which a client SHOULD NOT have, is not needed by any that is
# known, and would make one document any number of clients.
_URL = re.compile(
    r"https://(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
)

# §4.1: nothing that is secret can be agreed on by a document that everybody can read.
_AUTH_METHODS: tuple[TokenEndpointAuthMethod, ...] = ("private_key_jwt", "none")
_SECRETS = ("client_secret", "client_secret_expires_at")


def is_url_of_document(client_id: str) -> bool:
    """Whether `client_id` means a document; those that are issued here never look so."""
    return client_id.startswith("https://")


def is_well_formed(client_id: str) -> bool:
    """Whether `client_id` is a Client Identifier URL (§3)."""
    if len(client_id) > _MAXIMUM_URL or not _URL.fullmatch(client_id):
        return False
    segments = client_id.lower().replace("%2e", ".").split("/")
    return not {".", ".."} & set(segments)


class ClientDocuments:
    """The clients that publish documents."""

    def __init__(self, transport: httpx.AsyncBaseTransport, private_use_schemes: Collection[str] = ()) -> None:
        """`transport` is as `PublishedDocuments` asks."""
        self._private_use_schemes = private_use_schemes
        self._documents = PublishedDocuments(transport, self._client, limit=MAXIMUM_DOCUMENT)

    async def get(self, client_id: str) -> Client:
        """The client whose document is at `client_id`.

        Raises:
            BadClientDocumentError: the URL or the document breaks a rule.
            ClientDocumentUnavailableError: the document cannot be had now.
        """
        if not is_well_formed(client_id):
            raise BadClientDocumentError(
                "must be at an https URL with a host and a path, without user, query, fragment and dot segments"
            )
        return await self._documents.get(client_id)

    async def aclose(self) -> None:
        """Give up what is on its way."""
        await self._documents.aclose()

    def _client(self, client_id: str, document: Mapping[str, object]) -> Client:
        # §4: by simple string comparison (RFC 3986 §6.2.1), or anybody could speak for anybody.
        if document.get("client_id") != client_id:
            raise BadClientDocumentError("must have as its client_id the very URL that it is at")
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
    """How the client may authenticate; `none` when it does not say.

    ChatGPT publishes a list instead of one method (OpenID Connect Relying Party Metadata Choices): then any
    that we have too will do, because nobody tells the client which one was chosen.
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
    return jwks, None  # type: ignore[return-value]  # what could be read is a mapping
