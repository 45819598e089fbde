"""Event streams end with the token: through the reverse proxy, and from a server that `protect` is before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth import Pipeline, Settings, create_app, protect
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked, hashed
from seed_oauth.http.scope_keys import HALF_CLOSED
from seed_oauth.server.listener import Listener, listen
from seed_oauth.storage.open import open_stores
from tests.cli.test_cli import PATIENCE
from tests.resource_server.issuing import SECRET_KEY, Idp, claims, own_token, signed

pytestmark = pytest.mark.anyio


@dataclass
class Streaming:
    """An MCP server that sends one event, and another one when it is told to."""

    content_type: bytes = b"text/event-stream"
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the request is over, however it ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            headers = [(b"content-type", self.content_type)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
            going_on, leaving = asyncio.create_task(self.go_on.wait()), asyncio.create_task(gone(scope, receive))
            await asyncio.wait([going_on, leaving], return_when=asyncio.FIRST_COMPLETED)
            await send({"type": "http.response.body", "body": b"data: second\n\n"})
        finally:
            self.ended.set()


async def gone(scope: Scope, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect" and HALF_CLOSED not in scope:
        pass


@asynccontextmanager
async def served(make: Callable[[str], ASGIApp]) -> AsyncIterator[str]:
    """Serve the app that is made for a URL, at that URL."""
    with listen("127.0.0.1", 0, "PORT") as public:
        url = f"http://127.0.0.1:{public.getsockname()[1]}"
        listener = Listener(make(url), public, drain=0)
        serving = asyncio.create_task(listener.run_until_stopped())
        try:
            yield url
        finally:
            listener.should_exit = True
            await serving


@dataclass
class Guarded:
    """A server that only requests with a valid token reach, and its store."""

    url: str
    settings: Settings
    server: Streaming
    http: httpx.AsyncClient
    revocations: Revocations

    def token(self, **changes: Any) -> str:
        return own_token(self.settings, resource=f"{self.url}/mcp", **{"issued_at": time(), **changes})

    @asynccontextmanager
    async def stream(self, method: str, token: str) -> AsyncIterator[AsyncIterator[str]]:
        """The events of a stream, after the first one."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.stream(method, f"{self.url}/mcp", headers=headers) as response:
            assert response.status_code == 200
            pieces = response.aiter_text()
            assert await anext(pieces) == "data: first\n\n"
            yield pieces

    async def until_refused(self, token: str) -> None:
        self.server.go_on.set()
        headers = {"Authorization": f"Bearer {token}"}
        while (await self.http.get(f"{self.url}/mcp", headers=headers)).status_code != 401:
            await anyio.sleep(0.02)


def settings_of(url: str, folder: Path, **more: Any) -> Settings:
    return Settings(
        **{
            "issuer": url,
            "secret_keys": SECRET_KEY,
            "idp_issuer": "https://idp.example",
            "idp_preset": "none",
            "idp_client_id": "proxy",
            "store_url": f"sqlite:///{folder}/store.db",
            **more,
        }
    )


@pytest.fixture(params=["reverse proxy", "protect"])
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Guarded]:
    server, transport = Streaming(), httpx.MockTransport(Idp())
    async with AsyncExitStack() as stack:
        if request.param == "protect":

            def app(url: str) -> ASGIApp:
                return protect(server, settings_of(url, tmp_path), pipeline=Pipeline(), transport=transport)
        else:
            inner = await stack.enter_async_context(served(lambda _: server))

            def app(url: str) -> ASGIApp:
                settings = settings_of(url, tmp_path, mcp_server=f"{inner}/mcp")
                return create_app(settings, pipeline=Pipeline(), transport=transport)

        url = await stack.enter_async_context(served(app))
        settings = settings_of(url, tmp_path)
        stores = open_stores(settings)
        stack.push_async_callback(stores.aclose)
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
        with anyio.fail_after(PATIENCE):
            yield Guarded(url, settings, server, http, Revocations(stores.revocations))


async def rest_of(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


@pytest.mark.parametrize("kind", ["own", "of the identity provider"])
async def test_a_stream_that_a_client_listens_to_ends_when_its_token_expires(guarded: Guarded, kind: str) -> None:
    """PROTOCOL M11, THREATS 17."""
    expires_at = int(time()) + 2
    token = guarded.token(expires_at=expires_at)
    if kind != "own":
        token = signed(claims(aud=f"{guarded.url}/mcp", iat=int(time()), exp=expires_at))
    async with guarded.stream("GET", token) as pieces:
        assert await rest_of(pieces) == ""
    await guarded.server.ended.wait()


async def revokes_the_grant(guarded: Guarded) -> None:
    await guarded.revocations.revoke(Revoked.GRANT, "grant")


async def revokes_the_client(guarded: Guarded) -> None:
    await guarded.revocations.revoke(Revoked.CLIENT, "https://app.example/client.json")


async def revokes_the_subject(guarded: Guarded) -> None:
    await guarded.revocations.revoke(Revoked.SUBJECT, hashed("alice"), before=time())


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("revoke", [revokes_the_grant, revokes_the_client, revokes_the_subject])
async def test_an_event_stream_ends_when_its_token_is_revoked(
    guarded: Guarded, method: str, revoke: Callable[[Guarded], Awaitable[None]]
) -> None:
    """PROTOCOL M11, THREATS 17."""
    token, other = (
        guarded.token(expires_at=2**33),
        guarded.token(expires_at=2**33, grant_id="g", client_id="c", subject="s"),
    )
    async with guarded.stream("GET", other) as others:
        async with guarded.stream(method, token) as pieces:
            await revoke(guarded)
            assert await rest_of(pieces) == ""
        guarded.server.go_on.set()
        assert await rest_of(others) == "data: second\n\n"


async def test_a_stream_that_answers_a_request_goes_on_when_its_token_expires(guarded: Guarded) -> None:
    """The request was made in time, and a tool may take longer than the token lasts."""
    token = guarded.token(expires_at=int(time()) + 2)
    async with guarded.stream("POST", token) as pieces:
        guarded.server.go_on, held = asyncio.Event(), guarded.server.go_on
        await guarded.until_refused(token)
        held.set()
        assert await rest_of(pieces) == "data: second\n\n"


async def test_an_answer_that_is_no_event_stream_is_never_cut(guarded: Guarded) -> None:
    guarded.server.content_type = b"application/json"
    token = guarded.token(expires_at=2**33)
    async with guarded.stream("GET", token) as pieces:
        guarded.server.go_on, held = asyncio.Event(), guarded.server.go_on
        await revokes_the_grant(guarded)
        await guarded.until_refused(token)
        held.set()
        assert await rest_of(pieces) == "data: second\n\n"
