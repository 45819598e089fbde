"""Fixtures of every test."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.harness import FrontDoor


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SEED_OAUTH_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
async def door() -> AsyncIterator[FrontDoor]:
    """A front door whose identity provider issues tokens."""
    async with FrontDoor() as front_door:
        yield front_door
