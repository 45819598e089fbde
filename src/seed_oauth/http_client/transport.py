"""Connections to the outside: aiohttp's, under httpx's interface."""

import select
import ssl
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from urllib.parse import quote_plus, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from seed_oauth.settings import Settings

_KEEPALIVE = 30  # seconds an idle connection is kept


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport over aiohttp, whose connection pool costs a fifth of httpx's own.

    No redirect is followed, and whatever goes wrong is raised as httpx has it. No POST is ever sent twice: once its
    first byte may have left, nobody knows what became of it, and a code that is sent again may be spent already. So a
    connection that breaks after that fails the request. (A GET is sent once more by aiohttp, which hurts nobody.)
    """

    def __init__(
        self,
        connector: Callable[[], aiohttp.TCPConnector],
        timeout: aiohttp.ClientTimeout,
        proxy_for: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`connector` makes what holds the connections, once there is a loop; `proxy_for` gets a request's URL."""
        self._connector = connector
        self._timeout = timeout
        self._proxy_for = proxy_for
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, once.

        Raises:
            httpx.ConnectError: no connection, or it broke before the answer began.
            httpx.TimeoutException: no answer in time.
            httpx.RemoteProtocolError: an answer that is not HTTP.
        """
        if self._session is None:
            self._session = _session(self._connector())
        url = str(request.url)
        try:
            answer = await self._session.request(
                request.method,
                # As it is: a document's URL is its client's name, in which nothing may be rewritten.
                URL(url, encoded=True),
                headers={name.decode(): value.decode() for name, value in request.headers.raw},
                data=request.read(),
                timeout=self._timeout,
                proxy=self._proxy_for(url),
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _as_httpx_error(error) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class IdentityProviderTransport(AiohttpTransport):
    """The connections to the identity provider."""

    def __init__(self, settings: Settings, trusted: ssl.SSLContext | bool = True) -> None:
        """Go through HTTPS_PROXY or HTTP_PROXY if the environment says so for a request's host.

        `trusted` says whose certificates are; by default those that the system trusts, or SSL_CERT_FILE names.
        """
        super().__init__(
            lambda: _Connector(keepalive_timeout=_KEEPALIVE, trusted=trusted),
            aiohttp.ClientTimeout(total=settings.idp_timeout, sock_connect=settings.idp_connect_timeout),
            # Looked up once for each of the few endpoints there are.
            lru_cache(maxsize=16)(_proxy_for),
        )


class _Connector(aiohttp.TCPConnector):
    """Keeps connections, and has another one instead of one that was closed since, as long as nothing was sent.

    aiohttp drops those that the event loop has seen closing. But the loop may not have looked since: then a request
    would be written to a connection that is known to be closed, and somebody's login would fail.
    """

    def __init__(self, *, keepalive_timeout: float, trusted: ssl.SSLContext | bool) -> None:
        # No limit: the circuit breaker has one, and refuses at once what would have to queue here.
        super().__init__(limit=0, keepalive_timeout=keepalive_timeout, ssl=trusted)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as it is called
    ) -> Connection:
        """A connection for one request."""
        connection = await super().connect(req, traces, timeout)
        while connection.protocol in self._used and _has_something_to_read(connection):
            connection.close()
            connection = await super().connect(req, traces, timeout)
        assert connection.protocol is not None  # noqa: S101 - until it is released
        self._used.add(connection.protocol)
        return connection


def _has_something_to_read(connection: Connection) -> bool:
    """Between two requests that can only be the end of the connection, or a protocol error."""
    if connection.transport is None or sys.platform == "win32":  # which has no poll
        return False
    readable = select.poll()
    readable.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(readable.poll(0))


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._answer.content.readany():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _as_httpx_error(error) from error

    async def aclose(self) -> None:
        # Keeps the connection when the body was read to its end, and closes it otherwise.
        self._answer.release()


def _as_httpx_error(error: aiohttp.ClientError | TimeoutError) -> httpx.TransportError:
    if isinstance(error, TimeoutError):
        return httpx.TimeoutException("no answer in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError("the answer is not HTTP")
    return httpx.ConnectError("no connection, or it broke")


class AuthenticatedTransport(httpx.AsyncBaseTransport):
    """A transport that adds our credentials, where they are sent in a header."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._authorization: str | None = None
        if settings.idp_client_secret and settings.idp_token_auth_method == "client_secret_basic":  # noqa: S105 - a method's name
            # RFC 6749 §2.3.1: both are form-encoded before they are joined.
            client_id = quote_plus(settings.idp_client_id or "")
            secret = quote_plus(settings.idp_client_secret.get_secret_value())
            self._authorization = f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request with the credentials added."""
        if self._authorization is not None:
            request.headers["Authorization"] = self._authorization
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._transport.aclose()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        # Cookies belong to nobody here: one user's session must not ride on another's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        # aiohttp would look for proxies, and for credentials in ~/.netrc, before each request.
        trust_env=False,
        auto_decompress=False,
    )


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
