"""What clients publish: how it is fetched, how long it is remembered, and what a flood can do."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx
import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.clients import BadClientDocumentError, ClientDocumentUnavailableError
from seed_oauth.clients.archive import LIFETIME, DocumentArchive
from seed_oauth.clients.published import (
    CAPACITY,
    FETCHES_AT_ONCE,
    FETCHES_FOR_ADDRESS,
    FETCHES_IN_DOMAIN,
    LONGEST,
    PAUSE,
    SHORTEST,
    STALE,
    USUAL,
    PublishedDocuments,
    freshness,
    requesting_address,
)
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.http_client.guarded_transport import ForbiddenAddressError
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.telemetry.client_documents import DocumentOutcome

pytestmark = pytest.mark.anyio

URL = "https://app.example/client.json"

PATIENCE = 10
"""Seconds until a flood of which nothing is refused counts as let in."""


class Publisher:
    """Answers with `answer`, and counts what it is asked."""

    def __init__(
        self,
        answer: Callable[[httpx.Request], httpx.Response] | Exception | None = None,
        archive: DocumentArchive | None = None,
    ) -> None:
        self.answer = answer or (lambda _: httpx.Response(200, json={"version": 1}))
        self.asked: list[str] = []
        self.now = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.recorded: list[tuple[DocumentOutcome, float]] = []
        self.documents: PublishedDocuments[Any] = PublishedDocuments(
            httpx.MockTransport(self._handle),
            self._read,
            limit=100,
            archive=archive,
            record=lambda *request: self.recorded.append(request),
            clock=lambda: self.now,
        )

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(request)

    @staticmethod
    def _read(_: str, content: Mapping[str, object]) -> object:
        if content == {"bad": True}:
            raise BadClientDocumentError("breaks a rule")
        return content.get("version")


def answers(status: int = 200, version: int = 1, **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, json={"version": version}, headers=named)


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", USUAL),
        ("public", USUAL),
        ("max-age=600", 600),
        ("public, Max-Age=600, must-revalidate", 600),
        ('max-age="600"', 600),
        ("max-age=0", SHORTEST),
        ("max-age=1", SHORTEST),
        ("max-age=999999999", LONGEST),
        ("max-age=99999999999999999999", LONGEST),
        ("max-age=-1", USUAL),
        ("max-age=soon", USUAL),
        ("no-store", SHORTEST),
        ("no-store, max-age=600", SHORTEST),
        ("no-cache", SHORTEST),
    ],
)
def test_a_document_is_fresh_as_long_as_it_says_within_bounds(cache_control: str, seconds: float) -> None:
    """PROTOCOL R5: cached by HTTP cache headers."""
    assert freshness(cache_control) == seconds


@given(st.text())
def test_freshness_is_within_bounds_whatever_the_header_says(cache_control: str) -> None:
    assert SHORTEST <= freshness(cache_control) <= LONGEST


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answers(), DocumentOutcome.OK),
        (lambda _: httpx.Response(200, json={"bad": True}), DocumentOutcome.OK),
        (answers(404), DocumentOutcome.HTTP_4XX),
        (answers(503), DocumentOutcome.HTTP_5XX),
        (answers(302), DocumentOutcome.INVALID_RESPONSE),
        (lambda _: httpx.Response(200, content=b" " * 101), DocumentOutcome.INVALID_RESPONSE),
        (httpx.ReadTimeout("slow"), DocumentOutcome.TIMEOUT),
        (httpx.ConnectError("refused"), DocumentOutcome.CONNECT_ERROR),
        (ForbiddenAddressError("private"), DocumentOutcome.FORBIDDEN),
    ],
)
async def test_a_request_is_recorded_by_its_outcome(
    answer: Callable[[httpx.Request], httpx.Response] | Exception, outcome: DocumentOutcome
) -> None:
    publisher = Publisher(answer)
    with suppress(BadClientDocumentError, ClientDocumentUnavailableError):
        await publisher.documents.get(URL)
    assert publisher.recorded == [(outcome, 0.0)]


async def test_a_url_without_a_host_is_recorded_as_forbidden() -> None:
    publisher = Publisher()
    with pytest.raises(BadClientDocumentError):
        await publisher.documents.get("https://[::1/client.json")
    assert publisher.recorded == [(DocumentOutcome.FORBIDDEN, 0.0)]


async def test_a_request_that_is_cancelled_is_recorded_with_its_duration() -> None:
    publisher = Publisher()
    publisher.may_answer.clear()
    waiting = asyncio.create_task(publisher.documents.get(URL))
    while not publisher.asked:
        await asyncio.sleep(0)
    publisher.now = 3.0
    await publisher.documents.aclose()
    await asyncio.gather(waiting, return_exceptions=True)
    assert publisher.recorded == [(DocumentOutcome.CANCELLED, 3.0)]


async def test_a_fresh_document_is_not_fetched_again_and_one_that_is_not_is() -> None:
    publisher = Publisher(answers(cache_control="max-age=600"))
    for now in (0, 1, 599):
        publisher.now = now
        assert await publisher.documents.get(URL) == 1
    assert publisher.asked == [URL]
    publisher.now, publisher.answer = 600, answers(version=2)
    assert await publisher.documents.get(URL) == 2
    assert publisher.asked == [URL, URL]


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), answers(500), answers(403), answers(429)]
)
async def test_a_document_serves_longer_while_it_cannot_be_fetched_again(trouble: Any) -> None:
    publisher = Publisher()
    await publisher.documents.get(URL)
    publisher.now, publisher.answer = USUAL, trouble
    assert await publisher.documents.get(URL) == 1
    assert await publisher.documents.get(URL) == 1
    assert len(publisher.asked) == 2  # and is not asked for with every request
    publisher.now = USUAL + PAUSE
    assert await publisher.documents.get(URL) == 1
    assert len(publisher.asked) == 3
    publisher.now = USUAL + STALE
    with pytest.raises(ClientDocumentUnavailableError):
        await publisher.documents.get(URL)
    publisher.now, publisher.answer = publisher.now + PAUSE, answers(version=2)
    assert await publisher.documents.get(URL) == 2


async def test_a_publishers_trouble_is_not_logged_as_an_error_and_our_own_is() -> None:
    """Made-up URLs must not be able to page the operator."""
    publisher = Publisher(httpx.ConnectError("refused"))
    with structlog.testing.capture_logs() as lines, pytest.raises(ClientDocumentUnavailableError):
        await publisher.documents.get(URL)
    assert "error" not in {line["log_level"] for line in lines}
    publisher = Publisher(RuntimeError("a bug"))
    with structlog.testing.capture_logs() as lines, pytest.raises(RuntimeError):
        await publisher.documents.get(URL)
    assert ("unexpected", "error") in [(line["event"], line["log_level"]) for line in lines]


@pytest.mark.parametrize("answer", [answers(404), answers(302), lambda _: httpx.Response(200, json={"bad": True})])
async def test_a_document_that_is_withdrawn_or_goes_bad_serves_no_longer(answer: Any) -> None:
    publisher = Publisher()
    await publisher.documents.get(URL)
    publisher.now, publisher.answer = USUAL, answer
    with pytest.raises(BadClientDocumentError):
        await publisher.documents.get(URL)
    publisher.answer = httpx.ConnectError("refused")
    publisher.now += PAUSE
    with pytest.raises(ClientDocumentUnavailableError):
        await publisher.documents.get(URL)


@pytest.mark.parametrize(
    ("answer", "objection"),
    [
        (answers(404), "is not there"),
        (answers(410), "is not there"),
        (answers(301, location="https://app.example/other"), "without a redirect"),
        (answers(307, location="http://169.254.169.254/"), "without a redirect"),
        (lambda _: httpx.Response(200, text="{}", headers={"Content-Type": "text/html"}), "as application/json"),
        (
            lambda _: httpx.Response(200, text="{}", headers={"Content-Type": "application/jsonp"}),
            "as application/json",
        ),
        (lambda _: httpx.Response(200, content=b"{}"), "as application/json"),
        (lambda _: httpx.Response(200, json=[]), "must be a JSON object"),
        (lambda _: httpx.Response(200, json={"a": "b" * 100}), "more than 100 bytes"),
        (lambda _: httpx.Response(200, content=b"\xff", headers={"Content-Type": "application/json"}), "JSON object"),
        (ForbiddenAddressError("10.0.0.1"), "must be at a public address and on port 443"),
    ],
)
async def test_what_is_no_document_is_refused_and_for_a_while_not_asked_for_again(answer: Any, objection: str) -> None:
    """THREATS 9: redirects, wrong content types, huge bodies, private addresses."""
    publisher = Publisher(answer)
    for _ in range(3):
        with pytest.raises(BadClientDocumentError, match=objection):
            await publisher.documents.get(URL)
    assert len(publisher.asked) == 1
    publisher.now, publisher.answer = PAUSE, answers()
    assert await publisher.documents.get(URL) == 1


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/client+json"]
)
async def test_json_goes_by_several_content_types(content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert await Publisher(lambda _: httpx.Response(200, content=b"{}", headers=headers)).documents.get(URL) is None


@pytest.mark.parametrize(
    "trouble",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("nonsense"), answers(503)],
)
async def test_trouble_that_may_pass_is_not_the_documents_fault(trouble: Any) -> None:
    publisher = Publisher(trouble)
    for _ in range(3):
        with pytest.raises(ClientDocumentUnavailableError):
            await publisher.documents.get(URL)
    assert len(publisher.asked) == 1


async def test_no_secret_and_no_cookie_goes_with_a_request() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={}, headers={"Set-Cookie": "a=b", "Cache-Control": "no-store"})

    publisher = Publisher(answer)
    await publisher.documents.get(URL)
    publisher.now = SHORTEST
    await publisher.documents.get(URL)
    for request in seen:
        assert request.headers["accept"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert not {"cookie", "authorization", "referer"} & request.headers.keys()


async def test_many_who_wait_for_one_document_have_it_fetched_once() -> None:
    publisher = Publisher()
    publisher.may_answer.clear()
    waiting = [asyncio.create_task(publisher.documents.get(URL)) for _ in range(50)]
    while not publisher.asked:
        await asyncio.sleep(0)
    waiting[0].cancel()  # whoever came first is no more than the others
    await asyncio.sleep(0)
    publisher.may_answer.set()
    assert await asyncio.gather(*waiting[1:]) == [1] * 49
    assert publisher.asked == [URL]


async def test_a_flood_of_made_up_urls_is_not_fetched_without_bound() -> None:
    """THREATS 9: nobody floods others by way of this server, nor this server."""
    publisher = Publisher()
    known = "https://known.example/client.json"
    await publisher.documents.get(known)
    publisher.may_answer.clear()
    flood = [asyncio.create_task(publisher.documents.get(f"https://host-{number}.example/")) for number in range(1000)]
    refused, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_EXCEPTION)
    assert all(isinstance(task.exception(), ClientDocumentUnavailableError) for task in refused)
    assert len(publisher.asked) == 1 + FETCHES_AT_ONCE
    assert await publisher.documents.get(known) == 1  # who is known is served meanwhile
    publisher.may_answer.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert outcomes.count(1) == FETCHES_AT_ONCE


async def test_a_flood_keeps_nobody_out_whose_document_is_known() -> None:
    """THREATS 9: whoever has a few slow servers could otherwise stop the clients of everybody else."""
    publisher = Publisher()
    await publisher.documents.get(URL)
    publisher.may_answer.clear()
    flood = [
        asyncio.create_task(publisher.documents.get(f"https://host-{number}.example/"))
        for number in range(FETCHES_AT_ONCE)
    ]
    await asyncio.sleep(0)
    publisher.now += USUAL
    assert await publisher.documents.get(URL) == 1
    publisher.now += STALE
    with pytest.raises(ClientDocumentUnavailableError):
        await publisher.documents.get(URL)
    publisher.may_answer.set()
    await asyncio.gather(*flood)
    assert await publisher.documents.get(URL) == 1  # nobody had been asked, so there is no pause


@pytest.mark.parametrize("within", ["domain", "address"])
async def test_a_flood_by_one_domain_or_one_address_leaves_room_for_others(within: str) -> None:
    """THREATS 26: names below one domain, or one requester, whose publishers never answer."""
    publisher = Publisher()
    publisher.may_answer.clear()
    most = FETCHES_IN_DOMAIN if within == "domain" else FETCHES_FOR_ADDRESS

    async def flood(number: int) -> Any:
        requesting_address.set(None if within == "domain" else b"attacker")
        host = f"{number}.evil.example" if within == "domain" else f"evil-{number}.example"
        return await publisher.documents.get(f"https://{host}/")

    flooding = [asyncio.create_task(flood(number)) for number in range(FETCHES_AT_ONCE)]
    refused, _ = await asyncio.wait(flooding, return_when=asyncio.FIRST_EXCEPTION, timeout=PATIENCE)
    assert {type(task.exception()) for task in refused} == {ClientDocumentUnavailableError}
    assert len(publisher.asked) == most < FETCHES_AT_ONCE
    requesting_address.set(b"somebody else")
    waiting = asyncio.create_task(publisher.documents.get(URL))
    while URL not in publisher.asked:
        await asyncio.sleep(0)
    publisher.may_answer.set()
    assert await waiting == 1
    await asyncio.gather(*flooding, return_exceptions=True)
    requesting_address.set(b"attacker")
    assert await publisher.documents.get("https://later.evil.example/") == 1  # once there is room again


async def test_a_failed_fetch_is_logged_with_its_host() -> None:
    publisher = Publisher(httpx.ConnectTimeout("slow"))
    with structlog.testing.capture_logs() as logs, pytest.raises(ClientDocumentUnavailableError):
        await publisher.documents.get(URL)
    (line,) = logs
    assert (line["host"], line["detail"]) == ("app.example", "did not come in time")


class Documents:
    """A `DocumentStore` in memory, which can be down."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.is_down = False

    async def load(self, url: str) -> str | None:
        if self.is_down:
            raise StoreError("down")
        return self.kept.get(url)

    async def save(self, url: str, sealed: str, *, now: float) -> None:
        if self.is_down:
            raise StoreError("down")
        self.kept[url] = sealed


KEY = "the key that seals, of random characters"


def restarted(store: Documents, answer: Any, *, key: str = KEY, now: float = 1_800_000_000) -> Publisher:
    return Publisher(answer, archive=DocumentArchive(store, Sealer([key], "https://door.example"), lambda: now))


UNAVAILABLE = httpx.ConnectError("refused")


async def test_a_document_in_use_survives_a_restart_while_its_publisher_is_down() -> None:
    """THREATS 26."""
    store = Documents()
    before = restarted(store, answers())
    await before.documents.get(URL)
    assert store.kept == {}  # strangers fill no store
    assert await before.documents.keep(URL) == 1
    after = restarted(store, UNAVAILABLE)
    assert await after.documents.get(URL) == 1
    after.now, after.answer = PAUSE, answers(version=2)
    assert await after.documents.get(URL) == 2


async def test_a_document_in_use_survives_a_restart_in_the_middle_of_a_flood() -> None:
    store = Documents()
    before = restarted(store, answers())
    await before.documents.get(URL)
    await before.documents.keep(URL)
    after = restarted(store, answers())
    after.may_answer.clear()
    flood = [
        asyncio.create_task(after.documents.get(f"https://host-{number}.example/")) for number in range(FETCHES_AT_ONCE)
    ]
    await asyncio.sleep(0)
    assert await after.documents.get(URL) == 1
    assert URL not in after.asked
    after.may_answer.set()
    await asyncio.gather(*flood)


async def test_a_document_is_archived_once_until_it_was_fetched_again() -> None:
    store = Documents()
    publisher = restarted(store, answers())
    assert await publisher.documents.keep(URL) is None  # it was never fetched
    for version in (1, 2):
        publisher.answer = answers(version=version)
        assert await publisher.documents.get(URL) == version
        store.kept.clear()
        assert await publisher.documents.keep(URL) == version
        assert set(store.kept) == {URL}
        store.kept.clear()
        await publisher.documents.keep(URL)
        assert store.kept == {}
        publisher.now += USUAL


@pytest.mark.parametrize("trouble", ["forged", "another key", "another URL", "too old", "down"])
async def test_what_the_archive_cannot_vouch_for_is_not_used(trouble: str) -> None:
    """Whoever can write to the store must not be able to speak for a client."""
    store = Documents()
    before = restarted(store, answers())
    await before.documents.get(URL)
    await before.documents.keep(URL)
    if trouble == "forged":
        store.kept[URL] = '{"version": 3}'
    if trouble == "another URL":
        store.kept = {"https://victim.example/client.json": store.kept[URL]}
    store.is_down = trouble == "down"
    now = 1_800_000_000 + (LIFETIME + 1 if trouble == "too old" else 0)
    after = restarted(store, UNAVAILABLE, key=KEY[::-1] if trouble == "another key" else KEY, now=now)
    url = "https://victim.example/client.json" if trouble == "another URL" else URL
    with pytest.raises(ClientDocumentUnavailableError):
        await after.documents.get(url)


async def test_a_withdrawn_document_is_not_taken_from_the_archive() -> None:
    store = Documents()
    before = restarted(store, answers())
    await before.documents.get(URL)
    await before.documents.keep(URL)
    with pytest.raises(BadClientDocumentError):
        await restarted(store, answers(404)).documents.get(URL)


async def test_no_login_fails_because_a_document_cannot_be_archived() -> None:
    store = Documents()
    store.is_down = True
    publisher = restarted(store, answers())
    await publisher.documents.get(URL)
    assert await publisher.documents.keep(URL) == 1


async def test_failures_do_not_push_out_what_is_known() -> None:
    publisher = Publisher()
    await publisher.documents.get(URL)
    publisher.answer = answers(404)
    for number in range(CAPACITY + 1):
        with pytest.raises(BadClientDocumentError):
            await publisher.documents.get(f"https://host-{number}.example/")
    publisher.asked.clear()
    assert await publisher.documents.get(URL) == 1
    assert publisher.asked == []
    with pytest.raises(BadClientDocumentError):
        await publisher.documents.get("https://host-0.example/")
    assert publisher.asked == ["https://host-0.example/"]  # the oldest failure was forgotten


async def test_the_document_that_was_used_longest_ago_is_forgotten_first() -> None:
    publisher = Publisher()
    urls = [f"https://host-{number}.example/" for number in range(CAPACITY + 1)]
    for url in urls[:CAPACITY]:
        await publisher.documents.get(url)
    await publisher.documents.get(urls[0])
    await publisher.documents.get(urls[CAPACITY])
    publisher.asked.clear()
    await publisher.documents.get(urls[0])
    await publisher.documents.get(urls[1])
    assert publisher.asked == [urls[1]]


async def test_what_is_on_its_way_at_the_end_is_given_up() -> None:
    publisher = Publisher()
    publisher.may_answer.clear()
    waiting = asyncio.create_task(publisher.documents.get(URL))
    while not publisher.asked:
        await asyncio.sleep(0)
    await publisher.documents.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
