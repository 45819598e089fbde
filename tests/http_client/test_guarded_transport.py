"""THREATS 9: what a stranger's URL can make this server connect to. Real sockets, real TLS, names of our own."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seed_oauth.clients.metadata_document import is_well_formed
from seed_oauth.http_client.guarded_transport import ForbiddenAddressError, GuardedTransport, is_public
from tests import certificates
from tests.http_client.test_transport import Handler, answering, response

pytestmark = pytest.mark.anyio

DOCUMENT = response(b"{}", headers=b"Content-Type: application/json\r\n")


@asynccontextmanager
async def publishing(handler: Handler, *hosts: str, days: int = 1, tls: bool = True) -> AsyncIterator[int]:
    """A server on 127.0.0.1 with a certificate for `hosts`; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()

    context = certificates.serving(*(hosts or ("app.example", "127.0.0.1")), days=days) if tls else None
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def names(**known: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver that knows these names, `_` for a dot; each list of addresses is for one question after another."""
    asked: dict[str, int] = {}

    async def resolve(host: str, _: int) -> Sequence[str]:
        answers = known.get(host.replace(".", "_"))
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        asked[host] = asked.get(host, -1) + 1
        return answers[min(asked[host], len(answers) - 1)].split()

    return resolve


async def get(url: str, **options: Any) -> tuple[int, bytes]:
    transport = GuardedTransport(ssl_context=certificates.trusting(), **options)
    try:
        answer = await transport.handle_async_request(httpx.Request("GET", url))
        try:
            return answer.status_code, await answer.aread()
        finally:
            await answer.aclose()
    finally:
        await transport.aclose()


LOOPBACK = names(app_example=["127.0.0.1"])

NOT_PUBLIC = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # noqa: S104 - what is refused
    "169.254.169.254",  # AWS, Azure, Google, Oracle
    "100.100.100.200",  # Alibaba
    "168.63.129.16",  # Azure
    "192.0.0.192",  # Oracle
    "fd00:ec2::254",  # AWS
    "fd20:ce::254",  # Google
    "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fdff::1", "ff02::1", "ff0e::1",
    "2001:db8::1", "3fff::1", "5f00::1", "100::1", "2001::1", "2001:10::1", "2001:20::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808",
    "2620:0:1c::5efe:7f00:1", "2620:0:1c::200:5efe:a00:1", "2620:0:1c::5efe:a9fe:a9fe",  # ISATAP
    "2620:0:1c::5efe:808:808", "2001:0:808:808::1",  # and Teredo, whatever is in it
    "2620:0:1c:6464::a9fe:a9fe", "2620:0:1c:6464::7f00:1", "2620:0:1c:6464::a00:1",  # NAT64 of a network's own
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_with_a_special_use_is_not_public(address: str) -> None:
    """RFC 6890, and what wraps an IPv4 address into an IPv6 one."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2606:4700::6810:84e5",
        "2607:f8b0:4005:80a::200e",
        "2a00:1450:4001:829:7f00:1:a00:1",
    ],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_what_wraps_an_ipv4_address_is_public_only_if_that_is(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))
    assert not is_public(f"::{address}")
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))))


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_link_local or address.is_loopback or address.is_multicast:
        assert not is_public(str(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_of_such_an_address_is_not_connected_to(address: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await get("https://app.example/client.json", resolve=names(app_example=[address]))


async def test_one_such_address_among_others_is_enough() -> None:
    resolve = names(app_example=["8.8.8.8 10.0.0.1"])
    with pytest.raises(ForbiddenAddressError):
        await get("https://app.example/client.json", resolve=resolve)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[fd00:ec2::254]", "[fe80::1]",
     "2130706433", "127.1", "0", "017700000001", "0177.0.0.1", "127.0.0.01"],
)  # fmt: skip
async def test_an_address_in_the_url_is_checked_in_every_spelling(host: str) -> None:
    with pytest.raises((ForbiddenAddressError, httpx.InvalidURL)):
        await get(f"https://{host}/client.json")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "0x7f000001", "0x7f.1"])
async def test_names_that_the_system_resolves_to_this_machine_are_refused(host: str) -> None:
    """The real resolver, and a server that does listen there. What only looks like an address is a name, of nobody."""
    forbidden = ForbiddenAddressError if host.lower() == "localhost" else httpx.TransportError
    async with publishing(answering(DOCUMENT)) as port:
        with pytest.raises(forbidden):
            await get(f"https://{host}/client.json")
        with pytest.raises(forbidden):
            await get(f"https://{host}:{port}/client.json")


async def test_dns_rebinding_between_check_and_connect_gains_nothing() -> None:
    """A name whose first answer is good and whose second is not: there is no second question."""
    hits = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(DOCUMENT)

    async with publishing(handler) as port:
        # 127.0.0.1 is the good one here, so that it can be seen which one is dialled.
        resolve = names(app_example=["127.0.0.1", "169.254.169.254"])
        url = f"https://app.example:{port}/client.json"
        assert await get(url, resolve=resolve, allow_loopback=True) == (200, b"{}")
        with pytest.raises(ForbiddenAddressError):
            await get(url, resolve=resolve, allow_loopback=True)
    assert len(hits) == 1


async def test_each_request_resolves_the_name_anew_and_keeps_no_connection() -> None:
    transport = GuardedTransport(
        ssl_context=certificates.trusting(),
        resolve=names(app_example=["127.0.0.1", "10.0.0.1"]),
        allow_loopback=True,
    )
    async with publishing(answering(DOCUMENT)) as port:
        url = f"https://app.example:{port}/client.json"
        answer = await transport.handle_async_request(httpx.Request("GET", url))
        await answer.aread()
        await answer.aclose()
        with pytest.raises(ForbiddenAddressError):
            await transport.handle_async_request(httpx.Request("GET", url))
    await transport.aclose()


@pytest.mark.parametrize("url", ["http://app.example/", "http://8.8.8.8/", "ftp://app.example/", "file:///etc/passwd"])
async def test_only_https_is_spoken(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await get(url, resolve=LOOPBACK, allow_loopback=True)


@pytest.mark.parametrize("port", [0, 80, 22, 8443, 6379, 65535, 65536])
async def test_no_other_port_of_a_public_address_is_connected_to(port: int) -> None:
    for allow_loopback in (False, True):
        with pytest.raises(ForbiddenAddressError):
            await get(
                f"https://app.example:{port}/", resolve=names(app_example=["8.8.8.8"]), allow_loopback=allow_loopback
            )


async def test_for_development_this_machine_may_be_asked_on_any_port_and_no_other_may() -> None:
    async with publishing(answering(DOCUMENT)) as port:
        url = f"https://app.example:{port}/client.json"
        assert await get(url, resolve=LOOPBACK, allow_loopback=True) == (200, b"{}")
        assert await get(f"https://127.0.0.1:{port}/client.json", allow_loopback=True) == (200, b"{}")
        with pytest.raises(ForbiddenAddressError):
            await get(url, resolve=LOOPBACK)
    with pytest.raises(ForbiddenAddressError):
        await get("https://app.example/", resolve=names(app_example=["10.0.0.1"]), allow_loopback=True)


async def test_a_redirect_is_not_followed() -> None:
    moved = response(b"", b"302 Found", b"Location: https://169.254.169.254/latest/meta-data/\r\n")
    async with publishing(answering(moved)) as port:
        url = f"https://app.example:{port}/client.json"
        assert await get(url, resolve=LOOPBACK, allow_loopback=True) == (302, b"")


@pytest.mark.parametrize(
    "handler",
    [
        answering(then_hang=True),
        answering(b"HTTP/1.1 200 OK\r\n", then_hang=True),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", then_hang=True),
    ],
    ids=["silence", "headers", "body"],
)
async def test_an_answer_that_does_not_come_is_given_up(handler: Handler) -> None:
    async with publishing(handler) as port:
        with pytest.raises(httpx.TimeoutException):
            await get(f"https://app.example:{port}/", resolve=LOOPBACK, allow_loopback=True, timeout=0.3)


async def test_a_body_that_drips_is_given_up_in_all() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with publishing(drip) as port:
        with pytest.raises(httpx.TimeoutException):
            await get(f"https://app.example:{port}/", resolve=LOOPBACK, allow_loopback=True, timeout=0.3)


async def test_a_name_that_takes_for_ever_is_given_up() -> None:
    async def never(_: str, __: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(httpx.TimeoutException):
        await get("https://app.example/", resolve=never, timeout=0.1)


async def test_a_name_that_is_none_is_trouble_that_may_pass() -> None:
    with pytest.raises(httpx.ConnectError) as trouble:
        await get("https://nowhere.example/", resolve=names())
    assert not isinstance(trouble.value, ForbiddenAddressError)
    with pytest.raises(httpx.ConnectError):
        await get("https://nowhere.invalid/")  # the real resolver
    with pytest.raises(httpx.ConnectError):
        await get("https://empty.example/", resolve=names(empty_example=[""]))


@pytest.mark.parametrize("options", [{"hosts": ("evil.example",)}, {"days": -1}], ids=["another name", "expired"])
async def test_the_certificate_must_be_the_names_own(options: dict[str, Any]) -> None:
    hosts = options.pop("hosts", ())
    async with publishing(answering(DOCUMENT), *hosts, **options) as port:
        with pytest.raises(httpx.ConnectError):
            await get(f"https://app.example:{port}/", resolve=LOOPBACK, allow_loopback=True)


async def test_a_certificate_of_nobody_who_is_trusted_is_refused() -> None:
    transport = GuardedTransport(resolve=LOOPBACK, allow_loopback=True)
    async with publishing(answering(DOCUMENT)) as port:
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", f"https://app.example:{port}/"))
    await transport.aclose()


async def test_the_environments_proxy_and_credentials_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A proxy would do the resolving, and so undo the check."""
    (tmp_path / ".netrc").write_text("machine app.example login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(DOCUMENT)

    async with publishing(handler) as port:
        url = f"https://app.example:{port}/client.json"
        assert await get(url, resolve=LOOPBACK, allow_loopback=True) == (200, b"{}")
    (request,) = seen
    assert request.startswith(b"GET /client.json HTTP/1.1\r\n")
    assert b"authorization" not in request.lower()


async def test_a_path_reaches_the_server_as_it_is_written() -> None:
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n")).split()[1])
        writer.write(DOCUMENT)

    path = "/%7Eme/a%2fb;c=d,e/(x)!*'$&+@:"
    async with publishing(handler) as port:
        await get(f"https://app.example:{port}{path}", resolve=LOOPBACK, allow_loopback=True)
    assert seen == [path.encode()]


@settings(deadline=None)
@given(st.from_regex(r"https://[a-z0-9.\-\[\]:]{1,12}(:[0-9]{1,5})?/", fullmatch=True).filter(is_well_formed))
async def test_whatever_host_is_named_it_is_refused_or_not_reached(url: str) -> None:
    """Nothing but the errors that whoever fetches knows of."""
    for allow_loopback in (False, True):
        with pytest.raises((httpx.TransportError, httpx.InvalidURL)):
            await get(url, resolve=names(), allow_loopback=allow_loopback)
