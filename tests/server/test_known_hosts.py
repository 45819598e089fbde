"""Which names a listener answers to, on a real socket: a page of another site must not become its origin."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seed_oauth import Pipeline, Settings
from seed_oauth.server.known_hosts import KnownHosts, public_hosts
from seed_oauth.server.listener import Listener, listen, metrics_listener
from tests.faults.served import connect, served

pytestmark = pytest.mark.anyio

SETTINGS = Settings(
    issuer="https://door.example",
    resources=("https://tools.example/mcp", "https://door.example:8443/mcp"),
    secret_keys="0123456789abcdef0123456789abcdef",  # type: ignore[arg-type]  # as the environment has them
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1:8000", 200),
        (b"[::1]:8000", 200),
        (b"localhost", 200),
        (b"LOCALHOST:8000", 200),
        (b"inspector.localhost:80", 200),
        (b"10.1.2.3", 200),  # a reverse proxy in another container
        (b"seed_oauth", 200),  # nginx: the name of an upstream
        (b"door.example", 200),
        (b"Door.Example:443", 200),
        (b"tools.example", 200),
        (b"evil.example", 421),
        (b"evil.example:8000", 421),
        (b"door.example.evil.example", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"localhost.evil.example", 421),
        (b"evil.example:x", 421),
        (b"ev\xefl.example", 421),
    ],
)
async def test_it_answers_to_its_own_names_and_to_those_that_nobody_can_rebind(host: bytes, status: int) -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1 once its page is loaded."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host)], "server": ("127.0.0.1", 80)}
    await KnownHosts(app, public_hosts(SETTINGS))(scope, receive, send)
    assert sent[0]["status"] == status


async def test_a_listener_on_loopback_is_not_reached_by_a_rebound_name() -> None:
    async with served(app) as listener:
        for host, status in ((b"127.0.0.1", 200), (b"evil.example", 421)):
            client = await connect(listener)
            await client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            assert (await client.answer()).status == status
            client.leave()


async def test_neither_are_the_metrics() -> None:
    with listen("127.0.0.1", 0, "METRICS_PORT") as listening:
        listener = metrics_listener(Settings(), Pipeline(), listening)
        serving = asyncio.create_task(listener.run_until_stopped())
        async with httpx.AsyncClient(base_url=listener.url, trust_env=False) as http:
            assert (await http.get("/metrics", headers={"Host": "evil.example"})).status_code == 421
            assert (await http.get("/metrics")).status_code == 200
        listener.should_exit = True
        await serving


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])  # noqa: S104 - what is tested
async def test_a_tunnel_that_connects_on_loopback_is_not_reached_by_one_either(bound: str) -> None:
    """As `kubectl port-forward` does, in front of a listener of the pod's network."""
    with listen(bound, 0, "METRICS_PORT") as listening:
        listener = Listener(app, listening, drain=0)
        serving = asyncio.create_task(listener.run_until_stopped())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/", headers={"Host": "evil.example"})).status_code == 421
            assert (await http.get("/")).status_code == 200
        listener.should_exit = True
        await serving


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"])
async def test_a_connection_elsewhere_leaves_that_to_its_reverse_proxy(address: str) -> None:
    served = KnownHosts(app, ())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_at(address, served)), base_url="http://door") as http:
        assert (await http.get("/", headers={"Host": "another.example"})).status_code == 200


def _at(address: str, served: ASGIApp) -> ASGIApp:
    async def at(scope: Scope, receive: Receive, send: Send) -> None:
        await served({**scope, "server": (address, 80)}, receive, send)

    return at
