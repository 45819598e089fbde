"""What a process knows of revocations: which tokens they make void, for how long, and while the store is down."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest
import structlog.testing

from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import KEPT, PAGES, UNDER_WAY, Revocation, Revoked, hashed
from seed_oauth.outcomes.errors import StoreError
from tests.broker import Clock
from tests.cli.test_cli import PATIENCE

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


@dataclass
class PlayedStore:
    """A `RevocationStore` that a test plays; `pages` is what it has to say, one list after the other."""

    pages: list[list[Revocation]] = field(default_factory=list)
    added: list[Revocation] = field(default_factory=list)
    failing: bool = False

    async def add(self, revocation: Revocation) -> None:
        if self.failing:
            raise StoreError("ConnectionError")
        self.added.append(revocation)

    async def unread(self) -> Sequence[Revocation]:
        if self.failing:
            raise StoreError("ConnectionError")
        return self.pages.pop(0) if self.pages else ()


@dataclass(frozen=True)
class Token:
    """As far as revocations concern it."""

    grant_id: str | None = "grant"
    client_id: str | None = "client"
    subject: str | None = "somebody"
    session_id: str | None = "session"
    token_id: str | None = "token"
    issued_at: float = NOW


def revoked(of: Revoked, name: str, before: float = NOW, at: float = NOW) -> Revocation:
    return Revocation(of, name, before, at)


async def knowing(*revocations: Revocation) -> Revocations:
    known = Revocations(PlayedStore([list(revocations)]), Clock())
    await known.read()
    return known


async def is_void(revocations: Revocations, token: Token) -> bool:
    try:
        return await revocations.cover(token)
    finally:
        await revocations.aclose()


@pytest.mark.parametrize(
    ("revocation", "issued_at", "void"),
    [
        (revoked(Revoked.GRANT, "grant"), NOW - 1, True),
        (revoked(Revoked.GRANT, "grant"), NOW, True),
        (revoked(Revoked.GRANT, "grant"), NOW + 0.001, False),
        (revoked(Revoked.CLIENT, "client"), NOW, True),
        (revoked(Revoked.CLIENT, "client"), NOW + 1, False),
        (revoked(Revoked.SUBJECT, hashed("somebody")), NOW, True),
        (revoked(Revoked.SUBJECT, hashed("somebody")), NOW + 1, False),
        (revoked(Revoked.SESSION, hashed("session")), NOW, True),
        (revoked(Revoked.SESSION, hashed("session")), NOW + 1, False),
        (revoked(Revoked.TOKEN, hashed("token")), NOW, True),
        (revoked(Revoked.TOKEN, hashed("token")), NOW + 1, False),
        (revoked(Revoked.ALL, ""), NOW, True),
        (revoked(Revoked.ALL, ""), NOW + 0.001, False),
        (revoked(Revoked.GRANT, "another"), NOW, False),
        (revoked(Revoked.GRANT, "client"), NOW, False),
        (revoked(Revoked.CLIENT, "grant"), NOW, False),
        (revoked(Revoked.SUBJECT, "somebody"), NOW, False),
        (revoked(Revoked.SUBJECT, hashed("somebody else")), NOW, False),
        (revoked(Revoked.SESSION, hashed("token")), NOW, False),
        (revoked(Revoked.TOKEN, hashed("session")), NOW, False),
    ],
)
async def test_a_revocation_makes_void_what_it_names_until_its_time(
    revocation: Revocation, issued_at: float, void: bool
) -> None:
    assert await is_void(await knowing(revocation), Token(issued_at=issued_at)) is void


async def test_a_later_revocation_takes_nothing_back() -> None:
    known = await knowing(revoked(Revoked.GRANT, "grant", NOW + 100), revoked(Revoked.GRANT, "grant", NOW))
    assert await is_void(known, Token(issued_at=NOW + 50))


async def test_a_revocation_is_stored_once_however_often_it_is_asked_for() -> None:
    store = PlayedStore()
    known = Revocations(store, Clock())
    for _ in range(3):
        await known.revoke(Revoked.GRANT, "grant")
    await known.revoke(Revoked.GRANT, "grant", before=NOW)
    assert len(store.added) == 1
    assert await is_void(known, Token(issued_at=NOW + 10**6))


async def test_what_could_not_be_stored_can_be_tried_again() -> None:
    store = PlayedStore(failing=True)
    known = Revocations(store, Clock())
    with pytest.raises(StoreError):
        await known.revoke(Revoked.GRANT, "grant")
    store.failing = False
    await known.revoke(Revoked.GRANT, "grant")
    assert len(store.added) == 1


@pytest.mark.parametrize("of", Revoked)
async def test_a_token_that_names_nothing_is_void_only_where_everybodys_is(of: Revoked) -> None:
    """A token of an identity provider that says neither whose it is nor when it was issued."""
    known = await knowing(revoked(of, "" if of is Revoked.ALL else hashed("somebody")))
    nameless = Token(None, None, None, None, None, issued_at=0.0)
    assert await is_void(known, nameless) is (of is Revoked.ALL)


async def test_more_than_memory_holds_make_void_whatever_was_issued_before_the_forgotten_ones() -> None:
    """Fail closed: which grants the forgotten revocations were of, nobody knows any more."""
    page, clock = 5, Clock(NOW)
    store = PlayedStore([[revoked(Revoked.GRANT, str(number), at=NOW + number) for number in range(PAGES * page)]])
    known = Revocations(store, clock, page=page)
    clock.seconds = NOW + 10 * UNDER_WAY
    await known.read()
    assert await is_void(known, Token(grant_id="0"))
    assert not await is_void(known, Token(issued_at=NOW))
    store.pages.append([revoked(Revoked.GRANT, "one more", at=clock.seconds)])
    with structlog.testing.capture_logs() as lines:
        await known.read()
    forgotten_at = NOW + page - 1
    assert await is_void(known, Token(issued_at=forgotten_at + UNDER_WAY))
    assert not await is_void(known, Token(issued_at=forgotten_at + UNDER_WAY + 1))
    assert await is_void(known, Token(grant_id=str(page)))
    (line,) = lines
    assert line["log_level"] == "warning"
    assert line["issued_before"] == "2027-01-15T08:10:04+00:00"


async def test_the_epoch_is_never_in_the_future() -> None:
    clock = Clock(NOW)
    known = Revocations(PlayedStore([[revoked(Revoked.GRANT, str(n)) for n in range(PAGES + 1)]]), clock, page=1)
    await known.read()
    assert await is_void(known, Token(issued_at=NOW))
    assert not await is_void(known, Token(issued_at=NOW + 1))


async def test_a_revocation_is_forgotten_once_every_token_that_it_concerns_has_expired() -> None:
    clock, store = Clock(NOW), PlayedStore([[revoked(Revoked.GRANT, "grant")]])
    known = Revocations(store, clock)
    for later, void in ((0.0, True), (KEPT, True), (2 * KEPT, False)):
        clock.seconds = NOW + later
        store.pages.append([revoked(Revoked.GRANT, "another", at=clock.seconds)])
        await known.read()
        assert await is_void(known, Token()) is void


async def test_what_was_issued_before_the_operators_time_is_void_with_and_without_a_store() -> None:
    for store in (PlayedStore(), None):
        known = Revocations(store, Clock(), epoch=NOW)
        assert await is_void(known, Token(issued_at=NOW))
        assert not await is_void(known, Token(issued_at=NOW + 1))


async def test_without_a_store_a_process_knows_its_own_revocations() -> None:
    known = Revocations(None, Clock())
    assert not await is_void(known, Token())
    await known.revoke(Revoked.GRANT, "grant")
    await known.read()
    assert await is_void(known, Token())


async def test_while_the_store_is_down_what_is_known_holds_and_it_is_told_once() -> None:
    store = PlayedStore([[revoked(Revoked.GRANT, "grant")]])
    known = Revocations(store, Clock())
    with structlog.testing.capture_logs() as lines:
        await known.read()
        store.failing = True
        for _ in range(3):
            await known.read()
        assert await is_void(known, Token())
        assert not await is_void(known, Token(grant_id="another"))
        store.failing = False
        store.pages.append([revoked(Revoked.GRANT, "another")])
        await known.read()
        assert await is_void(known, Token(grant_id="another"))
    assert [(line["log_level"], line["event"].partition(":")[0]) for line in lines] == [
        ("warning", "revocations cannot be read"),
        ("info", "revocations are read again"),
    ]


async def test_what_a_newer_release_revokes_concerns_no_token_here() -> None:
    assert not await is_void(await knowing(Revocation("device", "grant", NOW, NOW)), Token())


async def test_the_first_token_waits_until_the_store_was_read() -> None:
    known = Revocations(PlayedStore([[revoked(Revoked.GRANT, "grant")]]), Clock())
    assert await is_void(known, Token())


async def test_who_watches_a_token_hears_at_once_that_it_is_void() -> None:
    store = PlayedStore()
    known = Revocations(store, Clock())
    ended, other, late = anyio.Event(), anyio.Event(), anyio.Event()
    with known.watching(Token(), ended.set), known.watching(Token(grant_id="another"), other.set):
        assert not ended.is_set()
        await known.revoke(Revoked.GRANT, "grant")
        assert ended.is_set()
        assert not other.is_set()
    with known.watching(Token(), late.set):
        assert late.is_set()


async def test_a_watched_token_is_void_as_soon_as_the_store_says_so() -> None:
    store = PlayedStore()
    known = Revocations(store, Clock())
    ended = anyio.Event()
    assert not await known.cover(Token())
    with known.watching(Token(), ended.set):
        store.pages.append([revoked(Revoked.CLIENT, "client")])
        with anyio.fail_after(PATIENCE):
            await ended.wait()
    await known.aclose()
