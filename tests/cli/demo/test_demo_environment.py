"""The environment of the demo and its users, over real HTTP."""

from collections.abc import AsyncIterator

import httpx
import pytest

from seed_oauth.cli.demo.browser import Browser, has_form, next_url
from seed_oauth.cli.demo.environment import Environment, open_environment
from seed_oauth.cli.demo.traffic import APPLICATIONS, Traffic, play
from seed_oauth.outcomes import ClientFamily
from seed_oauth.telemetry.steps import Step
from tests.harness import Samples, samples_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def environment() -> AsyncIterator[Environment]:
    async with open_environment(0, 0) as environment:
        yield environment


async def scrape(environment: Environment) -> Samples:
    async with httpx.AsyncClient(trust_env=False) as http:
        return samples_of((await http.get(environment.metrics)).text)


async def consent_page(browser: Browser, environment: Environment) -> httpx.Response:
    """The page that a visitor sees first."""
    page = await browser.open(next_url(await browser.open(environment.visit)) or "")
    assert has_form(page)
    assert "Demo in your browser" in page.text
    return page


async def followed(browser: Browser, response: httpx.Response) -> httpx.Response:
    """The response after all redirects."""
    while (url := next_url(response)) is not None:
        response = await browser.open(url)
    return response


async def test_a_visitor_consents_and_gets_a_token_for_the_mcp_server(environment: Environment) -> None:
    async with Browser() as browser:
        page = await consent_page(browser, environment)
        seen = await followed(browser, await browser.send(page, decision="approve"))
    assert "You are logged in" in seen.text
    assert f"{environment.front_door}/mcp" in seen.text


async def test_a_visitor_who_denies_gets_no_token(environment: Environment) -> None:
    async with Browser() as browser:
        page = await consent_page(browser, environment)
        seen = await followed(browser, await browser.send(page, decision="deny"))
    assert "You denied access" in seen.text
    assert f"{environment.visit}/callback?error=access_denied" in seen.text


async def test_an_unsolicited_callback_gives_no_access(environment: Environment) -> None:
    async with Browser() as browser:
        seen = await browser.open(f"{environment.visit}/callback?code=stolen&state=made-up")
    assert "Login failed" in seen.text


async def test_every_client_family_completes_every_step(environment: Environment) -> None:
    async with Traffic(environment) as traffic:
        await play(traffic.scenarios(len(APPLICATIONS)))
    samples = await scrape(environment)
    for family in ClientFamily:
        # No client of the demo is abandoned, and none calls a tool that needs more scopes.
        for step in set(Step) - {Step.ABANDONED, Step.STEPPED_UP}:
            labels = frozenset({("step", step.value), ("client_family", family.value)})
            assert samples["oauth_flow_steps_total", labels] > 0, (family, step)
