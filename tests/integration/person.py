"""Somebody at a browser without JavaScript, who fills in the forms that come and presses their buttons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx

from tests.harness import query_of

MAX_PAGES = 20
"""More of them than any login has."""


@dataclass
class _Form:
    action: str
    method: str
    fields: dict[str, str | None] = field(default_factory=dict)
    """Each with the value that it came with; a box that is not ticked has none."""


class _Page(HTMLParser):
    """What a page asks its reader to do."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self.refresh: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        name = attributes.get("name")
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
            self.refresh = attributes["content"].partition("=")[2]
        elif tag == "form":
            self.forms.append(_Form(attributes.get("action", ""), attributes.get("method", "get").lower()))
        elif name and self.forms and tag in {"input", "button"}:
            box = attributes.get("type") == "checkbox"
            self.forms[-1].fields.setdefault(name, None if box else attributes.get("value", ""))


class Person:
    """A browser that stays open, and so keeps its cookies from one login to the next.

    `answers` has what is typed into fields, by their names, and the values of boxes that are ticked and buttons that
    are pressed. Every other field is left as it came. Consent is given unless the answers say otherwise.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = {"decision": "approve", **answers}
        self.visited: list[str] = []
        """The URLs of the pages that were shown, the oldest first."""
        self._http = httpx.AsyncClient(
            trust_env=False, timeout=30, event_hooks={"response": [self._take_loopback_for_secure]}
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def authorize(self, authorization_url: str) -> str:
        """Go where a client sends its user; the URL by which they come back to the client, which is not opened yet."""
        redirect_uri = query_of(authorization_url)["redirect_uri"]
        request = self._http.build_request("GET", authorization_url)
        for _ in range(MAX_PAGES):
            response = await self._http.send(request)
            request = response.next_request or self._answer(response)
            if str(request.url).startswith(redirect_uri):
                return str(request.url)
        raise AssertionError(f"no end to the pages: {self.visited}")

    async def open(self, url: str) -> httpx.Response:
        """Look at a page, and do nothing there."""
        return await self._http.get(url)

    async def confirm(self, url: str) -> httpx.Response:
        """Look at a page, and do what it asks for."""
        return await self._http.send(self._answer(await self._http.get(url)))

    async def _take_loopback_for_secure(self, _: httpx.Response) -> None:
        # As browsers do: a Secure cookie goes back to loopback, whatever the scheme.
        for cookie in self._http.cookies.jar:
            cookie.secure = False

    def _answer(self, response: httpx.Response) -> httpx.Request:
        """What the person does at a page."""
        here = str(response.url)
        self.visited.append(here)
        assert response.status_code == 200, f"{here}: {response.status_code} {response.text}"
        page = _Page(response.text)
        if page.refresh is not None:
            return self._http.build_request("GET", urljoin(here, page.refresh))
        assert page.forms, f"{here} asks for nothing: {response.text}"
        form = page.forms[0]
        answered = {name: self.answers.get(name, value) for name, value in form.fields.items()}
        filled = {name: value for name, value in answered.items() if value is not None}
        action = urljoin(here, form.action)
        if form.method == "post":
            return self._http.build_request("POST", action, data=filled)
        return self._http.build_request("GET", action, params=filled)
