"""The reverse proxy before the MCP server, on real sockets: what goes through, both ways, and what does not."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

import anyio
import httpx
import pytest
import structlog.testing
from pydantic import SecretStr

from seed_oauth import Pipeline, Settings, create_app
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.server.listener import Listener, listen
from tests.cli.test_cli import PATIENCE, free_port
from tests.harness import FrontDoor, json_of, rows_of_every_endpoint
from tests.http_client.test_transport import Handler, answering, listening, response
from tests.resource_server.issuing import IDP, SECRET_KEY, Idp, claims, own_token, signed
from tests.resource_server.test_protect import CASES

pytestmark = pytest.mark.anyio

HELLO = response(b"hello", headers=b"Content-Type: text/plain\r\n")


@dataclass
class Door:
    """A front door that stands right before an MCP server."""

    url: str
    settings: Settings
    http: httpx.AsyncClient
    pipeline: Pipeline
    idp: Idp
    listener: Listener

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"

    @property
    def port(self) -> int:
        port = httpx.URL(self.url).port
        assert port is not None
        return port

    def headers(self, **changes: Any) -> dict[str, str]:
        """Those of a request that gets through; `changes` are the token's."""
        return {"Authorization": f"Bearer {own_token(self.settings, resource=self.mcp, **changes)}"}

    async def error_count(self, outcome: ResourceOutcome) -> float:
        return await FrontDoor(pipeline=self.pipeline).error_count(outcome)


@asynccontextmanager
async def door_before(mcp_server_port: int, *, drain: int = 0, **settings: Any) -> AsyncIterator[Door]:
    pipeline, idp = Pipeline(), Idp()
    with listen("127.0.0.1", 0, "PORT") as public:
        url = f"http://127.0.0.1:{public.getsockname()[1]}"
        all_settings = Settings(
            **{
                "issuer": url,
                "secret_keys": SECRET_KEY,
                "access_tokens": "own",
                "mcp_server": f"http://127.0.0.1:{mcp_server_port}/inner/mcp",
                "store_url": "sqlite:///:memory:",
                **settings,
            }
        )
        app = create_app(all_settings, pipeline=pipeline, transport=httpx.MockTransport(idp))
        listener = Listener(app, public, drain=drain)
        serving = asyncio.create_task(listener.run_until_stopped())
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
                yield Door(url, all_settings, http, pipeline, idp, listener)
        finally:
            listener.should_exit = True
            await serving


@asynccontextmanager
async def door_with(handler: Handler, **settings: Any) -> AsyncIterator[Door]:
    with anyio.fail_after(PATIENCE):
        async with listening(handler) as port, door_before(port, **settings) as door:
            yield door


@dataclass
class Recorder:
    """An MCP server that notes the head and the body of each request, and answers alike."""

    answer: bytes = HELLO
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
            writer.write(self.answer)

    @property
    def request_line(self) -> bytes:
        return self.heads[-1].split(b"\r\n")[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.heads[-1].decode().split("\r\n")[1:-2]
        return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


async def test_a_request_with_a_good_token_reaches_the_server_and_its_answer_the_client() -> None:
    server = Recorder()
    async with door_with(server) as door:
        headers = {**door.headers(), "Content-Type": "application/json", "Mcp-Session-Id": "s1"}
        answer = await door.http.post(f"{door.mcp}?a=%2Fb&c=d%20e", content=b'{"jsonrpc":"2.0"}', headers=headers)
        assert (answer.status_code, answer.text) == (200, "hello")
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["content-length"] == "5"
        assert len([name for name, _ in answer.headers.raw if name.lower() == b"date"]) == 1
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-correlation-id"])
        assert server.request_line == b"POST /inner/mcp?a=%2Fb&c=d%20e HTTP/1.1"
        assert server.bodies == [b'{"jsonrpc":"2.0"}']
        sent = dict(server.headers)
        assert sent["content-type"] == "application/json"
        assert sent["mcp-session-id"] == "s1"
        assert sent["host"] == httpx.URL(door.settings.mcp_server or "").netloc.decode()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_every_method_of_streamable_http_goes_through(method: str, path: str) -> None:
    server = Recorder()
    async with door_with(server) as door:
        assert (await door.http.request(method, door.url + path, headers=door.headers())).text == "hello"
        assert server.request_line == f"{method} /inner/mcp HTTP/1.1".encode()
        assert dict(server.headers).get("content-length", "0") == "0"
        assert "transfer-encoding" not in dict(server.headers)
        refused = await door.http.put(door.mcp, headers=door.headers())
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST, DELETE")


async def test_who_asks_is_told_in_headers_and_the_clients_token_is_not() -> None:
    server = Recorder()
    async with door_with(server) as door:
        headers = door.headers(subject="Zoë\r\nX-Admin: 1 100%", scope="b a", client_id="https://app.example/c?d=%41")
        await door.http.get(door.mcp, headers=headers)
        sent = dict(server.headers)
        assert sent["x-seed-oauth-subject"] == "Zo%C3%AB%0D%0AX-Admin:%201%20100%25"
        assert sent["x-seed-oauth-client-id"] == "https://app.example/c?d=%2541"
        assert sent["x-seed-oauth-scope"] == "a b"
        assert sent["x-seed-oauth-idp-token"] == "the%20token%20of%20the%20identity%20provider"
        assert "authorization" not in sent
        assert headers["Authorization"][7:].encode() not in server.heads[0]


async def test_who_the_user_is_is_told_in_headers_and_groups_can_be_told_apart() -> None:
    server = Recorder()
    async with door_with(server) as door:
        told = {"email": "zoë@example.com", "name": "Zoë Ä", "groups": ("a,b", "c d", "100%"), "tenant": "t\r\nX: 1"}
        await door.http.get(door.mcp, headers=door.headers(**told))
        sent = dict(server.headers)
        assert sent["x-seed-oauth-email"] == "zo%C3%AB@example.com"
        assert sent["x-seed-oauth-name"] == "Zo%C3%AB%20%C3%84"
        assert sent["x-seed-oauth-groups"] == "a%2Cb,c%20d,100%25"
        assert sent["x-seed-oauth-tenant"] == "t%0D%0AX:%201"


async def test_what_a_jwt_says_of_its_user_is_told_as_the_operator_reads_it() -> None:
    recorder = Recorder()
    settings = {"access_tokens": "auto", "idp_issuer": IDP, "idp_preset": "none", "idp_groups_claim": "realm.groups"}
    async with door_with(recorder, **settings, idp_tenant_claim="tid") as door:
        times = {"iat": int(time()), "exp": int(time()) + 300}
        said = {"email": "a@b.example", "email_verified": True, "realm": {"groups": ["x"]}, "tid": "t", "name": "Ann"}
        token = signed(claims(aud=door.mcp, **times, **said))
        assert (await door.http.get(door.mcp, headers={"Authorization": f"Bearer {token}"})).status_code == 200
        names = ("email", "name", "groups", "tenant")
        assert [dict(recorder.headers)[f"x-seed-oauth-{name}"] for name in names] == ["a@b.example", "Ann", "x", "t"]
        token = signed(claims(aud=door.mcp, **times, email="a@b.example"))
        await door.http.get(door.mcp, headers={"Authorization": f"Bearer {token}"})
        assert "x-seed-oauth-email" not in dict(recorder.headers)


async def test_the_client_id_is_the_mcp_clients_or_it_is_not_told() -> None:
    """A token of the identity provider names this server's client_id there, which is no MCP client."""
    recorder = Recorder()
    settings = {"access_tokens": "auto", "idp_issuer": IDP, "idp_preset": "none", "idp_client_id": "proxy"}
    async with door_with(recorder, **settings) as door:
        token = signed(claims(aud=door.mcp, iat=int(time()), exp=int(time()) + 300))
        assert (await door.http.get(door.mcp, headers={"Authorization": f"Bearer {token}"})).status_code == 200
        sent = dict(recorder.headers)
        assert (sent["x-seed-oauth-subject"], sent.get("x-seed-oauth-client-id")) == ("alice", None)
        await door.http.get(door.mcp, headers=door.headers(client_id="https://app.example/client.json"))
        assert dict(recorder.headers)["x-seed-oauth-client-id"] == "https://app.example/client.json"


async def test_what_is_not_known_of_the_client_is_not_told() -> None:
    server = Recorder()
    async with door_with(server, mcp_server_send_token=False) as door:
        await door.http.get(door.mcp, headers=door.headers(subject=None, scope=""))
        names = {name for name, _ in server.headers if name.startswith("x-seed-oauth-")}
        assert names == {"x-seed-oauth-client-id"}


@pytest.mark.parametrize(
    "name",
    [
        "X-Seed-OAuth-Subject",
        "X-Seed-OAuth-IdP-Token",
        "X-Seed-OAuth-Anything",
        "x_seed_oauth_subject",
        "X-Seed_OAuth.Scope",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-User",
        "X_Forwarded_For",
        "Forwarded",
        "X-Real-IP",
        "Proxy",
        "Cookie",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "Keep-Alive",
    ],
)
async def test_headers_that_servers_would_believe_cannot_be_set_by_a_client(name: str) -> None:
    """THREATS 15."""
    server = Recorder()
    async with door_with(server) as door:
        request = (
            f"GET /mcp HTTP/1.1\r\nHost: forged\r\n{name}: forged\r\n"
            f"Authorization: {door.headers()['Authorization']}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(request.encode())
        assert await reader.readuntil(b"hello")
        writer.close()
        assert b"forged" not in server.heads[0]
        sent = dict(server.headers)
        assert sent["x-forwarded-for"] == "127.0.0.1"
        assert sent["x-forwarded-host"] == f"127.0.0.1:{door.port}"
        assert sent["x-forwarded-proto"] == "http"
        assert sent["x-seed-oauth-subject"] == "alice"


async def test_headers_that_connection_names_are_for_the_next_hop_only() -> None:
    """RFC 9110 §7.6.1."""
    server = Recorder(response(b"hello", headers=b"Connection: X-Inner\r\nX-Inner: 1\r\nX-Kept: 1\r\n"))
    async with door_with(server) as door:
        headers = {**door.headers(), "Connection": "keep-alive, X-Hop", "X-Hop": "1", "X-Stays": "1"}
        answer = await door.http.get(door.mcp, headers=headers)
        assert "x-hop" not in dict(server.headers)
        assert dict(server.headers)["x-stays"] == "1"
        assert "x-inner" not in answer.headers
        assert answer.headers["x-kept"] == "1"


async def test_what_the_door_decides_itself_the_server_cannot_say() -> None:
    """PROTOCOL M6: which origins may read; and cookies of this origin are the door's."""
    server = Recorder(
        response(
            b"hello",
            headers=b"Access-Control-Allow-Origin: https://evil.example\r\nAccess-Control-Allow-Credentials: true\r\n"
            b"Set-Cookie: __Host-consent=forged\r\nServer: inner\r\nMcp-Session-Id: s1\r\n",
        )
    )
    async with door_with(server, allowed_origins="*") as door:
        answer = await door.http.get(door.mcp, headers={**door.headers(), "Origin": "https://app.example"})
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert "access-control-allow-credentials" not in answer.headers
        assert {"mcp-session-id", "www-authenticate"} <= set(
            answer.headers["access-control-expose-headers"].lower().split(", ")
        )
        assert "set-cookie" not in answer.headers
        assert "server" not in answer.headers
        assert answer.headers["mcp-session-id"] == "s1"
        preflight = await door.http.options(
            door.mcp,
            headers={
                "Origin": "https://app.example",
                "Access-Control-Request-Method": "DELETE",
                "Access-Control-Request-Headers": "authorization, mcp-session-id",
            },
        )
        assert preflight.status_code == 200
        assert len(server.heads) == 1, "a preflight is answered here"


@pytest.mark.parametrize(
    ("origin", "settings", "status"),
    [
        (None, {}, 200),
        ("http://localhost:6274", {}, 200),
        ("https://127.0.0.1", {}, 200),
        ("http://[::1]:80", {}, 200),
        ("https://app.example", {"allowed_origins": "https://app.example"}, 200),
        ("https://app.example", {"allowed_origins": "*"}, 200),
        ("https://evil.example", {}, 403),
        ("https://evil.example", {"allowed_origins": "https://app.example"}, 403),
        ("http://localhost.evil.example", {}, 403),
        ("http://localhost:1@evil.example", {}, 403),
        ("null", {}, 403),
    ],
)
async def test_scripts_of_other_origins_do_not_reach_a_server_on_loopback(
    origin: str | None, settings: dict[str, Any], status: int
) -> None:
    """PROTOCOL M10. What was checked here the server need not check: SDKs would refuse every origin but their own."""
    server = Recorder()
    async with door_with(server, **settings) as door:
        named = {"Origin": origin} if origin else {}
        answer = await door.http.post(door.mcp, content=b"{}", headers={**door.headers(), **named})
        assert answer.status_code == status
        assert len(server.heads) == (status == 200)
        assert await door.error_count(ResourceOutcome.FORBIDDEN_ORIGIN) == (status == 403)
        if origin:
            ask = {**named, "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
            preflight = await door.http.options(door.mcp, headers=ask)
            assert preflight.status_code == (200 if status == 200 else 400)
        if server.heads:
            assert "origin" not in dict(server.headers)


async def test_the_origin_of_the_door_itself_reaches_the_server() -> None:
    server = Recorder()
    async with door_with(server) as door:
        assert (await door.http.get(door.mcp, headers={**door.headers(), "Origin": door.url})).status_code == 200


async def test_a_server_that_changes_the_protocol_is_not_followed() -> None:
    """THREATS 30. RFC 9110 §7.8: Upgrade is not passed on, so nobody asked for it."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with door_with(answering(switching, then_hang=True)) as door:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        answer = await door.http.get(door.mcp, headers={**door.headers(), **upgrade})
        assert (answer.status_code, json_of(answer)["error"]) == (502, "server_error")
        assert await door.error_count(ResourceOutcome.MCP_SERVER_INVALID_RESPONSE) == 1


async def test_without_a_good_token_the_server_hears_nothing() -> None:
    """PROTOCOL M5."""
    server = Recorder()
    async with door_with(server, required_scopes="admin") as door:
        refused = await door.http.post(door.mcp, content=b"{}")
        assert refused.status_code == 401
        where = re.search(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
        assert where
        metadata = json_of(await door.http.get(where[1]))
        assert metadata["resource"] == door.mcp
        assert metadata["scopes_supported"] == ["admin"]
        assert (await door.http.post(door.mcp, content=b"{}", headers=door.headers())).status_code == 403
        other = door.headers()["Authorization"].replace("Bearer ", "Bearer x")
        assert (await door.http.post(door.mcp, headers={"Authorization": other})).status_code == 401
        assert server.heads == []
        assert await door.error_count(ResourceOutcome.NO_TOKEN) == 1
        assert await door.error_count(ResourceOutcome.INSUFFICIENT_SCOPE) == 1


async def test_before_the_server_a_required_scope_may_be_granted_by_one_that_includes_it() -> None:
    """PROTOCOL M8."""
    hierarchy = {"scope_hierarchy": {"mail": ["mail:read"]}}
    for settings, status in (({}, 403), (hierarchy, 200)):
        async with door_with(Recorder(), required_scopes="mail:read", **settings) as door:
            response = await door.http.post(door.mcp, content=b"{}", headers=door.headers(scope="mail"))
            assert response.status_code == status


async def test_events_arrive_one_by_one_as_the_server_sends_them() -> None:
    """The second event is sent only after the client has seen the first."""
    seen_first = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"b\r\ndata: 1\r\n\r\n\r\n")
        await seen_first.wait()
        writer.write(b"b\r\ndata: 2\r\n\r\n\r\n0\r\n\r\n")

    async with (
        door_with(events) as door,
        door.http.stream("GET", door.mcp, headers={**door.headers(), "Accept": "text/event-stream"}) as stream,
    ):
        assert stream.headers["content-type"] == "text/event-stream"
        pieces = stream.aiter_raw()
        assert await anext(pieces) == b"data: 1\r\n\r\n"
        seen_first.set()
        assert await anext(pieces) == b"data: 2\r\n\r\n"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


def half_closes(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


def closes(writer: asyncio.StreamWriter) -> None:
    writer.close()


def resets(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("leaves", [half_closes, closes, resets])
async def test_a_client_that_closes_an_event_stream_early_is_no_error_in_the_log(
    method: str, leaves: Callable[[asyncio.StreamWriter], None], caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"b\r\ndata: 1\r\n\r\n\r\n")
        await reader.read()
        ended.set()

    async with door_with(events) as door:
        client, writer = await asyncio.open_connection("127.0.0.1", door.port)
        token = door.headers()["Authorization"]
        head = f"{method} /mcp HTTP/1.1\r\nHost: door\r\nAuthorization: {token}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await client.readuntil(b"data: 1")
        leaves(writer)
        await ended.wait()
        if leaves is half_closes:
            assert not (await client.read()).endswith(b"0\r\n\r\n")  # it is not told that this was all
        writer.close()
    assert "without completing" not in caplog.text


async def test_an_upload_reaches_the_server_while_it_is_sent() -> None:
    """The client sends the second piece only after the server has the first."""
    has_first = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"first")
        has_first.set()
        await reader.readuntil(b"second")
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(HELLO)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await has_first.wait()
        yield b"second"

    async with door_with(server) as door:
        assert (await door.http.post(door.mcp, content=pieces(), headers=door.headers())).text == "hello"


def closed(handler: Handler) -> tuple[Handler, asyncio.Event, asyncio.Event]:
    """The handler, with an event for when it has the request's head and one for when its connection is closed."""
    reached, ended = asyncio.Event(), asyncio.Event()

    async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        await handler(reader, writer)
        while await reader.read(1000):
            pass
        ended.set()

    return watched, reached, ended


async def says_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    pass


async def begins(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")


@pytest.mark.parametrize(
    ("server", "body", "seen"),
    [
        (says_nothing, "", b""),
        (says_nothing, "Content-Length: 5\r\n\r\nhello", b""),
        (says_nothing, "Content-Length: 10\r\n\r\nhello", b""),
        (begins, "", b"begun"),
    ],
    ids=["before the answer", "after the body", "in the middle of the body", "in the middle of the answer"],
)
async def test_a_client_that_goes_away_ends_the_servers_work(server: Handler, body: str, seen: bytes) -> None:
    handler, reached, ended = closed(server)
    async with door_with(handler) as door:
        head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers()['Authorization']}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}{body or chr(13) + chr(10)}".encode())
        await reached.wait()
        if seen:
            await reader.readuntil(seen)
        writer.close()
        await ended.wait()
        await writer.wait_closed()
        while not seen and not await door.error_count(ResourceOutcome.CANCELLED):
            await anyio.sleep(0.01)
        assert await door.error_count(ResourceOutcome.UNEXPECTED) == 0


@pytest.mark.parametrize("turns", range(8))
async def test_a_request_that_is_cancelled_around_the_moment_of_its_answer_ends_the_servers_work(turns: int) -> None:
    handler, reached, ended = closed(begins)
    async with door_with(handler) as door:
        app = create_app(door.settings, pipeline=door.pipeline)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=door.url) as http:
            request = asyncio.create_task(http.get("/mcp", headers=door.headers()))
            await reached.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            await ended.wait()
        assert await door.error_count(ResourceOutcome.UNEXPECTED) == 0


async def test_a_server_that_breaks_off_is_not_taken_for_one_that_has_finished() -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await begins(reader, writer)

    with structlog.testing.capture_logs() as lines:
        async with door_with(breaks_off) as door:
            with pytest.raises(httpx.RemoteProtocolError):
                await door.http.get(door.mcp, headers=door.headers())
    assert "the MCP server broke off its answer" in [line["event"] for line in lines]


async def gone(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


TROUBLE: Mapping[str, tuple[Handler, ResourceOutcome]] = {
    "gone": (gone, ResourceOutcome.MCP_SERVER_UNREACHABLE),
    "silent": (answering(then_hang=True), ResourceOutcome.MCP_SERVER_TIMEOUT),
    "no HTTP": (answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ResourceOutcome.MCP_SERVER_INVALID_RESPONSE),
    "redirect": (
        answering(response(b"", b"307 Temporary Redirect", b"Location: http://127.0.0.1:9/mcp/\r\n")),
        ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
    ),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_trouble_with_the_server_is_an_answer_and_counted(trouble: str) -> None:
    handler, row = TROUBLE[trouble]
    patience = 0.2 if row is ResourceOutcome.MCP_SERVER_TIMEOUT else PATIENCE
    async with door_with(handler, mcp_server_timeout=patience) as door:
        answer = await door.http.post(door.mcp, content=b"{}", headers=door.headers())
        assert (answer.status_code, json_of(answer)["error"]) == (row.status, row.error)
        assert "location" not in answer.headers
        assert await door.error_count(row) == 1


async def test_a_server_that_is_not_there_is_a_502_and_found_again_when_it_is() -> None:
    async def says_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(HELLO)(reader, writer)
        writer.close()

    port = free_port()
    async with door_before(port) as door:
        answer = await door.http.get(door.mcp, headers=door.headers())
        assert answer.status_code == 502
        assert answer.headers["retry-after"] == "5"
        assert await door.error_count(ResourceOutcome.MCP_SERVER_UNREACHABLE) == 1
        async with await asyncio.start_server(says_hello, "127.0.0.1", port):
            assert (await door.http.get(door.mcp, headers=door.headers())).text == "hello"


@pytest.mark.parametrize(("method", "status", "sent"), [("GET", 200, 3), ("DELETE", 200, 3), ("POST", 502, 2)])
async def test_a_request_on_a_connection_that_the_server_closes_just_then_is_sent_again_if_that_is_harmless(
    method: str, status: int, sent: int
) -> None:
    """RFC 9110 §9.2.2: a POST may already have done its work."""
    heads: list[bytes] = []

    async def closes_the_first_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = not heads
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            if is_first and len(heads) > 1:
                return
            writer.write(HELLO)

    async with door_with(closes_the_first_connection) as door:
        answers = [await door.http.request(method, door.mcp, headers=door.headers()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, status]
        assert len(heads) == sent


async def test_a_header_field_with_a_line_break_never_reaches_the_server() -> None:
    """Not every ASGI server refuses it."""
    server = Recorder()
    async with door_with(server) as door:
        transport = httpx.ASGITransport(create_app(door.settings, pipeline=door.pipeline))
        async with httpx.AsyncClient(transport=transport, base_url=door.url) as http:
            answer = await http.get("/mcp", headers={**door.headers(), "Accept": "a\r\nX-Forwarded-For: 8.8.8.8"})
        assert (answer.status_code, server.heads) == (400, [])
        assert await door.error_count(ResourceOutcome.MALFORMED_REQUEST) == 1


async def test_a_body_whose_length_is_over_the_limit_is_refused_before_the_server_hears_of_it() -> None:
    server = Recorder()
    async with door_with(server, mcp_server_body_limit=1024) as door:
        answer = await door.http.post(door.mcp, content=b"a" * 1025, headers=door.headers())
        assert answer.status_code == 413
        assert "1024 bytes" in json_of(answer)["error_description"]
        assert (await door.http.post(door.mcp, content=b"a" * 1024, headers=door.headers())).text == "hello"
        assert len(server.heads) == 1
        assert await door.error_count(ResourceOutcome.BODY_TOO_LARGE) == 1


async def test_a_body_without_a_length_is_given_up_when_it_is_over_the_limit() -> None:
    handler, reached, ended = closed(says_nothing)
    async with door_with(handler, mcp_server_body_limit=1024) as door:
        head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers()['Authorization']}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n200\r\n{'a' * 512}\r\n".encode())
        await reached.wait()
        # It sends on without looking, more than any buffer between: a reset would take the answer from it.
        writer.write(b"80000\r\n" + b"a" * 0x80000 + b"\r\n")
        await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        await ended.wait()
        writer.close()
        assert await door.error_count(ResourceOutcome.BODY_TOO_LARGE) == 1


async def test_a_server_that_answers_early_is_heard_and_the_rest_of_the_upload_given_up() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"no", b"422 Unprocessable Content"))

    async with door_with(early) as door:
        head = f"POST /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers()['Authorization']}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}Content-Length: 100\r\n\r\nbegun".encode())
        assert b"422" in await reader.readuntil(b"no")
        writer.close()


async def test_a_401_of_the_server_leads_to_a_new_token_of_the_doors() -> None:
    server = Recorder(
        response(
            b"",
            b"401 Unauthorized",
            b'WWW-Authenticate: Bearer resource_metadata="https://inner.example"\r\nSet-Cookie: inner=1\r\n',
        )
    )
    async with door_with(server) as door:
        answer = await door.http.get(door.mcp, headers=door.headers())
        assert answer.status_code == 401
        (challenge,) = answer.headers.get_list("www-authenticate", split_commas=False)
        assert challenge.startswith('Bearer error="invalid_token", resource_metadata="http://127.0.0.1:')
        assert "set-cookie" not in answer.headers


async def test_an_answer_without_a_body_and_an_error_of_the_server_go_through_as_they_are() -> None:
    for answer, status in (
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202),
        (response(b"x", b"500 Oh"), 500),
    ):
        async with door_with(Recorder(answer)) as door:
            assert (await door.http.get(door.mcp, headers=door.headers())).status_code == status


async def test_a_compressed_answer_is_passed_on_as_it_is() -> None:
    server = Recorder(response(b"\x1f\x8bnot really", headers=b"Content-Encoding: gzip\r\n"))
    async with door_with(server) as door:
        headers = {**door.headers(), "Accept-Encoding": "gzip"}
        async with door.http.stream("GET", door.mcp, headers=headers) as stream:
            assert b"".join([piece async for piece in stream.aiter_raw()]) == b"\x1f\x8bnot really"
            assert stream.headers["content-encoding"] == "gzip"
        assert dict(server.headers)["accept-encoding"] == "gzip"


async def test_an_issuer_with_a_path_has_its_resource_there_with_and_without_a_proxy_that_strips_it() -> None:
    server = Recorder()
    async with listening(server) as port:
        settings = Settings(
            issuer="https://door.example/tenant",
            secret_keys=(SecretStr(SECRET_KEY),),
            access_tokens="own",
            mcp_server=f"http://127.0.0.1:{port}/mcp",
            store_url="sqlite:///:memory:",
        )
        app = create_app(settings, pipeline=Pipeline())
        token = own_token(settings, resource="https://door.example/tenant/mcp")
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="https://door.example") as http,
        ):
            for path in ("/tenant/mcp", "/mcp"):
                assert (await http.get(path, headers={"Authorization": f"Bearer {token}"})).text == "hello"
            assert dict(server.headers)["x-forwarded-host"] == "door.example"
            assert dict(server.headers)["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(("length", "status"), [("many", 400), ("-1", 400), ("5", 200), (None, 200)])
async def test_a_body_is_passed_on_whatever_pieces_it_comes_in_and_a_length_that_is_none_is_refused(
    length: str | None, status: int
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"", b"hel", b"", b"lo"):
            yield piece

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"lo")
        writer.write(HELLO)

    async with door_with(server) as door:
        app = create_app(door.settings, pipeline=door.pipeline)
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=door.url) as http:
            headers = door.headers() | ({"Content-Length": length} if length else {})
            assert (await http.post("/mcp", content=pieces(), headers=headers)).status_code == status


def test_every_row_of_the_table_has_a_case() -> None:
    by_name = {
        ResourceOutcome.ALLOWED,
        ResourceOutcome.REVOKED_TOKEN,
        ResourceOutcome.MCP_SERVER_UNREACHABLE,
        ResourceOutcome.MCP_SERVER_TIMEOUT,
        ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
        ResourceOutcome.FORBIDDEN_ORIGIN,
        # tests/endpoints/test_verify.py
        ResourceOutcome.UNTRUSTED_PROXY,
        ResourceOutcome.NOT_A_RESOURCE,
        # test_tool_scopes.py
        ResourceOutcome.STEP_UP_REQUIRED,
        ResourceOutcome.SCOPE_NOT_GRANTED,
        ResourceOutcome.HEADER_MISMATCH,
    }
    assert {case.row for case in CASES} | by_name | rows_of_every_endpoint(ResourceOutcome) == set(ResourceOutcome)


async def test_a_request_gets_no_headers_but_those_of_the_client_and_of_the_door() -> None:
    server = Recorder()
    async with door_with(server) as door:
        request = f"GET /mcp HTTP/1.1\r\nHost: x\r\nAuthorization: {door.headers()['Authorization']}\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(request.encode())
        assert await reader.readuntil(b"hello")
        writer.close()
        await writer.wait_closed()
    names = {name for name, _ in server.headers}
    assert {name for name in names if not name.startswith(("x-forwarded-", "x-seed-oauth-"))} == {"host"}


async def test_connection_may_be_sent_in_several_lines() -> None:
    """RFC 9110 §5.3: they are read as one list."""
    server = Recorder(response(b"", headers=b"Connection: X-One\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 2\r\n"))
    async with door_with(server) as door:
        named = [("Connection", "X-One"), ("Connection", "X-Two"), ("X-One", "1"), ("X-Two", "2")]
        answer = await door.http.get(door.mcp, headers=[*door.headers().items(), *named])
    assert not {"x-one", "x-two"} & (set(answer.headers) | set(dict(server.headers)))


async def test_a_stream_for_listening_ends_when_the_door_stops_and_an_answer_goes_on() -> None:
    """MCP Transports: a client that listens reconnects, but an answer that breaks off is lost."""
    go_on = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"b\r\ndata: 1\r\n\r\n\r\n")
        await go_on.wait()
        writer.write(b"b\r\ndata: 2\r\n\r\n\r\n0\r\n\r\n")

    async with (
        door_with(events, drain=int(PATIENCE)) as door,
        door.http.stream("GET", door.mcp, headers=door.headers()) as heard,
        door.http.stream("POST", door.mcp, headers=door.headers()) as answer,
    ):
        heard_pieces, answer_pieces = heard.aiter_raw(), answer.aiter_raw()
        assert await anext(heard_pieces) == await anext(answer_pieces) == b"data: 1\r\n\r\n"
        door.listener.should_exit = True
        with pytest.raises(StopAsyncIteration):
            await anext(heard_pieces)
        go_on.set()
        assert await anext(answer_pieces) == b"data: 2\r\n\r\n"
        with pytest.raises(StopAsyncIteration):
            await anext(answer_pieces)
