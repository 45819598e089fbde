"""A browser as people use one: it keeps cookies, shows pages, and goes on where they lead."""

import re
import ssl
from html import unescape
from types import TracebackType
from typing import Self

import httpx

_FORM = re.compile(r'<form method="post" action="([^"]*)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="0;url=([^"]*)">')

# Everything is on loopback. Reading the certificates that a new client trusts takes longer than a login.
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Browser:
    """Somebody's browser. Use it as an async context manager: it holds connections."""

    def __init__(self) -> None:
        # People take their time at the identity provider.
        self._http = httpx.AsyncClient(
            headers={"Accept": "text/html"}, timeout=60, trust_env=False, verify=_TRUSTS_NOBODY
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def open(self, url: str) -> httpx.Response:
        """Go to a URL; where that leads on to, `next_url` tells."""
        return await self._http.get(url)

    async def send(self, page: httpx.Response, **fields: str) -> httpx.Response:
        """Send the form of a page, with what it hides and with these fields filled in."""
        form = _FORM.search(page.text)
        assert form, page.text  # noqa: S101 - the page is the front door's own
        hidden = {unescape(name): unescape(value) for name, value in _HIDDEN.findall(page.text)}
        return await self._http.post(unescape(form[1]), data={**hidden, **fields})


def has_form(page: httpx.Response) -> bool:
    """Whether a page asks something."""
    return _FORM.search(page.text) is not None


def next_url(response: httpx.Response) -> str | None:
    """Where a redirect, or a page that is one, leads to; None where the browser stays."""
    if response.is_redirect:
        return str(response.headers["location"])
    refresh = _REFRESH.search(response.text)
    return unescape(refresh[1]) if refresh else None
