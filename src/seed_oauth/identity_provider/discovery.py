"""Discovery: the identity provider's metadata, read where its issuer says (RFC 8414, OpenID Connect Discovery)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from math import ceil
from time import monotonic
from urllib.parse import urlsplit

import httpx
import structlog

from seed_oauth.identity_provider.client import (
    IdentityProviderError,
    IdentityProviderFailure,
    json_object,
    refusal_of,
    send,
)
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.identity_provider.timed import timed
from seed_oauth.settings import PREFIX, Settings, validators
from seed_oauth.telemetry import Telemetry
from seed_oauth.telemetry.contract import Operation

_FRESH = 3600.0  # seconds until the metadata is read again
_LONGEST_PAUSE = 60.0  # seconds between two attempts, however many have failed

# No credentials: the metadata is public.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "seed-oauth"}

# Answers that say "not here": the metadata may be at the other well-known path.
_NOT_HERE = frozenset({IdentityProviderFailure.REFUSED, IdentityProviderFailure.INVALID_RESPONSE})


Document = tuple[dict[str, object], httpx.Headers]
"""A JSON object and the headers that it came with."""


class MetadataError(IdentityProviderError):
    """There is an answer, and it is not the metadata of this issuer. The message says what to change."""

    def __init__(self, problem: str) -> None:
        super().__init__(IdentityProviderFailure.INVALID_RESPONSE)
        self.args = (problem,)


class Discovery:
    """A `MetadataSource` that reads the identity provider's own metadata, and keeps it.

    It is read again every hour, while the old one still serves, and an identity provider that is down makes
    no difference to what is known. As long as nothing is known, whoever asks has it tried, with growing pauses
    between two attempts. There is never more than one attempt at a time.
    """

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport,
        telemetry: Telemetry,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`transport` must not add our credentials; `clock` counts seconds and never goes back."""
        self._settings = settings
        self._transport = transport
        self._record = partial(telemetry.record_idp_request, Operation.DISCOVERY)
        self._clock = clock
        self._log = structlog.get_logger("seed_oauth")
        self._metadata: ProviderMetadata | None = None
        self._reading: asyncio.Task[ProviderMetadata] | None = None
        self._failure: IdentityProviderError | None = None
        self._failures = 0
        self._due = 0.0

    async def get(self) -> ProviderMetadata:
        """The metadata as it is known now; it is waited for only as long as nothing is known.

        Raises:
            IdentityProviderError: nothing is known, and the last attempt to read it failed.
        """
        if self._metadata is None:
            return await self._first()
        if self._clock() >= self._due:
            self.start()
        return self._metadata

    def start(self) -> "asyncio.Task[ProviderMetadata]":
        """Read the metadata in the background, unless that is under way."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._settle)
        return self._reading

    async def aclose(self) -> None:
        """Give up what is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _first(self) -> ProviderMetadata:
        pause = self._due - self._clock()
        if self._reading is None and self._failure is not None and pause > 0:
            self._failure.retry_after = ceil(pause)
            raise self._failure.with_traceback(None)
        # Whoever gives up waiting must not take the attempt away from the others.
        return await asyncio.shield(self.start())

    async def _read(self) -> ProviderMetadata:
        document, _ = await find_document(self._settings.idp_issuer or "", self._fetch)
        return metadata_of(document, self._settings)

    async def _fetch(self, url: str) -> Document:
        with timed(self._record):
            return await fetch(self._transport, url)

    def _settle(self, attempt: "asyncio.Task[ProviderMetadata]") -> None:
        self._reading = None
        if attempt.cancelled():
            return
        if (failure := attempt.exception()) is not None:
            self._note(failure)
            return
        metadata = attempt.result()
        if metadata != self._metadata:
            self._log.info("identity provider metadata read")
        self._metadata, self._failure, self._failures = metadata, None, 0
        self._due = self._clock() + _FRESH

    def _note(self, failure: BaseException) -> None:
        if isinstance(failure, IdentityProviderError):
            self._failure = failure
        else:
            self._log.error("unexpected", exc_info=failure)
            self._failure = IdentityProviderError(IdentityProviderFailure.INVALID_RESPONSE)
        self._failures += 1
        pause = _LONGEST_PAUSE if self._metadata else min(2.0 ** (self._failures - 1), _LONGEST_PAUSE)
        pause = max(pause, float(self._failure.retry_after or 0))
        self._due = self._clock() + pause
        self._log.warning("identity provider metadata not read", problem=str(self._failure), retry_after_s=pause)


def well_known_urls(issuer: str) -> tuple[str, str]:
    """Where the metadata may be: OpenID Connect Discovery §4 first, which most have, then RFC 8414 §3.1."""
    url = urlsplit(issuer)
    path = url.path.rstrip("/")
    origin = f"{url.scheme}://{url.netloc}"
    return (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    )


async def find_document(issuer: str, fetch_one: Callable[[str], Awaitable[Document]]) -> Document:
    """The metadata of `issuer`, at the first of its well-known paths that has any.

    Raises:
        IdentityProviderError: there is none, or no answer.
    """
    first, second = well_known_urls(issuer)
    try:
        return await fetch_one(first)
    except IdentityProviderError as failure:
        if failure.failure not in _NOT_HERE:
            raise
    return await fetch_one(second)


async def fetch(transport: httpx.AsyncBaseTransport, url: str) -> Document:
    """The JSON object at `url`, and the headers it came with; no redirect is followed.

    Raises:
        IdentityProviderError: there is none; REFUSED without an `error` where the status says so.
    """
    status, headers, body = await send(transport, httpx.Request("GET", url, headers=_HEADERS))
    if status != httpx.codes.OK:
        failure = refusal_of(status, headers, {})
        if httpx.codes.is_client_error(status) and status != httpx.codes.TOO_MANY_REQUESTS:
            failure = IdentityProviderError(IdentityProviderFailure.REFUSED)
        raise failure
    document = json_object(body)
    if document is None:
        raise MetadataError(f"the answer is not JSON: {PREFIX}IDP_ISSUER must be the identity provider's issuer")
    return document, headers


def metadata_of(document: dict[str, object], settings: Settings) -> ProviderMetadata:
    """What the metadata says, where the settings do not say otherwise.

    Raises:
        MetadataError: it is another issuer's, or has members that cannot be used.
    """
    check_issuer(document, settings)
    methods = document.get("code_challenge_methods_supported")
    return ProviderMetadata(
        issuer=str(document["issuer"]),
        authorization_endpoint=settings.idp_authorization_url
        or _url(document, "authorization_endpoint", required=True),
        token_endpoint=settings.idp_token_url or _url(document, "token_endpoint", required=True),
        revocation_endpoint=settings.idp_revocation_url or _url(document, "revocation_endpoint"),
        jwks_uri=settings.idp_jwks_url or _url(document, "jwks_uri"),
        introspection_endpoint=settings.idp_introspection_url or _url(document, "introspection_endpoint"),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        code_challenge_methods=tuple(map(str, methods)) if isinstance(methods, list) else (),
    )


def check_issuer(document: dict[str, object], settings: Settings) -> None:
    """Refuse the metadata of another issuer (RFC 8414 §3.3).

    Raises:
        MetadataError: it is another issuer's.
    """
    published, configured = document.get("issuer"), settings.idp_issuer
    exceptions = settings.preset.published_issuers if settings.preset else {}
    if published is not None and published in (configured, exceptions.get(configured or "")):
        return
    if published == f"{configured}/":
        raise MetadataError(f"{PREFIX}IDP_ISSUER must end with a slash: the identity provider's issuer does")
    if f"{published}/" == configured:
        raise MetadataError(f"{PREFIX}IDP_ISSUER must not end with a slash: the identity provider's issuer does not")
    raise MetadataError(
        f"the metadata is of another issuer (RFC 8414 §3.3): set {PREFIX}IDP_ISSUER to the member issuer in it"
    )


def _url(document: dict[str, object], member: str, *, required: bool = False) -> str | None:
    value = document.get(member)
    if value is None and not required:
        return None
    try:
        # Of the endpoints only the one that browsers are sent to has its parameters in the URL.
        return validators.authorization_url(validators.absolute_url(value if isinstance(value, str) else ""))
    except ValueError as unusable:
        setting = f"{PREFIX}IDP_{member.removesuffix('_endpoint').removesuffix('_uri').upper()}_URL"
        raise MetadataError(f"{member} in the metadata {unusable}, or set {setting}") from None
