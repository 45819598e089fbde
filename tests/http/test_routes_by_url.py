"""Routes that are found by URL are run before Starlette's router is asked."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from seed_oauth.http.routes_by_url import RoutedFirst, RoutesByUrl

pytestmark = pytest.mark.anyio

called: list[str] = []


def app(name: str) -> ASGIApp:
    # A class, which Route takes for an ASGI app.
    class App:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            called.append(name)

    return App()


ROUTES = RoutesByUrl([Route("/token", app("token"))], {"mcp.example": [Route("/mcp", app("mcp"))]})


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    called.clear()


async def call(path: str, **scope: Any) -> list[str]:
    async def nothing(*_: object) -> Any: ...

    asked = {"type": "http", "method": "POST", "path": path, "headers": [], **scope}
    await RoutedFirst(app("router"), ROUTES)(asked, nothing, nothing)
    return called


async def test_a_route_answers_at_its_path() -> None:
    assert await call("/token") == ["token"]


async def test_the_router_answers_at_any_other_path() -> None:
    assert await call("/token/") == ["router"]


@pytest.mark.parametrize("host", [b"mcp.example", b"MCP.example", b"mcp.example:443"])
async def test_a_host_has_routes_of_its_own(host: bytes) -> None:
    assert await call("/mcp", headers=[(b"host", host)]) == ["mcp"]


async def test_the_routes_of_a_host_are_not_those_of_another() -> None:
    assert await call("/mcp", headers=[(b"host", b"other.example")]) == ["router"]


async def test_the_path_of_an_app_that_this_one_is_mounted_in_does_not_count() -> None:
    assert await call("/door/token", root_path="/door") == ["token"]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_what_is_no_request_goes_to_the_router(kind: str) -> None:
    assert await call("/token", type=kind) == ["router"]


async def test_the_route_is_known_to_what_is_around() -> None:
    scope: dict[str, Any] = {"type": "http", "path": "/token", "headers": []}

    async def nothing(*_: object) -> Any: ...

    await RoutedFirst(app("router"), ROUTES)(scope, nothing, nothing)
    assert scope["route"].path == "/token"
