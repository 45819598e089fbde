"""Fixtures of the tests against real programs."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser

from tests.integration.chromium import Site, running_chromium, site_with_consent
from tests.integration.real_parts import PROMETHEUS_PACKAGE, real_part


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside_in_shared_fixtures() -> Iterator[None]:
    # The fixture of all tests does this for each test, which is too late for what several of them share.
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith(("SEED_OAUTH_", "OTEL_")):
                environment.delenv(name)
        yield


@pytest.fixture(scope="session")
def promtool() -> str:
    return real_part("promtool", install=PROMETHEUS_PACKAGE)


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with running_chromium() as browser:
        yield browser


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with site_with_consent() as site:
        yield site
