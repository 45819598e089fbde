"""Fixtures of every test."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import settings

from tests.harness import FrontDoor, RelayDoor
from tests.left_out import CI, LeftOut
from tests.redis_servers import RedisServer, redis_server

# How long an example takes says nothing: the machine may be busy. More of them are tried in CI, where there is time.
settings.register_profile("default here", deadline=None, max_examples=100 if CI else 25)
settings.load_profile("default here")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftOut())


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_variable_is_left_behind() -> Iterator[None]:
    """Options such as `--env-file` change the variables of the process, which here runs other tests, too."""
    before = os.environ.copy()
    yield
    os.environ.clear()
    os.environ.update(before)


# Before `monkeypatch`, which would otherwise put back last what the test had changed by itself.
@pytest.fixture(autouse=True)
def _no_settings_from_outside(_no_variable_is_left_behind: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SEED_OAUTH_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_store_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
async def door() -> AsyncIterator[FrontDoor]:
    """A front door whose identity provider issues tokens."""
    async with FrontDoor() as front_door:
        yield front_door


@pytest.fixture
async def relay_door() -> AsyncIterator[RelayDoor]:
    """The same in the relay flow."""
    async with RelayDoor() as front_door:
        yield front_door


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(_redis: RedisServer) -> RedisServer:
    """One Redis for all tests that leave it running, without what others have left there."""
    _redis.ask("FLUSHALL")
    return _redis
