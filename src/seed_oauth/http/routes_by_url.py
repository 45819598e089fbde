"""Routes of which the right one is found at once, however many there are."""

from collections.abc import Iterable, Mapping

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class RoutesByUrl(BaseRoute):
    """Routes by path, and by host where a host has routes of its own."""

    def __init__(self, routes: Iterable[Route], hosts: Mapping[str, Iterable[Route]] | None = None) -> None:
        """`hosts` has the routes of single hosts, named in lower case, with their port if it is not the default.

        `routes` are those of every other host.
        """
        self._routes = {route.path: route for route in routes}
        self._hosts = {host: {route.path: route for route in own} for host, own in (hosts or {}).items()}

    @property
    def routes(self) -> list[Route]:
        """Those of every other host."""
        return [*self._routes.values()]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether one of them matches the request."""
        route = self.find(scope)
        return (Match.NONE, {}) if route is None else route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with the one that matches."""
        scope["route"] = route = self.find(scope)
        assert route is not None  # noqa: S101 - it has matched
        await route.handle(scope, receive, send)

    def find(self, scope: Scope) -> Route | None:
        """The one that is at the host and the path of the request."""
        path: str = scope["path"]
        # Host only selects a resource. Its guard takes no token that is for another one.
        routes = self._hosts.get(_host_of(scope), self._routes) if self._hosts else self._routes
        return routes.get(path.removeprefix(scope.get("root_path", "")))


class RoutedFirst:
    """ASGI middleware that runs the app of the route that is found, and leaves every other request to `app`.

    Starlette's router and the middleware around it cost as much as all checks of an authorization request. They are for
    paths with parameters, methods of a route, and `HTTPException`, of which `routes` must have none.
    """

    def __init__(self, app: ASGIApp, routes: RoutesByUrl) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)


def _host_of(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    # A reverse proxy may name the port of its own listener, which is the default one of https or http.
    return host.removesuffix(":443").removesuffix(":80")
