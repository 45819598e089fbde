"""JSON documents that clients publish at URLs of their choice: fetched within limits, and cached."""

import re
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Generic, TypeVar

import httpx
import structlog

from seed_oauth.clients import BadClientDocumentError, ClientDocumentUnavailableError
from seed_oauth.http_client.fetch import Response, TooLargeError, fetch
from seed_oauth.http_client.guarded_transport import ForbiddenAddressError
from seed_oauth.http_client.single_flight import SingleFlight, TooManyLoadsError

CAPACITY = 1000
"""Documents cached at most; the one used longest ago is dropped first."""

FETCHES_AT_ONCE = 64
"""Documents fetched at the same time; it bounds a flood of made-up URLs."""

SHORTEST, USUAL, LONGEST = 60.0, 300.0, 86_400.0
"""Seconds for which a document is fresh: at least, by default, and at most."""

STALE = 86_400.0
"""Seconds for which a document is used after that, while fetching it fails."""

PAUSE = 30.0
"""Seconds until a URL that failed is fetched again."""

_CONTENT_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json")
_MAX_AGE = re.compile(r'max-age\s*=\s*"?(\d{1,9})')

# These and redirects are definite. Any other status may be temporary: some content delivery networks refuse clients
# that they do not know yet.
_GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})

Value = TypeVar("Value")


class PublishedDocuments(Generic[Value]):
    """Documents of one kind, by URL."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        read: Callable[[str, Mapping[str, object]], Value],
        *,
        limit: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Fetch nothing yet.

        Args:
            transport: raises `ForbiddenAddressError` instead of connecting to an address that is not public.
            read: the value of a document, given its URL and its content; raises `BadClientDocumentError`.
            limit: bytes of a document.
            clock: counts seconds and never goes back.
        """
        self._transport = transport
        self._read = read
        self._limit = limit
        self._cache = SingleFlight(
            self._load, _pause, stale=STALE, capacity=CAPACITY, at_once=FETCHES_AT_ONCE, clock=clock
        )

    async def get(self, url: str, *, within: float = inf) -> Value:
        """The value of the document at `url`, as it was less than `within` seconds ago.

        Raises:
            BadClientDocumentError: it breaks a rule.
            ClientDocumentUnavailableError: it cannot be fetched now.
        """
        try:
            return await self._cache.get(url, within=within)
        except TooManyLoadsError:
            raise ClientDocumentUnavailableError("too many documents are being fetched") from None

    async def aclose(self) -> None:
        """Cancel the fetches that are under way."""
        await self._cache.aclose()

    async def _load(self, url: str) -> tuple[Value, float]:
        try:
            response = await self._fetch(url)
            return self._read(url, _content(response)), freshness(response.headers.get("cache-control", ""))
        except BadClientDocumentError:
            self._cache.forget(url)
            raise

    async def _fetch(self, url: str) -> Response:
        try:
            return await fetch(self._transport, url, limit=self._limit)
        except httpx.InvalidURL as invalid:
            raise BadClientDocumentError("must be at a URL that names a host") from invalid
        except ForbiddenAddressError as forbidden:
            raise BadClientDocumentError("must be at a public address and on port 443") from forbidden
        except TooLargeError as too_large:
            raise BadClientDocumentError(f"must not have more than {self._limit} bytes") from too_large
        except httpx.TransportError as trouble:
            raise ClientDocumentUnavailableError("cannot be reached") from trouble


def _pause(error: Exception, *_: object) -> float:
    # The draft forbids caching an error response (§5.2). This only limits how often the URL is asked.
    if not isinstance(error, BadClientDocumentError | ClientDocumentUnavailableError):
        structlog.get_logger("seed_oauth").error("unexpected", exc_info=error)
    return PAUSE


def _content(response: Response) -> Mapping[str, object]:
    _check_status(response.status)
    if not _CONTENT_TYPE.fullmatch(response.headers.get("content-type", "").partition(";")[0].strip().lower()):
        raise BadClientDocumentError("must be served as application/json")
    content = response.json_object()
    if content is None:
        raise BadClientDocumentError("must be a JSON object")
    return content


def freshness(cache_control: str) -> float:
    """For how many seconds a document is fresh, by its Cache-Control header (RFC 9111 §5.2.2)."""
    directives = cache_control.lower()
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST
    max_age = _MAX_AGE.search(directives)
    return min(max(float(max_age[1]), SHORTEST), LONGEST) if max_age else USUAL


def _check_status(status: int) -> None:
    if status == httpx.codes.OK:
        return
    if httpx.codes.is_redirect(status):
        raise BadClientDocumentError("must be at its URL, without a redirect")
    if status in _GONE:
        raise BadClientDocumentError("is not there (any more)")
    raise ClientDocumentUnavailableError("is not served at the moment")
