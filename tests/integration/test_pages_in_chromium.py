"""The pages as a person sees them: in a real Chromium, on a desk and on a phone, in light and in the dark.

`UPDATE_DOCS=1` writes the picture in the documentation anew.
"""

import os
import struct
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ViewportSize
from starlette.responses import Response

from seed_oauth.http.account_page import AccountView, Application, account_page
from seed_oauth.http.pages import (
    ConsentView,
    ErrorView,
    Presentation,
    consent_page,
    error_page,
    not_found_page,
    onward_page,
)
from tests.integration.chromium import ALLOW, DENY, DESKTOP, PHONE, VIEW, Site, opened

pytestmark = [pytest.mark.anyio, pytest.mark.real_parts("chromium")]

PICTURE = Path(__file__).parents[2] / "docs" / "consent.png"
PICTURE_SIZE: ViewportSize = {"width": 720, "height": 829}


ERROR = ErrorView(
    "This login cannot continue",
    "The application that sent you here made a mistake, which only its developer can fix",
    "code_challenge_method must be S256 (PKCE is required)",
    error="invalid_request",
    correlation_id="0123456789abcdef",
)


CLAUDE = Application(
    grant_id="grant of Claude",
    client_name="Claude",
    client_url="https://claude.ai/client",
    scopes=("openid", "files:read"),
    resource="https://mcp.example.com/mcp",
    issued_at=1_795_000_000,
    used_at=1_795_003_200,
    address="2600:1f14:1:2::/64",
)
ACCOUNT = AccountView(
    applications=[CLAUDE, replace(CLAUDE, grant_id="other grant", client_name="W" * 300, client_url=None, scopes=())],
    action="/oauth/account",
    request="sealed-request",
    server=VIEW.server,
)


def every_page() -> dict[str, Response]:
    return {
        "account": account_page(ACCOUNT),
        "local program": consent_page(VIEW),
        "metadata document": consent_page(
            replace(VIEW, client_url="https://claude.ai/client", redirect_uri="https://claude.ai/callback", scopes=())
        ),
        # The browser is to stay here, so the way onward is one that it does not take by itself.
        "onward": onward_page("cursor://anysphere.cursor-mcp/oauth/callback?code=c"),
        "error": error_page(ERROR, 400, {}),
        "denied": error_page(replace(ERROR, title="You denied access", location="https://app.example/"), 200, {}),
        "not found": not_found_page(VIEW.server, [VIEW.resource]),
    }


CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => numbers(colour).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const contrast = (one, other) => {
    const [darker, lighter] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (lighter + 0.05) / (darker + 0.05);
  };
  const background = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? background(element.parentElement) : colour;
  };
  const texts = [...document.body.querySelectorAll('*')]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  const buttons = [...document.querySelectorAll('.button')];
  return {
    texts: texts.map(element => contrast(getComputedStyle(element).color, background(element))),
    buttons: buttons.map(element => contrast(background(element), background(element.parentElement))),
    focus: buttons.map(element => contrast(getComputedStyle(document.body).color, background(element.parentElement))),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", every_page())
async def test_everything_can_be_read_in_light_and_in_the_dark_on_a_desk_and_on_a_phone(
    name: str, scheme: str, chromium: Browser, site: Site
) -> None:
    """WCAG 2.2 AA: 4.5:1 for text (§1.4.3), 3:1 for controls and focus (§1.4.11), 320 pixels wide (§1.4.10)."""
    site.pages = every_page()
    async with opened(chromium, f"{site.url}/{name}", color_scheme=scheme) as tab:
        for viewport in (DESKTOP, PHONE):
            await tab.page.set_viewport_size(viewport)
            assert await tab.width() == viewport["width"]
        contrasts = await tab.page.evaluate(CONTRASTS)
        assert len(contrasts["texts"]) >= 3
        assert min(contrasts["texts"]) >= 4.5
        assert min([3.0, *contrasts["buttons"], *contrasts["focus"]]) >= 3
        assert "Content Security Policy" not in "".join(tab.complaints)


async def test_to_deny_is_as_easy_as_to_allow(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent", viewport=PHONE) as tab:
        deny, allow = [await tab.box(selector) for selector in (DENY, ALLOW)]
        looks = await tab.page.evaluate(
            "[...document.querySelectorAll('button')].map(getComputedStyle)"
            ".map(({fontSize, fontWeight, color, opacity}) => [fontSize, fontWeight, color, opacity].join())"
        )
    assert (deny["width"], deny["height"], deny["y"]) == (allow["width"], allow["height"], allow["y"])
    assert deny["height"] >= 44  # a thumb's width (WCAG 2.2 §2.5.5)
    assert looks[0] == looks[1]


async def test_a_screen_reader_is_told_what_is_seen(chromium: Browser, site: Site) -> None:
    async with opened(chromium, f"{site.url}/consent") as tab:
        main = tab.page.get_by_role("main")
        named: list[tuple[Any, str]] = [
            ("heading", "Claude Code wants to use Example Tools"),
            ("form", "Claude Code wants to use Example Tools"),
            ("checkbox", "Do not ask again in this browser for 30 days"),
            ("button", "Deny"),
            ("button", "Allow"),
        ]
        for role, name in named:
            assert await main.get_by_role(role, name=name, exact=True).count() == 1
        terms = await main.get_by_role("term").all_inner_texts()
        assert terms == [
            "Server it wants to access",
            "It wants to",
            "After you sign in, you are sent to",
        ]


async def test_by_keyboard_alone_a_user_revokes_one_application(chromium: Browser, site: Site) -> None:
    site.pages = every_page()
    async with opened(chromium, f"{site.url}/account", viewport=PHONE) as tab:
        button = tab.page.get_by_role("region", name="Claude", exact=True).get_by_role("button", name="Revoke")
        assert await button.count() == 1
        await tab.tab_to("other grant")
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_url(f"{site.program}/**")
    assert site.posted == [{"request": "sealed-request", "grant": "other grant"}]


async def test_nothing_moves(chromium: Browser, site: Site) -> None:
    """So there is nothing to switch off for those who are made ill by it."""
    async with opened(chromium, f"{site.url}/consent") as tab:
        assert await tab.page.evaluate(
            "[...document.querySelectorAll('*')].map(getComputedStyle)"
            ".every(style => style.transitionDuration === '0s' && ['none', 'arm'].includes(style.animationName))"
        )
        # What arms Allow changes nothing that can be seen.
        rules = "[...document.styleSheets[0].cssRules].filter(rule => rule.name === 'arm').map(rule => rule.cssText)"
        assert await tab.page.evaluate(rules) == ["@keyframes arm { \n  100% { pointer-events: auto; }\n}"]


LOGO = (
    "data:image/svg+xml;base64,"
    + b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 1"><rect width="4" height="1"/></svg>'
    ).decode()
)
SCOPES = {
    "files:read": "see your files and folders",
    "files:write": "change and delete your files",
    "calendar": "see your appointments",
}


@pytest.mark.parametrize(
    "view",
    [
        VIEW,
        replace(
            VIEW,
            client_name="Claude",
            client_url="https://claude.ai/oauth/mcp-oauth-client-metadata",
            redirect_uri="https://claude.ai/api/mcp/auth_callback",
            scopes=(*SCOPES, "offline_access"),
            server=Presentation(name="Example Tools", logo=LOGO, scopes=SCOPES),
            remember_days=0,
        ),
        replace(
            VIEW,
            client_name="Raycast MCP: the internal tools of the Example Corporation (development)",
            redirect_uri="https://a-long-host-name.of-a-department.example.com/callback",
            scopes=("openid", *SCOPES),
        ),
    ],
    ids=["local program", "metadata document and logo", "long names"],
)
async def test_on_a_phone_allow_and_deny_are_seen_without_scrolling(
    view: ConsentView, chromium: Browser, site: Site
) -> None:
    site.pages["consent"] = consent_page(view)
    async with opened(chromium, f"{site.url}/consent", viewport={"width": 390, "height": 844}) as tab:
        for selector in (DENY, ALLOW):
            box = await tab.box(selector)
            assert box["y"] + box["height"] <= 844
        assert await tab.page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")
        assert tab.complaints == []


async def test_the_picture_in_the_documentation_is_of_this_page(chromium: Browser, site: Site, tmp_path: Path) -> None:
    async with opened(chromium, f"{site.url}/consent", viewport=PICTURE_SIZE, device_scale_factor=1.5) as tab:
        assert await tab.page.evaluate("document.documentElement.scrollHeight") == PICTURE_SIZE["height"]
        await tab.page.screenshot(path=tmp_path / "consent.png")
    if os.environ.get("UPDATE_DOCS"):
        PICTURE.write_bytes((tmp_path / "consent.png").read_bytes())
    assert size_of(PICTURE) == size_of(tmp_path / "consent.png")
    assert PICTURE.stat().st_size < 150_000


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return width, height
