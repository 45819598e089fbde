"""Connections to other servers: aiohttp under the interface of httpx."""

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

from seed_oauth.http_client.fetch import ConnectionFailedError

_KEEPALIVE = 30  # seconds an idle connection is kept


class AiohttpTransport(httpx.AsyncBaseTransport):
    """An httpx transport over aiohttp, whose connection pool costs a fifth of httpx's own.

    Redirects are not followed, and errors are raised as httpx exceptions. A POST is never sent twice: once its first
    byte may have left, its fate is unknown, and an authorization code may already be spent. So a connection that breaks
    after that fails the request. (aiohttp retries a GET once, which is harmless.)
    """

    def __init__(
        self,
        connector: Callable[[], aiohttp.TCPConnector],
        timeout: aiohttp.ClientTimeout,
        proxy_for: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`connector` is called once an event loop runs; `proxy_for` returns the proxy for a URL, or None."""
        self._connector = connector
        self._timeout = timeout
        self._proxy_for = proxy_for
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, once.

        Raises:
            httpx.ConnectError: no connection, or it broke before the response began.
            httpx.TimeoutException: no response in time.
            httpx.RemoteProtocolError: a response that is not HTTP.
        """
        if self._session is None:
            self._session = _session(self._connector())
        url = str(request.url)
        try:
            answer = await self._session.request(
                request.method,
                # Unchanged: the URL of a Client ID Metadata Document is compared byte for byte.
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

    def __init__(self, *, timeout: float, connect_timeout: float, ssl_context: ssl.SSLContext | bool = True) -> None:
        """Use HTTPS_PROXY or HTTP_PROXY where the environment names one for a host.

        Args:
            timeout: seconds for one whole request.
            connect_timeout: seconds to connect.
            ssl_context: the trusted certificates; by default those of the system, or of SSL_CERT_FILE.
        """
        super().__init__(
            lambda: _Connector(keepalive_timeout=_KEEPALIVE, ssl_context=ssl_context),
            aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout),
            # Looked up once for each of the few endpoints.
            lru_cache(maxsize=16)(_proxy_for),
        )


class _Connector(aiohttp.TCPConnector):
    """Keeps connections, and replaces one that the server has closed before anything is sent on it.

    aiohttp drops the connections that the event loop has seen closing. If the loop has not looked since, a request
    would be written to a closed connection, and a login would fail.
    """

    def __init__(self, *, keepalive_timeout: float, ssl_context: ssl.SSLContext | bool) -> None:
        # No limit: the circuit breaker has one, and refuses at once instead of queueing. The resolver is the system's,
        # which knows more than name servers; aiohttp would use aiodns, now that it is there.
        resolver = aiohttp.ThreadedResolver()
        super().__init__(limit=0, keepalive_timeout=keepalive_timeout, ssl=ssl_context, resolver=resolver)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature of aiohttp
    ) -> Connection:
        """A connection for one request."""
        connection = await super().connect(req, traces, timeout)
        while connection.protocol in self._used and _has_something_to_read(connection):
            connection.close()
            connection = await super().connect(req, traces, timeout)
        assert connection.protocol is not None  # noqa: S101 - it is None only after its release
        self._used.add(connection.protocol)
        return connection


def _has_something_to_read(connection: Connection) -> bool:
    """Between two requests that can only be the end of the connection, or a protocol error."""
    if connection.transport is None or sys.platform == "win32":  # Windows has no poll
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
        return httpx.TimeoutException("no response in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError("the response is not HTTP")
    return ConnectionFailedError(_connection_problem(error))


def _connection_problem(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name cannot be resolved (DNS)"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate is not accepted (TLS): {getattr(error.certificate_error, 'verify_message', '')}"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        problem = error.strerror or type(error.os_error).__name__
        return "the connection was refused" if isinstance(error.os_error, ConnectionRefusedError) else problem
    return "the connection broke"


class AuthenticatedTransport(httpx.AsyncBaseTransport):
    """A transport that adds client credentials in the Authorization header (client_secret_basic, RFC 6749 §2.3.1)."""

    def __init__(self, transport: httpx.AsyncBaseTransport, client_id: str, client_secret: str) -> None:
        self._transport = transport
        # RFC 6749 §2.3.1: both are form-encoded before they are joined.
        credentials = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        self._authorization = f"Basic {b64encode(credentials.encode()).decode()}"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request with the credentials added."""
        request.headers["Authorization"] = self._authorization
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._transport.aclose()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        # Cookies are shared by all users: one user's session must not go along with another's request.
        cookie_jar=aiohttp.DummyCookieJar(),
        # aiohttp would look for proxies, and for credentials in ~/.netrc, before each request.
        trust_env=False,
        auto_decompress=False,
    )


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
