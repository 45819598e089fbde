"""Double-click jacking: the second click of a double-click that began on another page allows nothing.

A real Chromium. No test depends on how fast the machine is: animations stand still where Allow is not to be armed, and
where it is, Playwright waits for it.
"""

from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession

from tests.integration.chromium import ALLOW, DENY, Site, Tab, opened

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("chromium")]

POINTERS: dict[str, dict[str, Any]] = {
    "mouse": {},
    "finger": {"has_touch": True, "is_mobile": True},
    "less movement": {"reduced_motion": "reduce"},
    "no script": {"java_script_enabled": False},
}


async def animations_of(tab: Tab) -> CDPSession:
    """The browser's animations, standing still."""
    session = await tab.page.context.new_cdp_session(tab.page)
    await session.send("Animation.enable")
    await session.send("Animation.setPlaybackRate", {"playbackRate": 0})
    return session


async def middle_of(tab: Tab, selector: str) -> tuple[float, float]:
    box = await tab.box(selector)
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("pointer", POINTERS)
async def test_a_click_on_allow_does_nothing_until_the_page_has_been_under_the_pointer_for_a_while(
    pointer: str, chromium: Browser, site: Site
) -> None:
    """THREATS 27."""
    options = POINTERS[pointer]
    async with opened(chromium, "about:blank", **options) as tab:
        animations = await animations_of(tab)
        await tab.page.goto(f"{site.url}/consent")
        await tab.page.mouse.dblclick(*await middle_of(tab, ALLOW))
        await tab.page.mouse.click(*await middle_of(tab, ALLOW))
        assert tab.page.url == f"{site.url}/consent"
        assert site.posted == []
        await animations.send("Animation.setPlaybackRate", {"playbackRate": 1})
        await tab.allow()
        await tab.page.wait_for_url(f"{site.program}/**")
    assert [form["decision"] for form in site.posted] == ["approve"]


async def test_a_page_that_has_been_open_for_long_is_no_easier_to_click(chromium: Browser, site: Site) -> None:
    """THREATS 27: behind the page in front of it, from which the double-click came."""
    async with opened(chromium, f"{site.url}/consent") as tab:
        assert await tab.page.evaluate("document.getAnimations().length") == 0
        await animations_of(tab)
        await tab.page.mouse.click(*await middle_of(tab, ALLOW))
        assert site.posted == []


async def test_it_takes_seven_tenths_of_a_second(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.page.mouse.move(5, 5)
        timing = "document.getAnimations().map(one => [one.animationName, one.effect.getTiming().delay])"
        assert await tab.page.evaluate(timing) == [["arm", 700]]


@pytest.mark.parametrize(("key", "decision"), [("Enter", "approve"), ("Space", "approve"), ("Enter", "deny")])
async def test_the_keyboard_needs_no_pointer(key: str, decision: str, chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        await animations_of(tab)
        await tab.tab_to(decision)
        await tab.page.keyboard.press(key)
        await tab.page.wait_for_url(f"{site.program}/**")
    assert [form["decision"] for form in site.posted] == [decision]


async def test_deny_can_be_clicked_at_once(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        await animations_of(tab)
        await tab.page.mouse.click(*await middle_of(tab, DENY))
        await tab.page.wait_for_url(f"{site.program}/**")
    assert [form["decision"] for form in site.posted] == ["deny"]
