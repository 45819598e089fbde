"""JSON documents that clients publish at URLs of their choice: fetched within limits, and remembered."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Generic, TypeVar

import httpx
import orjson

from seed_oauth.clients import BadClientDocumentError, ClientDocumentUnavailableError
from seed_oauth.http_client.guarded_transport import ForbiddenAddressError

CAPACITY = 1000
"""Documents remembered at most; the one that was asked for longest ago goes first."""

FETCHES_AT_ONCE = 64
"""So many documents can be on their way; a flood of made-up URLs gets no further."""

SHORTEST, USUAL, LONGEST = 60.0, 300.0, 86_400.0
"""Seconds that a document is taken for fresh: at least, when it does not say, and at most."""

STALE = 86_400.0
"""Seconds that a document serves longer while it cannot be fetched again."""

PAUSE = 30.0
"""Seconds until a URL that failed is asked again."""

_HEADERS = {
    "Accept": "application/json",
    # A compressed answer could be far larger than the cap on what is read.
    "Accept-Encoding": "identity",
    "User-Agent": "seed-oauth",
}

_CONTENT_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json")
_MAX_AGE = re.compile(r'max-age\s*=\s*"?(\d{1,9})')

# That nothing is there, and that it is elsewhere, are answers. Whatever else is said may pass: some content
# delivery networks refuse a machine that they do not like yet.
_GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Known(Generic[Value]):
    value: Value
    asked_at: float
    fresh_until: float
    good_until: float


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BadClientDocumentError | ClientDocumentUnavailableError
    until: float


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
            transport: must not connect to what is not public; raises `ForbiddenAddressError` then.
            read: what a document means, given its URL and its content; raises `BadClientDocumentError`.
            limit: bytes that a document may have.
            clock: counts seconds and never goes back.
        """
        self._transport = transport
        self._read = read
        self._limit = limit
        self._clock = clock
        self._known: OrderedDict[str, _Known[Value]] = OrderedDict()
        # Apart, so that a flood of URLs where nothing is cannot push out what is known.
        self._failed: OrderedDict[str, _Failed] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[_Known[Value] | _Failed]] = {}

    async def get(self, url: str, *, asked_within: float = LONGEST) -> Value:
        """What the document at `url` means, as it was at most `asked_within` seconds ago.

        Raises:
            BadClientDocumentError: it breaks a rule.
            ClientDocumentUnavailableError: it cannot be had now.
        """
        now = self._clock()
        known = self._known.get(url)
        if known is not None and now < known.fresh_until and now - known.asked_at <= asked_within:
            self._known.move_to_end(url)
            return known.value
        failed = self._failed.get(url)
        outcome = failed if failed is not None and now < failed.until else await self._ask(url)
        if isinstance(outcome, _Failed):
            raise outcome.error.with_traceback(None)
        return outcome.value

    async def aclose(self) -> None:
        """Give up what is on its way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, url: str) -> _Known[Value] | _Failed:
        """The outcome of one fetch, however many wait for it and whoever of them gives up."""
        task = self._under_way.get(url)
        if task is None:
            if len(self._under_way) >= FETCHES_AT_ONCE:
                full = ClientDocumentUnavailableError("too many documents are being fetched")
                return self._stale(url) or _Failed(full, self._clock())
            task = self._under_way[url] = asyncio.create_task(self._fetch(url))
            task.add_done_callback(lambda _: self._under_way.pop(url))
        return await asyncio.shield(task)

    async def _fetch(self, url: str) -> _Known[Value] | _Failed:
        try:
            content, lifetime = await _fetched(self._transport, url, self._limit)
            value = self._read(url, content)
        except BadClientDocumentError as bad:
            self._known.pop(url, None)
            return self._remember_failure(url, bad)
        except ClientDocumentUnavailableError as trouble:
            return self._still_good(url) or self._remember_failure(url, trouble)
        now = self._clock()
        return self._remember(url, _Known(value, now, now + lifetime, now + lifetime + STALE))

    def _stale(self, url: str) -> _Known[Value] | None:
        """The document as it was, where it only is to be asked for again: a flood keeps nobody out who is known."""
        known = self._known.get(url)
        return known if known is not None and known.fresh_until <= self._clock() < known.good_until else None

    def _still_good(self, url: str) -> _Known[Value] | None:
        """The document as it was, for a while more."""
        now = self._clock()
        known = self._known.get(url)
        if known is None or now >= known.good_until:
            return None
        return self._remember(url, replace(known, asked_at=now, fresh_until=max(known.fresh_until, now + PAUSE)))

    def _remember(self, url: str, known: _Known[Value]) -> _Known[Value]:
        self._known[url] = known
        self._known.move_to_end(url)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return known

    def _remember_failure(self, url: str, error: BadClientDocumentError | ClientDocumentUnavailableError) -> _Failed:
        # Not the answer is kept (which the draft forbids, §5.2) but that the URL is not to be asked at once again.
        self._failed[url] = failed = _Failed(error, self._clock() + PAUSE)
        self._failed.move_to_end(url)
        if len(self._failed) > CAPACITY:
            self._failed.popitem(last=False)
        return failed


async def _fetched(transport: httpx.AsyncBaseTransport, url: str, limit: int) -> tuple[Mapping[str, object], float]:
    """The document at `url` and for how many seconds it is fresh."""
    try:
        response = await transport.handle_async_request(httpx.Request("GET", url, headers=_HEADERS))
        try:
            _check_status(response.status_code)
            _check_content_type(response.headers.get("content-type", ""))
            body = await _read(response, limit)
        finally:
            await response.aclose()
    except httpx.InvalidURL as invalid:
        raise BadClientDocumentError("must be at a URL that names a host") from invalid
    except ForbiddenAddressError as forbidden:
        raise BadClientDocumentError("must be at a public address and on port 443") from forbidden
    except httpx.TransportError as trouble:
        raise ClientDocumentUnavailableError("cannot be reached") from trouble
    return _json_object(body), freshness(response.headers.get("cache-control", ""))


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
        raise BadClientDocumentError("must be where its URL says, without a redirect")
    if status in _GONE:
        raise BadClientDocumentError("is not there (any more)")
    raise ClientDocumentUnavailableError("is not served at the moment")


def _check_content_type(content_type: str) -> None:
    if not _CONTENT_TYPE.fullmatch(content_type.partition(";")[0].strip().lower()):
        raise BadClientDocumentError("must be served as application/json")


async def _read(response: httpx.Response, limit: int) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport's answer
    body = bytearray()
    async for chunk in response.stream:
        body += chunk
        if len(body) > limit:
            raise BadClientDocumentError(f"must not have more than {limit} bytes")
    return bytes(body)


def _json_object(body: bytes) -> Mapping[str, object]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise BadClientDocumentError("must be a JSON object")
    return content
