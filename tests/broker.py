"""A front door in the broker flow, and a browser and a client that go through whole logins with it."""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import httpx
import orjson

from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider
from seed_oauth.clients import Client
from seed_oauth.flows.grants import RefreshLease, Selection, StoredGrant
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.outcomes import ClientFamily
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.grants import SqliteGrantStore
from seed_oauth.storage.sqlite.held_responses import SqliteHeldResponseStore
from tests.harness import FrontDoor, authorization_request, code_request, json_of, query_of

IDP = "https://idp.example"
METADATA = ProviderMetadata(
    issuer=IDP,
    authorization_endpoint=f"{IDP}/authorize",
    token_endpoint=f"{IDP}/token",
    revocation_endpoint=f"{IDP}/revoke",
)


@dataclass
class PlayedMetadata:
    """A `MetadataSource` that a test plays: what is known of the identity provider, or why it is not."""

    known: ProviderMetadata = METADATA
    failure: Exception | None = None
    hold: asyncio.Event | None = None
    """If given, it is set when somebody asks, who then waits for ever."""

    async def get(self) -> ProviderMetadata:
        if self.hold is not None:
            self.hold.set()
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return self.known


@dataclass
class Clock:
    """Seconds since the epoch, as a test wants them."""

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


class KnownClients:
    """A `ClientStore` of a few clients that are always there."""

    def __init__(self, *clients: Client) -> None:
        self._clients = {client.client_id: client for client in clients}

    async def get(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    async def add(self, client: Client) -> None:
        self._clients[client.client_id] = client

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        pass

    async def check(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class PlayedGrants:
    """A `GrantStore` somewhere in a network, whose methods fail when they are in `failing`."""

    def __init__(self) -> None:
        self._inner = SqliteGrantStore(Database("sqlite:///:memory:"))
        self.failing: set[str] = set()
        self.reached: list[str] = []

    async def _reach(self, method: str) -> None:
        await anyio.lowlevel.checkpoint()
        if method in self.failing:
            raise StoreError("ConnectionError")
        self.reached.append(method)

    async def take_lease(
        self, grant_id: str, generation: int, *, now: float, until: float, expires_at: float
    ) -> RefreshLease | str:
        await self._reach("take_lease")
        return await self._inner.take_lease(grant_id, generation, now=now, until=until, expires_at=expires_at)

    async def add(self, grant: StoredGrant, *, expires_at: float) -> None:
        await self._reach("add")
        await self._inner.add(grant, expires_at=expires_at)

    async def search(self, chosen: Selection, *, now: float) -> Sequence[StoredGrant]:
        await self._reach("search")
        return await self._inner.search(chosen, now=now)

    async def first_use(self, grant_id: str) -> str | None:
        await self._reach("first_use")
        return await self._inner.first_use(grant_id)

    async def finish(
        self, grant_id: str, generation: int, answer: str, *, now: float, token_hash: str | None = None
    ) -> None:
        await self._reach("finish")
        await self._inner.finish(grant_id, generation, answer, now=now, token_hash=token_hash)

    async def abandon(self, grant_id: str, generation: int) -> None:
        await self._reach("abandon")
        await self._inner.abandon(grant_id, generation)

    async def revoke(self, grant_id: str, *, expires_at: float) -> None:
        await self._reach("revoke")
        await self._inner.revoke(grant_id, expires_at=expires_at)


class PlayedHeldResponses:
    """A `HeldResponseStore` somewhere in a network, whose methods fail when they are in `failing`."""

    def __init__(self) -> None:
        self._inner = SqliteHeldResponseStore(Database("sqlite:///:memory:"))
        self.failing: set[str] = set()
        self.sweeps = 0

    async def _reach(self, method: str) -> None:
        await anyio.lowlevel.checkpoint()
        if method in self.failing:
            raise StoreError("ConnectionError")

    async def hold(self, key: int, sealed: bytes, family: ClientFamily, *, expires_at: float) -> None:
        await self._reach("hold")
        await self._inner.hold(key, sealed, family, expires_at=expires_at)

    async def take(self, key: int) -> bytes | None:
        await self._reach("take")
        return await self._inner.take(key)

    async def delete_expired(self, *, now: float) -> Mapping[str, int]:
        self.sweeps += 1
        await self._reach("delete_expired")
        return await self._inner.delete_expired(now=now)

    async def two_more_sweeps(self) -> None:
        """Wait for a whole sweep, which is over when the next one begins."""
        begun = self.sweeps
        with anyio.fail_after(5):
            while self.sweeps < begun + 2:
                await anyio.lowlevel.checkpoint()


@dataclass
class Person:
    """Somebody with a browser of their own, which keeps cookies."""

    door: "BrokerDoor"
    address: str = "127.0.0.1"
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        # A browser shows pages, and follows no redirect here so that each step can be looked at.
        self.http = self.door.client(self.address, {"Accept": "text/html"})

    async def opens(self, **changes: str | None) -> httpx.Response:
        """The authorization request that a client sends the browser to."""
        return await self.http.get("/oauth/authorize", params=authorization_request(**changes))

    async def decides(self, page: httpx.Response, decision: str = "approve", **fields: str) -> httpx.Response:
        """Answer the question on a consent page."""
        form = {"request": request_in(page), "decision": decision, **fields}
        return await self.http.post("/oauth/consent", data=form)

    async def logs_in(self, at_idp: str) -> httpx.Response:
        """Go to the identity provider, which lets everybody in, and come back: the answer of the callback."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.door.provider.app), base_url=IDP) as http:
            returned = await http.get(at_idp)
        return await self.http.get(returned.headers["location"])

    async def reaches_idp(self, **changes: str | None) -> str:
        """Where at the identity provider the browser is sent to, once its user has agreed where they are asked."""
        page = await self.opens(**changes)
        return page.headers["location"] if page.is_redirect else target_of(await self.decides(page))

    async def returns(self, **parameters: str) -> httpx.Response:
        """Come back from an identity provider that says so: the answer of the callback."""
        return await self.http.get("/oauth/callback", params=parameters)

    async def goes_through(self, **changes: str | None) -> str:
        """The code that a client gets at the end of a whole login."""
        returned = await self.logs_in(await self.reaches_idp(**changes))
        return query_of(returned.headers["location"])["code"]


class AtProvider(httpx.AsyncBaseTransport):
    """Connects to an identity provider in this process, which knows its own name from the Host field."""

    def __init__(self, provider: DevelopmentIdentityProvider) -> None:
        self._inner = httpx.ASGITransport(provider.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Host"] = request.url.host
        return await self._inner.handle_async_request(request)


@dataclass
class BrokerDoor(FrontDoor):
    """The real app in the broker flow; behind it the demo's identity provider, unless `idp` plays it."""

    people: list[Person] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.provider = DevelopmentIdentityProvider("proxy", "secret of the proxy")
        if self.idp is FrontDoor.idp:
            self.idp = AtProvider(self.provider).handle_async_request

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for person in self.people:
            await person.http.aclose()
        await super().__aexit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.person = self.somebody()
        return self

    def somebody(self, address: str = "127.0.0.1") -> Person:
        """One more person, with a browser of their own."""
        person = Person(self, address)
        self.people.append(person)
        return person

    async def login(self, **changes: str | None) -> dict[str, Any]:
        """The tokens of a whole login."""
        code = await self.person.goes_through(**changes)
        return json_of(await self.token(code_request(code=code)))


def jwt_of(claims: object, **header: object) -> str:
    """A JWT with these claims, of a signature that nobody checks."""
    parts = (orjson.dumps({"alg": "RS256", **header}), orjson.dumps(claims), b"signature")
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def id_jwt(**claims: object) -> str:
    """An ID token for this server with these claims, of a signature that nobody checks."""
    return jwt_of({"iss": IDP, "aud": "proxy", "exp": 2**33, **claims})


def access_jwt(**claims: object) -> str:
    """An access token with these claims that lasts."""
    return jwt_of({"exp": 2**33, **claims})


def request_in(page: httpx.Response) -> str:
    """The sealed request in the form of a consent page."""
    found = re.search(r'<input type="hidden" name="request" value="([^"]*)">', page.text)
    assert found, page.text
    return unescape(found[1])


def link_in(page: httpx.Response) -> str:
    """Where a page leads to by a click."""
    found = re.search(r'<a class="button" href="([^"]*)">', page.text)
    assert found, page.text
    return unescape(found[1])


def target_of(page: httpx.Response) -> str:
    """Where a page sends the browser on to."""
    found = re.search(r'<meta http-equiv="refresh" content="0;url=([^"]*)">', page.text)
    assert found, page.text
    return unescape(found[1])
