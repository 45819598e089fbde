"""THREATS 26: names whose name servers never answer, against a real one that drops what it is asked."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from seed_oauth.http_client.dns import DnsResolver
from seed_oauth.http_client.guarded_transport import GuardedTransport
from tests.name_servers import NameServer, name_server

pytestmark = pytest.mark.anyio

DEADLINE = 0.3


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server(app_example="203.0.113.7") as server:
        yield server


@pytest.fixture
async def resolve(server: NameServer) -> AsyncIterator[DnsResolver]:
    resolver = DnsResolver(DEADLINE, **server.options)
    yield resolver
    await resolver.aclose()


async def test_a_name_has_the_addresses_that_its_name_server_tells(resolve: DnsResolver) -> None:
    assert await resolve("app.example", 443) == ["203.0.113.7"]


async def test_a_name_whose_name_server_drops_the_question_is_given_up(
    server: NameServer, resolve: DnsResolver
) -> None:
    with pytest.raises(TimeoutError):
        await resolve("dropped.example", 443)
    assert "dropped.example" in server.dropped


async def test_names_that_are_never_answered_keep_no_other_name_waiting(
    server: NameServer, resolve: DnsResolver
) -> None:
    """A thread for each of them would have been blocked: eight were enough."""
    lost = [asyncio.create_task(_trouble(resolve, f"lost{number}.example")) for number in range(50)]
    while not server.dropped:
        await asyncio.sleep(0)
    assert await resolve("app.example", 443) == ["203.0.113.7"]
    assert not any(task.done() for task in lost)
    assert {type(trouble) for trouble in await asyncio.gather(*lost)} == {TimeoutError}


async def test_a_document_at_such_a_name_cannot_be_had_now(resolve: DnsResolver) -> None:
    transport = GuardedTransport(resolve=resolve)
    with pytest.raises(httpx.TimeoutException):
        await transport.handle_async_request(httpx.Request("GET", "https://dropped.example/client.json"))
    await transport.aclose()


async def test_a_resolver_that_was_closed_can_be_used_again(resolve: DnsResolver) -> None:
    await resolve("app.example", 443)
    await resolve.aclose()
    assert await resolve("app.example", 443) == ["203.0.113.7"]


async def _trouble(resolve: DnsResolver, name: str) -> Exception | None:
    try:
        await resolve(name, 443)
    except Exception as trouble:  # noqa: BLE001 - whichever it is
        return trouble
    return None
