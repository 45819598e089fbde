"""An app that is replaced while it serves requests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import Receive, Scope, Send


class ReplaceableApp:
    """An ASGI app that passes each request to the newest app.

    A request stays with the app that it began with, and an event stream may last for days. An app that was replaced is
    closed when its last request has ended.
    """

    def __init__(self, app: Starlette) -> None:
        self._newest = _Served(app)
        self._former: set[_Served] = set()
        self._lifespan = Router(lifespan=self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        served = self._newest
        served.requests += 1
        try:
            await served.app(scope, receive, send)
        finally:
            served.requests -= 1
            if served in self._former:
                await self._close_if_unused(served)

    async def replace(self, app: Starlette) -> None:
        """Pass every request that begins from now on to `app`."""
        served = _Served(app)
        await served.start()
        former, self._newest = self._newest, served
        self._former.add(former)
        await self._close_if_unused(former)

    async def _close_if_unused(self, served: "_Served") -> None:
        if not served.requests:
            self._former.discard(served)
            await served.closing.aclose()

    @asynccontextmanager
    async def _running(self, _: object) -> AsyncIterator[None]:
        await self._newest.start()
        yield
        # The listener has waited for requests as long as it does.
        for served in (*self._former, self._newest):
            await served.closing.aclose()


class _Served:
    """An app, and the number of requests that it is answering."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.requests = 0
        self.closing = AsyncExitStack()

    async def start(self) -> None:
        await self.closing.enter_async_context(self.app.router.lifespan_context(self.app))
