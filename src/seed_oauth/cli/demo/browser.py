"""A minimal browser: it keeps cookies, submits forms and finds redirects."""

import re
import ssl
from html import unescape
from types import TracebackType
from typing import Self

import httpx

_FORM = re.compile(r'<form method="post" action="([^"]*)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_REFRESH = re.compile(r'<meta http-equiv="refresh" content="0;url=([^"]*)">')

# Everything is on loopback without TLS, and loading CA certificates for each client takes longer than a login.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Browser:
    """The browser of one user. Use it as an async context manager, which closes its connections."""

    def __init__(self) -> None:
        # The identity provider responds slowly on purpose.
        self._http = httpx.AsyncClient(
            headers={"Accept": "text/html"}, timeout=60, trust_env=False, verify=_NO_CERTIFICATES
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def open(self, url: str) -> httpx.Response:
        """Request a URL, without following redirects; see `next_url`."""
        return await self._http.get(url)

    async def send(self, page: httpx.Response, **fields: str) -> httpx.Response:
        """Submit the form of a page with its hidden fields and these fields."""
        form = _FORM.search(page.text)
        assert form, page.text  # noqa: S101 - the page is the front door's own
        hidden = {unescape(name): unescape(value) for name, value in _HIDDEN.findall(page.text)}
        return await self._http.post(unescape(form[1]), data={**hidden, **fields})


def has_form(page: httpx.Response) -> bool:
    """Whether a page has a form."""
    return _FORM.search(page.text) is not None


def next_url(response: httpx.Response) -> str | None:
    """The target of a redirect or of a page that redirects, None for other pages."""
    if response.is_redirect:
        return str(response.headers["location"])
    refresh = _REFRESH.search(response.text)
    return unescape(refresh[1]) if refresh else None
