"""Discovery: the identity provider's metadata, read from its issuer (RFC 8414, OpenID Connect Discovery)."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable
from functools import partial
from math import ceil
from time import monotonic
from urllib.parse import urlsplit

import httpx
import structlog

from seed_oauth.http_client.fetch import fetch
from seed_oauth.http_client.single_flight import SingleFlight
from seed_oauth.identity_provider.client import MAXIMUM_RESPONSE
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure, failure_of, refusal_of
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.identity_provider.quotation import one_line
from seed_oauth.identity_provider.timed import timed
from seed_oauth.settings import PREFIX, validators
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import Operation

_FRESH = 3600.0  # seconds until the metadata is read again
_LONGEST_PAUSE = 60.0  # seconds between two attempts, however many have failed

# After these the other well-known path is tried.
_NOT_FOUND = frozenset(
    {
        IdentityProviderFailure.REFUSED,
        IdentityProviderFailure.UNEXPECTED_STATUS,
        IdentityProviderFailure.INVALID_RESPONSE,
    }
)


Document = tuple[dict[str, object], httpx.Headers]
"""A JSON object and the headers of its response."""


class MetadataError(IdentityProviderError):
    """The response is not the metadata of this issuer. The message says what to change."""

    def __init__(self, problem: str) -> None:
        super().__init__(IdentityProviderFailure.INVALID_RESPONSE)
        self.args = (problem,)


class Discovery:
    """A `MetadataSource` that reads the metadata from the identity provider, and keeps it.

    It is read again every hour, in the background, and an identity provider that is down does not affect what is
    already known. As long as nothing is known, requests trigger attempts, with growing pauses between them. There is
    never more than one attempt at a time.
    """

    def __init__(
        self,
        issuer: str,
        configured: ProviderMetadata,
        transport: httpx.AsyncBaseTransport,
        telemetry: Telemetry,
        *,
        publishes: Callable[[str], bool],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Read nothing yet.

        Args:
            issuer: where to read.
            configured: the issuer and the endpoints that override those in the metadata.
            transport: must not add our credentials.
            telemetry: records the requests.
            publishes: whether an issuer may be the one in the metadata (see `check_issuer`).
            clock: counts seconds and never goes back.
        """
        self._configured = configured
        self._issuer = issuer
        self._publishes = publishes
        self._transport = transport
        self._record = partial(telemetry.record_idp_request, Operation.DISCOVERY)
        self._log = structlog.get_logger("seed_oauth")
        self._cache = SingleFlight(self._read, self._pause, in_background=True, clock=clock)

    async def get(self) -> ProviderMetadata:
        """The metadata as it was read last; waits for an attempt only as long as nothing is known.

        Raises:
            IdentityProviderError: nothing is known, and the last attempt failed.
        """
        try:
            return await self._cache.get(self._issuer)
        except IdentityProviderError as failure:
            failure.retry_after = ceil(self._cache.seconds_to_next_load(self._issuer))
            raise

    async def check(self) -> None:
        """Read the metadata now.

        Raises:
            IdentityProviderError: they cannot be read, also where older ones are known.
        """
        await self._cache.reload(self._issuer)

    def start(self) -> "asyncio.Task[object]":
        """Read the metadata in the background, unless that is under way."""
        return self._cache.start(self._issuer)

    async def aclose(self) -> None:
        """Cancel an attempt that is under way."""
        await self._cache.aclose()

    async def _read(self, issuer: str) -> tuple[ProviderMetadata, float]:
        try:
            document, _ = await find_document(issuer, self._fetch)
        except IdentityProviderError:
            raise
        except Exception as unexpected:
            self._log.exception("unexpected")
            raise IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE) from unexpected
        check_issuer(document, issuer, self._publishes)
        metadata = metadata_of(document, self._configured)
        if metadata != self._cache.peek(issuer):
            self._log.info("identity provider metadata read")
            if metadata.ignored:
                self._log.warning("identity provider metadata ignored in part", ignored=metadata.ignored)
        return metadata, _FRESH

    async def _fetch(self, url: str) -> Document:
        with timed(self._record):
            return await read_document(self._transport, url)

    def _pause(self, failure: Exception, attempts: int, is_known: bool) -> float:
        pause = _LONGEST_PAUSE if is_known else min(2.0 ** (attempts - 1), _LONGEST_PAUSE)
        if isinstance(failure, IdentityProviderError):
            pause = max(pause, float(failure.retry_after or 0))
        self._log.warning("identity provider metadata not read", problem=str(failure), retry_after_s=pause)
        return pause


def well_known_urls(issuer: str) -> tuple[str, str]:
    """The URLs of the metadata: OpenID Connect Discovery §4 first, which is more common, then RFC 8414 §3.1."""
    url = urlsplit(issuer)
    path = url.path.rstrip("/")
    origin = f"{url.scheme}://{url.netloc}"
    return (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    )


async def find_document(issuer: str, fetch_one: Callable[[str], Awaitable[Document]]) -> Document:
    """The metadata of `issuer`, from the first of its well-known paths that has any.

    Raises:
        IdentityProviderError: there is none, or no response.
    """
    first, second = well_known_urls(issuer)
    try:
        return await fetch_one(first)
    except IdentityProviderError as failure:
        if failure.failure not in _NOT_FOUND:
            raise
        at_first = failure
    try:
        return await fetch_one(second)
    except IdentityProviderError as at_second:
        # The first is where most have it, so its failure must not be hidden by the other's.
        worst = at_first if at_second.failure in _NOT_FOUND else at_second
        problem = f"{first}: {at_first}; {second}: {at_second}"
        raise IdentityProviderError(worst.failure, problem, retry_after=worst.retry_after) from at_second


async def read_document(transport: httpx.AsyncBaseTransport, url: str) -> Document:
    """The JSON object at `url`, and the headers of the response.

    Raises:
        IdentityProviderError: there is none; REFUSED without an `error` for a status 4xx.
    """
    try:
        response = await fetch(transport, url, limit=MAXIMUM_RESPONSE)
    except httpx.TransportError as error:
        raise failure_of(error) from error
    status, headers, body = response
    if status != httpx.codes.OK:
        refusal = refusal_of(status, headers, {})
        if httpx.codes.is_client_error(status) and status != httpx.codes.TOO_MANY_REQUESTS:
            refusal.failure = IdentityProviderFailure.REFUSED
        elsewhere = one_line(headers.get("location"))
        problem = f"status {status}" + (f", a redirect to {elsewhere}" if elsewhere else "")
        raise IdentityProviderError(refusal.failure, problem, retry_after=refusal.retry_after)
    document = response.json_object()
    if document is None:
        raise MetadataError(_not_a_json_object(body))
    return document, headers


def _not_a_json_object(body: bytes) -> str:
    start = body.removeprefix(BOM_UTF8).lstrip()[:1]
    if start == b"<":
        return "an HTML page instead of JSON"
    return "JSON, but not an object" if start == b"[" else "the response is not JSON"


def metadata_of(document: dict[str, object], configured: ProviderMetadata) -> ProviderMetadata:
    """The metadata in a document, with what is configured in place of its own.

    Raises:
        MetadataError: a member without which no login is possible cannot be used.
    """
    methods = document.get("code_challenge_methods_supported")
    ignored: list[str] = []

    def optional(member: str) -> str | None:
        try:
            return _url(document, member)
        except MetadataError as unusable:
            if document.get(member) not in (None, ""):
                ignored.append(str(unusable))
            return None

    return ProviderMetadata(
        issuer=configured.issuer or str(document.get("issuer")),
        authorization_endpoint=configured.authorization_endpoint or _url(document, "authorization_endpoint"),
        token_endpoint=configured.token_endpoint or _url(document, "token_endpoint"),
        revocation_endpoint=configured.revocation_endpoint or optional("revocation_endpoint"),
        jwks_uri=configured.jwks_uri or optional("jwks_uri"),
        introspection_endpoint=configured.introspection_endpoint or optional("introspection_endpoint"),
        userinfo_endpoint=configured.userinfo_endpoint or optional("userinfo_endpoint"),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        code_challenge_methods=tuple(map(str, methods)) if isinstance(methods, list) else (),
        default_scopes=_default_scopes(document),
        ignored=tuple(ignored),
    )


def _default_scopes(document: dict[str, object]) -> tuple[str, ...]:
    listed = document.get("scopes_supported")
    scopes = listed if isinstance(listed, list) else []
    # OpenID Connect Discovery §3: an OpenID Provider has both members, and supports openid whether or not it lists it.
    is_openid = {"subject_types_supported", "id_token_signing_alg_values_supported"} <= document.keys()
    wanted = {"openid": is_openid or "openid" in scopes, "offline_access": "offline_access" in scopes}
    return tuple(scope for scope, asked in wanted.items() if asked)


def check_issuer(document: dict[str, object], issuer: str, publishes: Callable[[str], bool]) -> None:
    """Refuse the metadata of another issuer (RFC 8414 §3.3).

    `publishes` tells which issuers the metadata of `issuer` may name: others, too, for the identity providers that
    break the rule.

    Raises:
        MetadataError: it belongs to another issuer.
    """
    published = document.get("issuer")
    if isinstance(published, str) and publishes(published):
        return
    if published == f"{issuer}/":
        raise MetadataError(f"{PREFIX}IDP_ISSUER must end with a slash: the identity provider's issuer does")
    if f"{published}/" == issuer:
        raise MetadataError(f"{PREFIX}IDP_ISSUER must not end with a slash: the identity provider's issuer does not")
    raise MetadataError(
        f"the metadata belongs to another issuer (RFC 8414 §3.3), {one_line(published)}: set {PREFIX}IDP_ISSUER to it, "
        f"or {PREFIX}IDP_ISSUER_CLAIM if the metadata is the right one"
    )


def _url(document: dict[str, object], member: str) -> str:
    value = document.get(member)
    try:
        # Of the endpoints only the one that browsers are sent to has its parameters in the URL.
        url = validators.authorization_url(validators.absolute_url(value if isinstance(value, str) else ""))
    except ValueError as unusable:
        setting = f"{PREFIX}IDP_{member.removesuffix('_endpoint').removesuffix('_uri').upper()}_URL"
        raise MetadataError(f"{member} in the metadata {unusable}, or set {setting}") from None
    return url or ""
