"""An app that is replaced while requests are in progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seed_oauth.server.replaceable_app import ReplaceableApp

pytestmark = pytest.mark.anyio


class Named:
    """An app that answers with its name: at /at-once, or at /later as soon as it may."""

    def __init__(self, name: str) -> None:
        self.state = "not started"
        self.has_request = asyncio.Event()
        self.may_answer = asyncio.Event()

        async def later(_: Request) -> Response:
            self.has_request.set()
            await self.may_answer.wait()
            return Response(name)

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.state = "open"
            yield
            self.state = "closed"

        routes = [Route("/at-once", lambda _: Response(name)), Route("/later", later)]
        self.app = Starlette(routes=routes, lifespan=lifespan)


@asynccontextmanager
async def serving(app: ReplaceableApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app between the beginning and the end of its lifespan."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[object] = asyncio.Queue()
    living = asyncio.create_task(app({"type": "lifespan"}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    await from_app.get()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        yield http
    await to_app.put({"type": "lifespan.shutdown"})
    await living


async def test_a_request_stays_with_the_app_it_began_with_and_the_next_gets_the_new_one() -> None:
    old, new = Named("old"), Named("new")
    app = ReplaceableApp(old.app)
    async with serving(app) as http:
        begun = asyncio.create_task(http.get("/later"))
        await old.has_request.wait()
        await app.replace(new.app)
        assert (await http.get("/at-once")).text == "new"
        assert (old.state, new.state) == ("open", "open")
        old.may_answer.set()
        assert (await begun).text == "old"
        assert (old.state, new.state) == ("closed", "open")
    assert new.state == "closed"


async def test_an_app_without_requests_is_closed_at_once() -> None:
    old, new = Named("old"), Named("new")
    app = ReplaceableApp(old.app)
    async with serving(app) as http:
        assert (await http.get("/at-once")).text == "old"
        await app.replace(new.app)
        assert (old.state, new.state) == ("closed", "open")


async def test_an_app_that_still_has_requests_is_closed_with_the_server() -> None:
    old, new = Named("old"), Named("new")
    app = ReplaceableApp(old.app)
    async with serving(app) as http:
        begun = asyncio.create_task(http.get("/later"))
        await old.has_request.wait()
        await app.replace(new.app)
    assert (old.state, new.state) == ("closed", "closed")
    begun.cancel()


async def test_an_app_that_cannot_be_opened_replaces_nothing() -> None:
    async def open_store() -> None:
        raise OSError("the store is gone")

    @asynccontextmanager
    async def broken(_: Starlette) -> AsyncIterator[None]:
        await open_store()
        yield

    old = Named("old")
    app = ReplaceableApp(old.app)
    async with serving(app) as http:
        with pytest.raises(OSError, match="the store is gone"):
            await app.replace(Starlette(lifespan=broken))
        assert (await http.get("/at-once")).text == "old"
        assert old.state == "open"
