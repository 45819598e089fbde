"""Fixtures of the tests against real programs."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.integration import keycloak as keycloak_server
from tests.integration.chromium import Site, running_chromium, site_with_consent
from tests.integration.identity_providers import Registration
from tests.integration.keycloak import Keycloak
from tests.integration.oidc_provider import oidc_provider
from tests.real_parts import path_of

Register = Callable[..., AbstractAsyncContextManager[Registration]]
"""Registers a front door at an identity provider: `redirect_uris`, and the `resource` its access tokens are for."""


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
    return path_of("promtool")


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with running_chromium() as browser:
        yield browser


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with site_with_consent() as site:
        yield site


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """One Keycloak for the whole session: it takes half a minute to start."""
    with keycloak_server.keycloak(tmp_path_factory.mktemp("keycloak")) as server:
        yield server


@pytest.fixture(
    params=[
        pytest.param("keycloak", marks=pytest.mark.real_parts("keycloak")),
        pytest.param("oidc-provider", marks=pytest.mark.real_parts("node")),
    ]
)
def register(request: pytest.FixtureRequest, tmp_path: Path) -> Register:
    """Registers a front door at each real identity provider in turn."""
    if request.param == "oidc-provider":

        def at_oidc_provider(
            *, redirect_uris: Sequence[str], resource: str
        ) -> AbstractAsyncContextManager[Registration]:
            return oidc_provider(tmp_path, redirect_uris=redirect_uris, resource=resource)

        return at_oidc_provider
    server: Keycloak = request.getfixturevalue("keycloak")

    @asynccontextmanager
    async def at_keycloak(**options: Any) -> AsyncIterator[Registration]:
        yield await server.register(**options)

    return at_keycloak
