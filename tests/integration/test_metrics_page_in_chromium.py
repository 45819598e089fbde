"""The page of the metrics listener as an operator sees it: in a real Chromium, with the traffic of the demo behind it.

`UPDATE_DOCS=1` writes the pictures in the documentation anew, from two minutes of traffic.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from seed_oauth.cli.demo.environment import Environment, open_environment
from seed_oauth.cli.demo.traffic import Traffic, play, play_on
from seed_oauth.telemetry.contract import FLOW_STEPS
from seed_oauth.telemetry.steps import Step
from tests.harness import samples_of
from tests.integration.chromium import DESKTOP, PHONE, opened
from tests.integration.test_pages_in_chromium import CONTRASTS, size_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("chromium")]

PICTURES: dict[str, dict[str, Any]] = {
    "metrics-page.png": {"viewport": {"width": 1120, "height": 870}},
    "metrics-page-dark.png": {"viewport": {"width": 1120, "height": 560}, "color_scheme": "dark"},
    "metrics-page-phone.png": {"viewport": {"width": 390, "height": 844}},
}
EXCHANGED = ("step", Step.EXCHANGED.value)
DOCS = Path(__file__).parents[2] / "docs"


@asynccontextmanager
async def demo(logins: int = 12) -> AsyncIterator[tuple[Environment, Traffic]]:
    """The demo after some logins, and every failure."""
    async with open_environment(0, 0) as environment, Traffic(environment) as traffic:
        await play(traffic.scenarios(logins))
        yield environment, traffic


async def completed(environment: Environment) -> int:
    """How many clients got tokens for a code, according to the metrics."""
    async with httpx.AsyncClient(trust_env=False) as http:
        samples = samples_of((await http.get(environment.metrics)).text)
    return int(
        sum(value for (name, labels), value in samples.items() if name == FLOW_STEPS.name and EXCHANGED in labels)
    )


async def shows(page: Page, tokens: int) -> None:
    """Wait until the page has heard of this many logins."""
    await expect(page.locator("#tiles dd").first).to_have_text(str(tokens), timeout=30_000)


async def remembers(environment: Environment, points: int) -> None:
    """Wait until the charts have this many points, which come every five seconds."""
    async with httpx.AsyncClient(base_url=environment.page, trust_env=False) as http:
        while len((await http.get("figures")).json()["fine"]) < points:
            await anyio.sleep(1)


async def test_it_shows_what_the_clients_of_the_demo_saw_and_asks_nobody_else(chromium: Browser) -> None:
    async with demo() as (environment, _), opened(chromium, "about:blank") as tab:
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(environment.page)
        await shows(tab.page, await completed(environment))
        assert "because of the identity provider" in await tab.page.locator("#sentence").inner_text()
        steps = await tab.page.locator("#funnel tbody th").all_inner_texts()
        assert set(steps) == {step.replace("_", " ") for step in Step}
        assert await tab.page.locator("#errors li").count() == 10
        assert await tab.page.locator("#failed tbody tr").count() > 10
        assert await tab.page.locator("#charts .uplot").count() == 4
        assert tab.complaints == []
        assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" for url in asked} == {environment.page}


async def test_it_keeps_up_without_being_reloaded(chromium: Browser) -> None:
    async with demo(4) as (environment, traffic), opened(chromium, environment.page) as tab:
        await shows(tab.page, await completed(environment))
        before = await completed(environment)
        await traffic.login(1)
        assert await completed(environment) > before
        await shows(tab.page, await completed(environment))
        assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_in_light_and_in_the_dark_on_a_desk_and_on_a_phone(scheme: str, chromium: Browser) -> None:
    """WCAG 2.2 AA: 4.5:1 for text (§1.4.3), 320 pixels wide (§1.4.10)."""
    async with demo(4) as (environment, _), opened(chromium, environment.page, color_scheme=scheme) as tab:
        await shows(tab.page, await completed(environment))
        for viewport in (DESKTOP, PHONE):
            await tab.page.set_viewport_size(viewport)
            assert await tab.width() == viewport["width"]
        contrasts = await tab.page.evaluate(CONTRASTS)
        assert len(contrasts["texts"]) >= 100
        assert min(contrasts["texts"]) >= 4.5


async def test_a_period_is_chosen_by_keyboard_alone(chromium: Browser) -> None:
    async with demo(4) as (environment, _), opened(chromium, environment.page) as tab:
        await shows(tab.page, await completed(environment))
        await tab.page.keyboard.press("Tab")
        assert await tab.page.evaluate("document.activeElement.className") == "skip"
        await tab.page.keyboard.press("Tab")
        assert await tab.focused() == "0"
        await tab.page.keyboard.press("ArrowRight")
        assert await tab.focused() == "1"
        assert await tab.page.locator("input:checked").get_attribute("value") == "1"
        # In the first minutes every period has the same.
        await shows(tab.page, await completed(environment))
        assert tab.complaints == []


async def test_a_screen_reader_is_told_what_is_seen(chromium: Browser) -> None:
    async with demo(4) as (environment, _), opened(chromium, environment.page) as tab:
        await shows(tab.page, await completed(environment))
        main = tab.page.get_by_role("main")
        for name in ("Is all well?", "Who suffers?", "Where in the login?", "Why, and what to do?", "Since when?"):
            assert await main.get_by_role("region", name=name, exact=True).count() == 1
        assert await main.get_by_role("status").inner_text() != "Loading"
        charts = await main.get_by_role("img").evaluate_all("charts => charts.map(chart => chart.ariaLabel)")
        assert [chart.split(", latest: ")[0] for chart in charts][:1] == ["Logins per minute"]
        assert await main.get_by_role("rowheader", name="exchanged", exact=True).count() == 1
        assert await tab.page.get_by_role("radio", name="10 min", exact=True).count() == 1


async def test_what_the_figures_mean_is_said_in_words(chromium: Browser) -> None:
    async with demo(1) as (environment, _), opened(chromium, "about:blank") as tab:
        async with httpx.AsyncClient(base_url=environment.page, trust_env=False) as http:
            figures = (await http.get("figures")).json()
        period = figures["periods"][0]
        period["idp"] = [{"operation": "token", "outcome": it, "count": 1} for it in ("ok", "http_4xx", "timeout")]
        for step in period["steps"]:
            step["count"] = 1
        period["exchange"], period["loss"] = [0.1, 5, 5], None
        figures["fine"] = [[0, *[5] * (len(figures["names"]) - 1)]]
        await tab.page.route("**/events", lambda route: route.abort())
        await tab.page.route("**/figures", lambda route: route.fulfill(json=figures))
        await tab.page.goto(environment.page)
        await expect(tab.page.locator("#loss")).to_have_text("None were lost on the way.")
        tiles = await tab.page.locator("#tiles div").all_inner_texts()
        assert "≥ 5 s" in tiles[2]
        assert "P99 ≥ 5 s" in tiles[2]
        assert "66.6 %" in tiles[4]
        legend = await tab.page.locator("figure").nth(2).locator(".u-value").all_inner_texts()
        assert legend[1:] == ["≥ 5 s"] * 3
        for step in period["steps"]:
            step["count"] = 0
        await tab.page.reload()
        await expect(tab.page.locator("#loss")).to_have_text("No logins.")


async def test_a_connection_that_hangs_is_reported(chromium: Browser) -> None:
    async with demo(1) as (environment, _), opened(chromium, "about:blank") as tab:
        await tab.page.route("**/events", lambda route: route.abort())
        await tab.page.route("**/figures", lambda _: None)
        await tab.page.goto(environment.page)
        told = "No connection to the metrics listener. Trying again."
        await expect(tab.page.locator("#updated")).to_have_text(told, timeout=30_000)


async def test_nothing_moves(chromium: Browser) -> None:
    async with demo(4) as (environment, _), opened(chromium, environment.page) as tab:
        await shows(tab.page, await completed(environment))
        assert await tab.page.evaluate(
            "[...document.querySelectorAll('*')].map(getComputedStyle)"
            ".every(style => style.transitionDuration === '0s' && style.animationName === 'none')"
        )


async def test_the_pictures_in_the_documentation_are_of_this_page(chromium: Browser, tmp_path: Path) -> None:
    async with open_environment(0, 0) as environment, Traffic(environment) as traffic:
        environment.identity_provider.faults.latency = 0.15
        updating = bool(os.environ.get("UPDATE_DOCS"))
        async with anyio.create_task_group() as group:
            group.start_soon(play_on, traffic, 5)
            await remembers(environment, 24 if updating else 2)
            for name, options in PICTURES.items():
                async with opened(chromium, environment.page, **options) as tab:
                    await tab.page.locator(".uplot canvas").first.wait_for()
                    if "dark" in name:
                        await tab.page.evaluate("document.getElementById('when').parentElement.scrollIntoView()")
                    # The address of this run is not the reader's.
                    await tab.page.evaluate(
                        """() => {
                            const instance = document.getElementById("instance");
                            instance.textContent = "https://mcp.example.com";
                            Object.defineProperty(instance, "textContent", { set() {} });  // news come at any time
                        }"""
                    )
                    await tab.page.screenshot(path=tmp_path / name)
                    assert tab.complaints == []
            group.cancel_scope.cancel()
    for name in PICTURES:
        if updating:
            (DOCS / name).write_bytes((tmp_path / name).read_bytes())
        assert size_of(DOCS / name) == size_of(tmp_path / name)
        assert (DOCS / name).stat().st_size < 160_000


def test_every_picture_is_on_the_page_about_it() -> None:
    text = (DOCS / "how-to/metrics-page.md").read_text(encoding="utf-8")
    assert [name for name in PICTURES if f"../{name}" not in text] == []
