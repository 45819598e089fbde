"""A real Chromium, and a site on loopback whose pages a person meets in it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from playwright.async_api import Browser, FloatRect, Page, ViewportSize, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from seed_oauth.http.pages import ConsentView, Presentation, consent_page, onward_page
from seed_oauth.http.parameters import read_form
from seed_oauth.server.listener import Listener, listen
from tests.real_parts import path_of

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 320, "height": 640}

VIEW = ConsentView(
    client_name="Claude Code",
    client_url=None,
    redirect_uri="http://127.0.0.1:49152/callback",
    scopes=("openid", "offline_access", "mcp:tools"),
    resource="https://mcp.example.com/mcp",
    action="/oauth/consent",
    request="sealed-request",
    remember_days=30,
    account="https://mcp.example.com/oauth/account",
    server=Presentation(name="Example Tools"),
)
DENY, ALLOW = "button[value=deny]", "button[value=approve]"


@dataclass
class Site:
    """A site that serves pages, takes the consent form, and sends the browser on to a program on loopback."""

    pages: dict[str, Response]
    url: str = ""
    program: str = ""
    """The URL that the local program waits at."""
    posted: list[Mapping[str, str]] = field(default_factory=list)
    origins: list[tuple[str | None, str | None]] = field(default_factory=list)
    """What the browser said of where each form came from: `Origin`, `Sec-Fetch-Site`."""

    async def answer(self, request: Request) -> Response:
        """A page by its name; wherever a form is posted, the way onward."""
        if request.method == "GET":
            return self.pages[request.path_params["name"].rpartition("/")[2]]
        self.posted.append(await read_form(request))
        self.origins.append((request.headers.get("origin"), request.headers.get("sec-fetch-site")))
        return onward_page(f"{self.program}/callback?code=c&state=s")


async def arrived(_: Request) -> Response:
    """What the local program says when the browser comes to it."""
    return PlainTextResponse("You can close this page.")


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The URL at which the app answers on loopback."""
    with listen("127.0.0.1", 0, "PORT") as listening:
        listener = Listener(app, listening)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.run_until_stopped)
            yield listener.url
            listener.should_exit = True


@asynccontextmanager
async def site_with_consent() -> AsyncIterator[Site]:
    """A site with the consent page of `VIEW`, and the local program that is waiting."""
    site = Site({"consent": consent_page(VIEW)})
    app = Starlette(routes=[Route("/{name:path}", site.answer, methods=["GET", "POST"])])
    program = Starlette(routes=[Route("/callback", arrived)])
    async with serving(app) as site.url, serving(program) as site.program:
        yield site


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """A Chromium without a window."""
    program = path_of("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        yield browser
        await browser.close()


@dataclass
class Tab:
    """A tab of the browser, and what it had to complain about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: str) -> None:
        """What the console says, but for the status of a response, which is not about the page."""
        if "the server responded with a status of" not in message:
            self.complaints.append(message)

    async def focused(self) -> str | None:
        """The value of the field that has the focus; None when none has."""
        value: str | None = await self.page.evaluate("document.activeElement.value ?? null")
        return value

    async def tab_to(self, value: str) -> None:
        """Press Tab until the field with this value has the focus."""
        for _ in range(4):
            await self.page.keyboard.press("Tab")
            if await self.focused() == value:
                return
        pytest.fail(f"Tab never comes to {value}")

    async def allow(self) -> None:
        """Click on Allow as a person does: with the pointer over the page, once Allow takes clicks."""
        await self.page.mouse.move(5, 5)
        await self.page.locator(ALLOW).click()

    async def box(self, selector: str) -> FloatRect:
        """Where the first such element is."""
        found = await self.page.locator(selector).first.bounding_box()
        assert found
        return found

    async def width(self) -> int:
        """Pixels that the page is wide; more than the viewport's where it must be scrolled sideways."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return width


@asynccontextmanager
async def opened(chromium: Browser, url: str, **options: Any) -> AsyncIterator[Tab]:
    """A tab at `url`, on a desktop unless the options of its context say otherwise."""
    context = await chromium.new_context(**{"viewport": DESKTOP, **options})
    page = await context.new_page()
    tab = Tab(page)
    page.on("console", lambda message: tab.hear(message.text))
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    page.on("dialog", lambda dialog: tab.complaints.append(dialog.message))
    await page.goto(url)
    yield tab
    await context.close()
