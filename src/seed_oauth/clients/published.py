"""JSON documents that clients publish at URLs of their choice: fetched within limits, and cached."""

import re
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Generic, TypeVar

import httpx
import structlog

from seed_oauth.clients import BadClientDocumentError, ClientDocumentUnavailableError
from seed_oauth.clients.archive import DocumentArchive
from seed_oauth.clients.policy import host_of
from seed_oauth.http_client.fetch import Response, TooLargeError, fetch
from seed_oauth.http_client.guarded_transport import ForbiddenAddressError
from seed_oauth.http_client.single_flight import SingleFlight, TooManyLoadsError
from seed_oauth.telemetry.client_documents import DocumentOutcome

CAPACITY = 1000
"""Documents cached at most; the one used longest ago is dropped first."""

FETCHES_AT_ONCE = 64
"""Documents fetched at the same time; it bounds a flood of made-up URLs."""

FETCHES_IN_DOMAIN = 8
"""Of them, those below one domain, whose name servers and hosts may be slow on purpose."""

FETCHES_FOR_ADDRESS = 8
"""Of them, those that one address asked for."""

requesting_address: ContextVar[bytes | None] = ContextVar("requesting_address", default=None)
"""The address of the request that is being answered, if it is known."""

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

_OUTCOMES: Mapping[type[Exception], DocumentOutcome] = {
    httpx.InvalidURL: DocumentOutcome.FORBIDDEN,
    ForbiddenAddressError: DocumentOutcome.FORBIDDEN,
    TooLargeError: DocumentOutcome.INVALID_RESPONSE,
    httpx.TimeoutException: DocumentOutcome.TIMEOUT,
    httpx.TransportError: DocumentOutcome.CONNECT_ERROR,
}
"""The first that fits."""

Record = Callable[[DocumentOutcome, float], None]
"""Is told of each request how it ended, and after how many seconds."""

Value = TypeVar("Value")


@dataclass(slots=True)
class _Document(Generic[Value]):
    value: Value
    content: Mapping[str, object]
    is_archived: bool = False


class PublishedDocuments(Generic[Value]):
    """Documents of one kind, by URL."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        read: Callable[[str, Mapping[str, object]], Value],
        *,
        limit: int,
        archive: DocumentArchive | None = None,
        record: Record = lambda *_: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Fetch nothing yet.

        Args:
            transport: raises `ForbiddenAddressError` instead of connecting to an address that is not public.
            read: the value of a document, given its URL and its content; raises `BadClientDocumentError`.
            limit: bytes of a document.
            archive: keeps the documents of clients in use across restarts.
            record: is told of each request.
            clock: counts seconds and never goes back.
        """
        self._transport = transport
        self._record = record
        self._clock = clock
        self._read = read
        self._limit = limit
        self._archive = archive
        self._asked_by: dict[str, bytes | None] = {}
        self._cache = SingleFlight(
            self._load, _pause, stale=STALE, capacity=CAPACITY, may_load=self._may_fetch, clock=clock
        )

    async def get(self, url: str, *, within: float = inf) -> Value:
        """The value of the document at `url`, as it was less than `within` seconds ago.

        Raises:
            BadClientDocumentError: it breaks a rule.
            ClientDocumentUnavailableError: it cannot be fetched now.
        """
        try:
            return (await self._cache.get(url, within=within)).value
        except TooManyLoadsError:
            if archived := await self._archived(url):
                return archived.value
            raise ClientDocumentUnavailableError("cannot be fetched while so many others are") from None

    async def keep(self, url: str) -> Value | None:
        """Archive the document at `url` as it was fetched last: its client is in use. Its value, if it was fetched."""
        document = self._cache.peek(url)
        if document is None:
            return None
        if self._archive is not None and not document.is_archived:
            document.is_archived = True
            await self._archive.save(url, document.content)
        return document.value

    async def aclose(self) -> None:
        """Cancel the fetches that are under way."""
        await self._cache.aclose()

    def _may_fetch(self, url: str, fetching: Collection[str]) -> bool:
        address = requesting_address.get()
        self._asked_by = {one: self._asked_by.get(one) for one in fetching}
        for_address = 0 if address is None else sum(one == address for one in self._asked_by.values())
        in_domain = sum(_domain(one) == _domain(url) for one in fetching)
        if len(fetching) >= FETCHES_AT_ONCE or for_address >= FETCHES_FOR_ADDRESS or in_domain >= FETCHES_IN_DOMAIN:
            return False
        self._asked_by[url] = address
        return True

    async def _load(self, url: str) -> tuple[_Document[Value], float]:
        try:
            response = await self._fetch(url)
            content = _content(response)
            return _Document(self._read(url, content), content), freshness(response.headers.get("cache-control", ""))
        except BadClientDocumentError:
            self._cache.forget(url)
            raise
        except ClientDocumentUnavailableError as trouble:
            structlog.get_logger("seed_oauth").warning(
                "a client document cannot be fetched", host=host_of(url), detail=str(trouble)
            )
            if self._cache.peek(url) is None and (archived := await self._archived(url)):
                return archived, PAUSE
            raise

    async def _archived(self, url: str) -> _Document[Value] | None:
        content = None if self._archive is None else await self._archive.load(url)
        return None if content is None else _Document(self._read(url, content), content, is_archived=True)

    async def _fetch(self, url: str) -> Response:
        try:
            return await self._timed(url)
        except httpx.InvalidURL as invalid:
            raise BadClientDocumentError("must be at a URL that names a host") from invalid
        except ForbiddenAddressError as forbidden:
            raise BadClientDocumentError("must be at a public address and on port 443") from forbidden
        except TooLargeError as too_large:
            raise BadClientDocumentError(f"must not have more than {self._limit} bytes") from too_large
        except httpx.TimeoutException as trouble:
            raise ClientDocumentUnavailableError("did not come in time") from trouble
        except httpx.TransportError as trouble:
            raise ClientDocumentUnavailableError("cannot be reached") from trouble

    async def _timed(self, url: str) -> Response:
        started, outcome = self._clock(), DocumentOutcome.CANCELLED
        try:
            response = await fetch(self._transport, url, limit=self._limit)
            outcome = _outcome_of(response.status)
        except tuple(_OUTCOMES) as failure:
            outcome = next(outcome for kind, outcome in _OUTCOMES.items() if isinstance(failure, kind))
            raise
        finally:
            self._record(outcome, self._clock() - started)
        return response


def _outcome_of(status: int) -> DocumentOutcome:
    if httpx.codes.is_client_error(status):
        return DocumentOutcome.HTTP_4XX
    if httpx.codes.is_server_error(status):
        return DocumentOutcome.HTTP_5XX
    return DocumentOutcome.OK if status == httpx.codes.OK else DocumentOutcome.INVALID_RESPONSE


def _domain(url: str) -> str:
    """The last two labels of a host: whoever has a domain can make up as many names below it as they like."""
    return ".".join(host_of(url).split(".")[-2:])


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
