"""PROTOCOL R5 and THREATS 9 over real sockets: a client's own web server, TLS and all, and the whole front door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from seed_oauth import Pipeline, Settings, create_app
from seed_oauth.clients.assertion import ASSERTION_TYPE
from seed_oauth.http_client.guarded_transport import GuardedTransport
from seed_oauth.outcomes import AuthorizationOutcome
from tests import certificates
from tests.cli.test_cli import serving
from tests.clients.test_client_assertion import claims, jwks
from tests.harness import (
    CALLBACK,
    SETTINGS,
    TOKENS,
    RelayDoor,
    authorization_request,
    code_request,
    document,
    json_of,
    query_of,
)
from tests.harness import ISSUER as HARNESS_ISSUER
from tests.http_client.test_guarded_transport import publishing
from tests.http_client.test_transport import Handler, response

pytestmark = pytest.mark.anyio

ISSUER = "http://127.0.0.1:8000"
KEY = ECKey.generate_key("P-256", {"kid": "one"})


@asynccontextmanager
async def front_door(*, allow_loopback: bool) -> AsyncIterator[httpx.AsyncClient]:
    """A front door that fetches documents for real."""
    app = create_app(
        Settings(**{**SETTINGS, "issuer": ISSUER, "flow": "relay"}),
        pipeline=Pipeline(),
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=TOKENS)),
        client_documents=GuardedTransport(allow_loopback=allow_loopback, ssl_context=certificates.trusting()),
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as http,
    ):
        yield http


class Publisher:
    """A client's web server: what it publishes, by path."""

    def __init__(self) -> None:
        self.files: dict[str, object] = {}
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        content = self.files[path]
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        writer.write(response(body, headers=b"Content-Type: application/json\r\nCache-Control: max-age=600\r\n"))


async def test_a_client_that_publishes_its_document_and_keys_logs_in() -> None:
    publisher = Publisher()
    async with publishing(publisher, "127.0.0.1") as port, front_door(allow_loopback=True) as http:
        url = f"https://127.0.0.1:{port}/client.json"
        keys = f"https://127.0.0.1:{port}/jwks.json"
        publisher.files["/client.json"] = document(url, token_endpoint_auth_method="private_key_jwt", jwks_uri=keys)
        publisher.files["/jwks.json"] = jwks(KEY)

        sent = await http.get("/oauth/authorize", params=authorization_request(client_id=url))
        assert query_of(sent.headers["location"])["redirect_uri"] == CALLBACK
        assertion = jwt.encode({"alg": "ES256", "kid": "one"}, claims(iss=url, sub=url, aud=ISSUER), KEY)
        form = code_request(client_id=url, client_assertion=assertion, client_assertion_type=ASSERTION_TYPE)
        tokens = await http.post("/oauth/token", data=form)
        assert json_of(tokens)["access_token"] == TOKENS["access_token"]
    assert publisher.asked == ["/client.json", "/jwks.json"]


async def refused(handler: Handler, path: str = "/client.json", *, allow_loopback: bool = True) -> tuple[int, str]:
    """The status of an authorization request of a client that is published so, and what is told."""
    async with publishing(handler, "127.0.0.1") as port, front_door(allow_loopback=allow_loopback) as http:
        client_id = f"https://127.0.0.1:{port}{path}"
        answer = await http.get("/oauth/authorize", params=authorization_request(client_id=client_id))
        assert "location" not in answer.headers  # no redirect to an unverified URI
        return answer.status_code, json_of(answer)["error_description"]


async def test_a_private_address_is_never_connected_to() -> None:
    publisher = Publisher()
    status, told = await refused(publisher, allow_loopback=False)
    assert (status, "must be at a public address and on port 443" in told) == (400, True)
    assert publisher.asked == []


async def test_a_document_that_lies_about_its_client_id_is_refused() -> None:
    publisher = Publisher()
    publisher.files["/client.json"] = document("https://claude.ai/oauth/mcp-oauth-client-metadata")
    status, told = await refused(publisher)
    assert (status, "must have its own URL" in told) == (400, True)


async def test_a_document_that_redirects_is_refused_and_the_target_not_asked() -> None:
    publisher = Publisher()

    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        location = f"https://127.0.0.1:{writer.get_extra_info('sockname')[1]}/other.json"
        writer.write(response(b"", b"302 Found", f"Location: {location}\r\n".encode()))
        publisher.asked.append("redirect")

    status, told = await refused(redirecting)
    assert (status, "without a redirect" in told) == (400, True)
    assert publisher.asked == ["redirect"]


async def test_a_document_that_never_ends_is_cut_off() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await writer.drain()

    status, told = await refused(endless)
    assert (status, "must not have more than 5120 bytes" in told) == (400, True)


async def test_a_compressed_document_is_not_blown_up() -> None:
    async def compressed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert b"gzip" not in request
        headers = b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
        writer.write(response(b"\x1f\x8b\x08\x00" + b"\x00" * 100, headers=headers))

    status, told = await refused(compressed)
    assert (status, "must be a JSON object" in told) == (400, True)


async def test_a_server_that_hangs_up_is_trouble_that_may_pass() -> None:
    async def hanging_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    status, told = await refused(hanging_up)
    assert (status, "cannot be reached" in told) == (503, True)


async def test_the_server_that_runs_trusts_whom_the_system_trusts_and_fetches_only_what_it_may(tmp_path: Path) -> None:
    """The real process: documents on loopback are for development, by a setting."""
    (tmp_path / "authority.pem").write_text(certificates.authority_pem())
    idp = {
        "SSL_CERT_FILE": str(tmp_path / "authority.pem"),
        "SEED_OAUTH_FLOW": "relay",
        "SEED_OAUTH_IDP_AUTHORIZATION_URL": "https://idp.example/authorize",
        "SEED_OAUTH_IDP_TOKEN_URL": "https://idp.example/token",
        "SEED_OAUTH_IDP_CLIENT_ID": "proxy",
    }
    publisher = Publisher()
    async with publishing(publisher, "localhost") as port:
        url = f"https://localhost:{port}/client.json"
        publisher.files["/client.json"] = document(url)
        request = authorization_request(client_id=url)
        async with serving(tmp_path, idp) as server:
            answer = await server.http.get(f"{server.url}/oauth/authorize", params=request)
            assert json_of(answer)["error"] == AuthorizationOutcome.BAD_CLIENT_DOCUMENT.error
        assert publisher.asked == []
        async with serving(tmp_path, {**idp, "SEED_OAUTH_CLIENT_DOCUMENTS_ON_LOOPBACK": "true"}) as server:
            answer = await server.http.get(f"{server.url}/oauth/authorize", params=request)
            assert answer.status_code == 302
            assert answer.headers["location"].startswith("https://idp.example/authorize?")
        assert publisher.asked == ["/client.json"]


async def test_a_client_that_has_logged_in_does_so_after_a_restart_while_its_publisher_is_down(tmp_path: Path) -> None:
    """THREATS 26: its document and its keys, by way of the store."""
    settings = {"store_url": f"sqlite:///{tmp_path}/door.db"}
    url, keys = "https://app.example/client.json", "https://app.example/jwks.json"
    files = {"/client.json": document(url, token_endpoint_auth_method="private_key_jwt", jwks_uri=keys)}
    files["/jwks.json"] = jwks(KEY)

    def form(jti: str) -> dict[str, str]:
        signed = claims(iss=url, sub=url, aud=HARNESS_ISSUER, jti=jti)
        assertion = jwt.encode({"alg": "ES256", "kid": "one"}, signed, KEY)
        return code_request(client_id=url, client_assertion=assertion, client_assertion_type=ASSERTION_TYPE)

    async with RelayDoor(
        documents=lambda asked: httpx.Response(200, json=files[asked.url.path]), settings=settings
    ) as door:
        assert (await door.authorize(client_id=url)).status_code == 302
        assert (await door.token(form("before"))).status_code == 200
    async with RelayDoor(documents=lambda _: httpx.Response(503), settings=settings) as door:
        assert (await door.authorize(client_id=url)).status_code == 302
        assert (await door.token(form("after"))).status_code == 200
        stranger = await door.authorize(client_id="https://app.example/other.json")
        assert stranger.status_code == 503


async def test_a_client_that_nobody_logged_in_with_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    """Strangers fill no store."""
    settings = {"store_url": f"sqlite:///{tmp_path}/door.db"}
    url = "https://app.example/client.json"
    async with RelayDoor(documents=lambda _: httpx.Response(200, json=document(url)), settings=settings) as door:
        assert (await door.authorize(client_id=url)).status_code == 302
    async with RelayDoor(documents=lambda _: httpx.Response(503), settings=settings) as door:
        assert (await door.authorize(client_id=url)).status_code == 503
