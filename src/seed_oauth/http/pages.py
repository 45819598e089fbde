"""The pages that a person sees: consent, redirect, and error.

They run no script and load nothing. Text that others wrote, above all a client's name, is escaped and shown
separately, so that it cannot pass for our own words.
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, Response

from seed_oauth.http.answer import NO_STORE
from seed_oauth.protocol.redirect_uri import LOOPBACK_HOSTS

_MAXIMUM_NAME = 60  # characters; a legitimate name is a few words

_STYLE = files("seed_oauth.http").joinpath("pages.css").read_text(encoding="utf-8")

_HEADERS = {
    # The style is allowed by its hash, so that no other can be injected. 'self' is the origin that the browser
    # loaded the page from, so the form also works behind a reverse proxy and below an issuer's path.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    **NO_STORE,
}

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
<h1 id="title">$title</h1>
$content</main>
</body>
</html>
""")

_CONSENT = Template("""<p>Allow this only if you have just started it yourself.</p>
<dl>
<div class="told"><dt>Name</dt><dd>$name</dd><dd class="note">$name_note</dd></div>
$publisher<div><dt>Server it wants to access</dt><dd>$resource</dd></div>
<div><dt>It wants to</dt><dd>$scopes</dd></div>
<div><dt>After you sign in, you are sent to</dt><dd>$destination</dd>$caution</div>
</dl>
<form method="post" action="$action" aria-labelledby="title">
<input type="hidden" name="request" value="$request">
<p><strong>Did you not start this?</strong> Choose Deny, and the application gets no access.</p>
$remember<div class="choice">
<button class="button" name="decision" value="deny">Deny</button>
<button class="button" name="decision" value="approve">Allow</button>
</div>
</form>
""")

_PUBLISHER = Template("""<div><dt>Publisher</dt><dd>$host</dd>
<dd class="note checked">Verified: the application is described on this site.</dd></div>
""")

_REMEMBER = Template("""<label><input type="checkbox" name="remember" value="on">
<span>Do not ask again in this browser for $days</span></label>
""")

_ONWARD = Template("""<p>You are being sent to <strong>$destination</strong>.</p>
<p>If nothing happens, choose Continue. You can close this page when your application has opened.</p>
<p><a class="button" href="$location">Continue</a></p>
""")

_ERROR = Template("""<p>The application that sent you here could not be connected:</p>
<p><strong>$description.</strong></p>
<p>Nothing was changed. Go back to the application and try again.</p>
<footer>Error <code>$error</code>, reference <code>$correlation_id</code></footer>
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """What the consent page shows and submits."""

    client_name: str
    """As the client registered it, unchecked; may be empty."""
    client_id_host: str | None
    """The host that serves the client's metadata document; None for a registered client."""
    redirect_uri: str
    """Where the user will be sent; verified for the client."""
    scopes: tuple[str, ...]
    """What the client asks for; may be empty."""
    resource: str
    """The MCP server that the client will reach."""
    action: str
    """The URL that the form is posted to, on the origin that serves the page."""
    request: str
    """The sealed authorization request, for the field `request`."""
    remember_days: int
    """For how many days the decision can be remembered; 0 omits the checkbox."""


def consent_page(view: ConsentView) -> Response:
    """Asks whether a client may act for the user (MCP Security Best Practices, "Confused Deputy Problem").

    Posts `request`, `decision` (`approve` or `deny`) and, if ticked, `remember=on`. Pressing Enter in the
    checkbox activates the first button, which denies.
    """
    content = _CONSENT.substitute(
        name=_shown(view.client_name, _MAXIMUM_NAME) or "Unnamed application",
        name_note=(
            "The application chose this name itself. Its publisher is verified."
            if view.client_id_host
            else "The application chose this name itself. Nobody has verified it."
        ),
        publisher=_PUBLISHER.substitute(host=_shown(view.client_id_host)) if view.client_id_host else "",
        resource=_shown(view.resource),
        scopes=_permissions(view.scopes),
        destination=_destination(view.redirect_uri),
        caution=_caution(view.redirect_uri),
        action=escape(view.action),
        request=escape(view.request),
        remember=_REMEMBER.substitute(days=_days(view.remember_days)) if view.remember_days else "",
    )
    return HTMLResponse(_page("An application asks for access", content), headers=_HEADERS)


def onward_page(location: str, *, title: str = "One moment") -> Response:
    """Redirects the browser to `location`, which must be verified, by a page instead of a 302.

    Chrome applies `form-action` (CSP) to a redirect that follows a form, and would block it. A private-use scheme
    may need the user's click on the link.
    """
    refresh = f'\n<meta http-equiv="refresh" content="0;url={escape(location)}">'
    content = _ONWARD.substitute(destination=_destination(location), location=escape(location))
    return HTMLResponse(_page(title, content, refresh), headers=_HEADERS)


def error_page(description: str, error: str, correlation_id: str, status: int, headers: Mapping[str, str]) -> Response:
    """Tells the user why the login failed, what to do, and what to quote to the operator."""
    content = _ERROR.substitute(
        description=escape(description[:1].upper() + description[1:]),
        error=escape(error),
        correlation_id=escape(correlation_id),
    )
    return HTMLResponse(_page("This login cannot continue", content), status, {**headers, **_HEADERS})


def _page(title: str, content: str, head: str = "") -> str:
    return _PAGE.substitute(title=escape(title), content=content, head=head, style=_STYLE)


def _shown(text: str, maximum: int | None = None) -> str:
    """Text that somebody else wrote, as one line of escaped HTML.

    Control, bidi and other invisible characters are dropped (Unicode TR 36 §2.5, §3.5), and `<bdi>` keeps
    right-to-left letters from reordering their surroundings. Empty when nothing visible remains.
    """
    line = " ".join(_BLANK.sub("", text).split())
    visible = "".join(character for character in line if unicodedata.category(character)[0] != "C").strip()
    if maximum and len(visible) > maximum:
        visible = f"{visible[:maximum].rstrip()}…"
    return f"<bdi>{escape(visible)}</bdi>" if visible else ""


def _permissions(scopes: tuple[str, ...]) -> str:
    # All of them: nothing that is granted may be hidden behind an ellipsis.
    permissions = [_permission(scope) for scope in scopes]
    permissions = permissions or ["do everything there that the server lets it do for you: it named no scopes"]
    return f"<ul>{''.join(f'<li>{permission}</li>' for permission in permissions)}</ul>"


def _permission(scope: str) -> str:
    code = f"<code>{_shown(scope)}</code>"
    return f"{_IN_WORDS[scope]} ({code})" if scope in _IN_WORDS else f"use {code}"


def _destination(uri: str) -> str:
    # Never truncated: the end of a host name says who owns it.
    url = urlsplit(uri)
    if url.scheme not in {"http", "https"}:
        return f"the program that opens {_shown(f'{url.scheme}:')} links on this device"
    if url.hostname in LOOPBACK_HOSTS:
        return f"a program on this computer ({_shown(url.netloc)})"
    return _shown(url.netloc)


def _caution(redirect_uri: str) -> str:
    # MCP Authorization, "Localhost Redirect URI Risks": any local program can listen there.
    if urlsplit(redirect_uri).hostname not in LOOPBACK_HOSTS:
        return ""
    return '<dd class="caution">Any program on this computer could be listening there: be sure it is yours.</dd>'


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
