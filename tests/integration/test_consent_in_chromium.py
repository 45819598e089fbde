"""Consent as a person gives it: in a real Chromium, by keyboard, and under attack (PROTOCOL A11; THREATS 4, 10)."""

from dataclasses import replace

import pytest
from playwright.async_api import Browser
from starlette.responses import HTMLResponse

from seed_oauth.http.pages import consent_page, onward_page
from tests.integration.chromium import ALLOW, DENY, DESKTOP, PHONE, VIEW, Site, opened

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("chromium")]

PILED_UP = "\u0301\u0303\u0308\u030c\u0330\u0331" * 13
AFTER_THE_NAME = """() => {
  const range = new Range();
  range.selectNode(document.querySelector("h1").lastChild);
  return range.getBoundingClientRect().toJSON();
}"""
ATTACKS = {
    "script": "<script>window.ran = 1</script>",
    "handler": "\"'><img src=x onerror='window.ran = 1'><svg onload='window.ran = 1'>",
    "style": "</dd></dl><style>button{display:none}</style>",
    "long": "W" * 10_000,
    "right to left": "\u202e\u2067elpmaxe\u05d0\u0627",
    "piled-up marks": f"Z{PILED_UP}",
    "wide": "\ufdfd" * 80,
}


async def test_tab_goes_through_the_form_in_reading_order_and_shows_where_it_is(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        order: list[str | None] = []
        while len(order) < 4:
            await tab.page.keyboard.press("Tab")
            order.append(await tab.focused())
            if order[-1] is not None:
                outline = await tab.page.evaluate(
                    "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
                    "(getComputedStyle(document.activeElement))"
                )
                assert outline == ["solid", "3px"]
        assert order == ["on", "deny", "approve", None]
        assert tab.complaints == []


@pytest.mark.parametrize("key", ["Enter", "Space"])
@pytest.mark.parametrize("decision", ["approve", "deny"])
@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
async def test_by_keyboard_alone_a_person_decides_and_is_sent_on(
    decision: str, key: str, script: bool, chromium: Browser, site: Site
) -> None:
    """PROTOCOL A11. The way onward leads to another origin, where a redirect after the form could not lead."""
    async with opened(chromium, f"{site.url}/consent", java_script_enabled=script) as tab:
        await tab.tab_to(decision)
        await tab.page.keyboard.press(key)
        await tab.page.wait_for_url(f"{site.program}/callback?code=c&state=s")
        assert await tab.page.inner_text("body") == "You can close this page."
        assert tab.complaints == []
    assert site.posted == [{"request": "sealed-request", "decision": decision}]


async def test_space_ticks_the_checkbox_and_the_choice_is_to_be_remembered(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.tab_to("on")
        await tab.page.keyboard.press("Space")
        await tab.tab_to("approve")
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_url(f"{site.program}/**")
    assert site.posted == [{"request": "sealed-request", "decision": "approve", "remember": "on"}]


async def test_enter_in_the_checkbox_never_allows(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.tab_to("on")
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_url(f"{site.program}/**")
    assert site.posted == [{"request": "sealed-request", "decision": "deny"}]


@pytest.mark.parametrize("action", ["/tenant/oauth/consent", "consent", "{origin}/tenant/oauth/consent"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_form_works_below_a_path_and_under_whatever_name_the_browser_knows(
    action: str, host: str, chromium: Browser, site: Site
) -> None:
    """As behind a reverse proxy: `form-action 'self'` is the origin that the browser sees."""
    origin = site.url.replace("127.0.0.1", host)
    site.pages["consent"] = consent_page(replace(VIEW, action=action.format(origin=origin)))
    async with opened(chromium, f"{origin}/tenant/oauth/consent") as tab:
        await tab.allow()
        await tab.page.wait_for_url(f"{site.program}/**")
        assert tab.complaints == []
    assert len(site.posted) == 1


async def test_the_browser_says_that_the_form_came_from_the_site_itself(chromium: Browser, site: Site) -> None:
    """With `Referrer-Policy: no-referrer` the Origin of a form is null; `Sec-Fetch-Site` still tells."""
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.page.get_by_role("button", name="Deny").click()
        await tab.page.wait_for_url(f"{site.program}/**")
    assert site.origins == [("null", "same-origin")]


async def test_a_form_to_another_origin_is_not_sent(chromium: Browser, site: Site) -> None:
    site.pages["consent"] = consent_page(replace(VIEW, action=f"{site.program}/callback"))
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.tab_to("approve")
        async with tab.page.expect_event("console") as complaint:
            await tab.page.keyboard.press("Enter")
        assert "form-action" in (await complaint.value).text
        assert tab.page.url == f"{site.url}/consent"


async def test_the_page_cannot_be_framed(chromium: Browser, site: Site) -> None:
    """PROTOCOL A11: clickjacking."""
    site.pages["frame"] = HTMLResponse('<iframe src="/consent"></iframe>')
    async with opened(chromium, f"{site.url}/frame") as tab:
        frame = tab.page.frames[1]
        assert await frame.query_selector("button") is None
        assert "frame-ancestors" in "".join(tab.complaints)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_hostile_client_runs_nothing_and_moves_nothing(attack: str, chromium: Browser, site: Site) -> None:
    """THREATS 10."""
    text = ATTACKS[attack]
    hostile = replace(
        VIEW,
        client_name=text,
        client_url=f"https://{'a' * 250}.example/client",
        redirect_uri=f"https://{'b' * 250}.example/",
        resource=f"https://mcp.example.com/{'c' * 250}",
        scopes=(text, "d" * 250),
    )
    site.pages["consent"] = consent_page(hostile)
    async with opened(chromium, f"{site.url}/consent") as tab:
        for viewport in (DESKTOP, PHONE):
            await tab.page.set_viewport_size(viewport)
            assert await tab.width() == viewport["width"]
            name, deny, allow = [await tab.box(selector) for selector in (".name", DENY, ALLOW)]
            # A name is never so long that it pushes the rest out of sight.
            assert name["height"] < viewport["height"] / 3
            assert (deny["y"], deny["height"]) == (allow["y"], allow["height"])
        assert await tab.page.evaluate("window.ran") is None
        assert tab.complaints == []


async def test_marks_piled_upon_a_letter_do_not_reach_over_our_own_words(chromium: Browser, site: Site) -> None:
    shots = []
    for name in ("Z", f"Z{PILED_UP}"):
        site.pages["consent"] = consent_page(replace(VIEW, client_name=name))
        async with opened(chromium, f"{site.url}/consent") as tab:
            around = [await tab.box("main > .note"), await tab.page.evaluate(AFTER_THE_NAME)]
            shots.append([await tab.page.screenshot(clip=clip) for clip in around])
    assert shots[0] == shots[1]


async def test_where_the_browser_does_not_open_a_program_by_itself_the_way_onward_is_a_key_away(
    chromium: Browser, site: Site
) -> None:
    """Chrome opens a private-use scheme without a click at most once, and then wants a user gesture."""
    location = "cursor://anysphere.cursor-mcp/oauth/callback?code=c"
    site.pages["onward"] = onward_page(location)
    async with opened(chromium, f"{site.url}/onward") as tab:
        await tab.page.keyboard.press("Tab")
        assert await tab.page.evaluate("document.activeElement.href") == location
        await tab.page.keyboard.press("Enter")
        assert await tab.page.get_by_text("choose Continue").is_visible()


async def test_nothing_runs_on_the_way_onward_whatever_the_location_is(chromium: Browser, site: Site) -> None:
    site.pages["onward"] = onward_page("javascript:window.ran=1")
    async with opened(chromium, f"{site.url}/onward") as tab:
        async with tab.page.expect_event("console") as complaint:
            await tab.page.get_by_role("link", name="Continue").click()
        assert "script-src" in (await complaint.value).text
        assert await tab.page.evaluate("window.ran") is None


async def test_a_style_that_is_not_ours_is_blocked(chromium: Browser, site: Site) -> None:
    """That the other tests hear the browser complain, too."""
    async with opened(chromium, f"{site.url}/consent") as tab:
        await tab.page.evaluate(
            "document.body.append(Object.assign(document.createElement('style'), {textContent: 'main{display:none}'}))"
        )
        assert await tab.page.locator("main").is_visible()
        assert "style-src" in "".join(tab.complaints)
