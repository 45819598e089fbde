"""What every page is made of: its frame, its look, its security headers, and how text of others is shown in it.

Pages run no script and load nothing. Text that others wrote, above all a client's name, is escaped and shown
separately, so that it cannot pass for our own words.
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType

from seed_oauth.http.answer import NO_STORE

_MAXIMUM_NAME = 256  # characters, as in a registration

_STYLE = files("seed_oauth.http").joinpath("pages.css").read_text(encoding="utf-8")

# The style is allowed by its hash, so that no other can be injected. 'self' is the origin that the browser
# loaded the page from, so the form also works behind a reverse proxy and below an issuer's path.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    **NO_STORE,
}
HEADERS_WITH_LOGO = {**HEADERS, "Content-Security-Policy": f"{_POLICY}; img-src data:"}

# Characters that are invisible although their Unicode category is not: fillers, blanks, variation selectors.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)

_IN_WORDS = MappingProxyType(
    {
        "openid": "know who you are",
        "profile": "see your name and profile",
        "email": "see your e-mail address",
        "address": "see your postal address",
        "phone": "see your telephone number",
        "offline_access": "keep access while you are away",
    }
)
"""The scopes with a standard meaning (OpenID Connect Core §5.4, §11)."""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">$head
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$logo<h1 id="title">$heading</h1>
$content</main>
</body>
</html>
""")


def page(title: str, content: str, head: str = "", *, heading: str = "", logo: str = "") -> str:
    """A page; `content`, `head`, `heading` and `logo` are HTML. Without a heading the title is shown."""
    title = escape(title)
    return _PAGE.substitute(title=title, heading=heading or title, logo=logo, content=content, head=head, style=_STYLE)


def shown(text: str, maximum: int | None = None) -> str:
    """Text that somebody else wrote, as one line of escaped HTML.

    Control, bidi and other invisible characters are dropped (Unicode TR 36 §2.5, §3.5), and `<bdi>` keeps
    right-to-left letters from reordering their surroundings. Empty when nothing visible remains.
    """
    line = " ".join(_BLANK.sub("", text).split())
    visible = "".join(character for character in line if unicodedata.category(character)[0] != "C").strip()
    if maximum and len(visible) > maximum:
        visible = f"{visible[:maximum].rstrip()}…"
    return f"<bdi>{escape(visible)}</bdi>" if visible else ""


def name_of(client_name: str) -> str:
    """What a client calls itself, as HTML."""
    return shown(client_name, _MAXIMUM_NAME) or "Unnamed application"


def permissions(scopes: tuple[str, ...], in_words: Mapping[str, str]) -> str:
    """What scopes let a client do, as HTML that follows "It wants to"; `in_words` is how the operator puts it."""
    # All of them: nothing that is granted may be hidden behind an ellipsis.
    listed = [_permission(scope, {**_IN_WORDS, **in_words}) for scope in scopes]
    listed = listed or ["do everything there that the server lets it do for you: it named no scopes"]
    return f"<ul>{''.join(f'<li>{one}</li>' for one in listed)}</ul>"


def _permission(scope: str, in_words: Mapping[str, str]) -> str:
    code = f"<code>{shown(scope)}</code>"
    return f"{escape(in_words[scope])} ({code})" if scope in in_words else f"use {code}"
