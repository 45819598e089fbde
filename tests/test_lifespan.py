"""The start and the end of the app: everything that was opened is closed, whatever goes wrong with a part of it."""

from collections.abc import Coroutine

import httpx
import pytest
from starlette.applications import Starlette

from seed_oauth import Settings, create_app
from seed_oauth.identity_provider.metadata import ProviderMetadata
from tests.harness import SETTINGS, BrokenStore

pytestmark = pytest.mark.anyio


class Transport(httpx.AsyncBaseTransport):
    """Notes when it is closed."""

    def __init__(self, closed: list[str], name: str) -> None:
        self._closed = closed
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(404)

    async def aclose(self) -> None:
        self._closed.append(self._name)


class Unclosable(BrokenStore):
    """A store of clients that fails to close."""

    async def aclose(self) -> None:
        raise ConnectionError("the store is gone")


class UnclosableTransport(Transport):
    """Fails to close."""

    async def aclose(self) -> None:
        await super().aclose()
        raise ConnectionError("the connection is gone")


class Metadata:
    """Metadata that is never asked for."""

    async def get(self) -> ProviderMetadata:
        raise AssertionError


def app(idp: Transport, documents: Transport) -> Starlette:
    settings = Settings(**{**SETTINGS, "idp_issuer": "https://idp.example", "mcp_server": "http://127.0.0.1:1"})
    return create_app(settings, clients=Unclosable(), metadata=Metadata(), transport=idp, client_documents=documents)


async def test_a_part_that_fails_to_close_does_not_keep_the_others_from_closing() -> None:
    closed: list[str] = []
    door = app(UnclosableTransport(closed, "idp"), Transport(closed, "documents"))
    with pytest.raises(ConnectionError):
        async with door.router.lifespan_context(door):
            assert not closed
    assert closed == ["idp", "documents"]


async def test_an_app_that_fails_while_it_runs_is_closed_and_the_failure_goes_on() -> None:
    closed: list[str] = []
    settings = Settings(**SETTINGS)
    idp, documents = Transport(closed, "idp"), Transport(closed, "documents")
    door = create_app(settings, metadata=Metadata(), transport=idp, client_documents=documents)
    with pytest.raises(RuntimeError, match="while it runs"):
        async with door.router.lifespan_context(door):
            raise RuntimeError("while it runs")
    assert closed == ["idp", "documents"]


async def test_what_was_opened_is_closed_if_the_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(work: Coroutine[object, object, object]) -> None:
        work.close()
        raise OSError("no more tasks")

    closed: list[str] = []
    settings = Settings(**{**SETTINGS, "idp_issuer": "https://idp.example"})
    door = create_app(settings, transport=Transport(closed, "idp"), client_documents=Transport(closed, "documents"))
    monkeypatch.setattr("asyncio.create_task", fails)
    with pytest.raises(OSError, match="no more tasks"):
        async with door.router.lifespan_context(door):
            pytest.fail("it has not started")
    assert closed == ["idp", "documents"]
