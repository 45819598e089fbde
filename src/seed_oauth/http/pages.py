"""The pages that a person sees: consent, the way onward, and an error.

They run no script and load nothing. What others wrote (a client's name above all) is shown harmlessly, in
a place of its own, so that it cannot pass for our words.
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

_MAXIMUM_NAME = 60  # characters; an honest name is a few words

_STYLE = files("seed_oauth.http").joinpath("pages.css").read_text(encoding="utf-8")

_HEADERS = {
    # The style is allowed by its hash, so that no other can be slipped in. 'self' is where the browser
    # found the page, so the form also works behind a reverse proxy and below an issuer's path.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    **NO_STORE,
}

# Characters that show nothing though their category is none of the invisible ones: fillers, blanks,
# variation selectors.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)

_IN_WORDS = MappingProxyType(
    {
        "openid": "know that it is you",
        "profile": "see your name and profile",
        "email": "see your e-mail address",
        "address": "see your postal address",
        "phone": "see your telephone number",
        "offline_access": "keep its access while you are away",
    }
)
"""The scopes that mean the same everywhere (OpenID Connect Core §5.4, §11)."""

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

_CONSENT = Template("""<p>Allow it only if you have just started this yourself.</p>
<dl>
<div class="told"><dt>It calls itself</dt><dd>$name</dd><dd class="note">$name_note</dd></div>
$publisher<div><dt>It will reach the server</dt><dd>$resource</dd></div>
<div><dt>It asks to</dt><dd>$scopes</dd></div>
<div><dt>Once you have signed in, you are sent to</dt><dd>$destination</dd>$caution</div>
</dl>
<form method="post" action="$action" aria-labelledby="title">
<input type="hidden" name="request" value="$request">
<p><strong>You did not start this?</strong> Then choose Deny: the application gets nothing.</p>
$remember<div class="choice">
<button class="button" name="decision" value="deny">Deny</button>
<button class="button" name="decision" value="approve">Allow</button>
</div>
</form>
""")

_PUBLISHER = Template("""<div><dt>It is published by</dt><dd>$host</dd>
<dd class="note checked">Checked: the application is described there.</dd></div>
""")

_REMEMBER = Template("""<label><input type="checkbox" name="remember" value="on">
<span>Do not ask again in this browser for $days</span></label>
""")

_ONWARD = Template("""<p>You are being sent to <strong>$destination</strong>.</p>
<p>If nothing happens, choose Continue. Once your application has opened, you can close this page.</p>
<p><a class="button" href="$location">Continue</a></p>
""")

_ERROR = Template("""<p>The application that sent you here asked for something that cannot be granted:</p>
<p><strong>$description.</strong></p>
<p>Nothing was changed. Go back to the application and try again from there.</p>
<footer>Error <code>$error</code>, reference <code>$correlation_id</code></footer>
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """What the consent page shows and sends back."""

    client_name: str
    """As the client registered it, unchecked; may be empty."""
    client_id_host: str | None
    """The host that serves the client's metadata document; None for a registered client."""
    redirect_uri: str
    """Where the user will be sent: one that was verified for the client."""
    scopes: tuple[str, ...]
    """What the client asks for; may be empty."""
    resource: str
    """The MCP server that the client will reach."""
    action: str
    """The URL that the form is posted to, of the origin that serves the page."""
    request: str
    """The sealed authorization request, for the field `request`."""
    remember_days: int
    """For how many days the choice can be remembered; 0 leaves the checkbox out."""


def consent_page(view: ConsentView) -> Response:
    """Asks whether a client may act for the user (PROTOCOL A11).

    Posts `request`, `decision` (`approve` or `deny`) and, where ticked, `remember=on`. Enter in the
    checkbox is the first button's click, which denies.
    """
    content = _CONSENT.substitute(
        name=_shown(view.client_name, _MAXIMUM_NAME) or "An application without a name",
        name_note=(
            "It chose this name itself. Its publisher was checked."
            if view.client_id_host
            else "It chose this name itself. Nobody has checked it."
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
    """Sends the browser to `location`, which must be verified: a redirect as a page.

    Chrome holds a redirect that follows a form to the form's `form-action` (CSP), and would stop it. A
    private-use scheme may need the user's click on the link.
    """
    refresh = f'\n<meta http-equiv="refresh" content="0;url={escape(location)}">'
    content = _ONWARD.substitute(destination=_destination(location), location=escape(location))
    return HTMLResponse(_page(title, content, refresh), headers=_HEADERS)


def error_page(description: str, error: str, correlation_id: str, status: int, headers: Mapping[str, str]) -> Response:
    """Tells a person why the login cannot go on, what to do, and what to quote to the operator."""
    content = _ERROR.substitute(
        description=escape(description[:1].upper() + description[1:]),
        error=escape(error),
        correlation_id=escape(correlation_id),
    )
    return HTMLResponse(_page("This login cannot go on", content), status, {**headers, **_HEADERS})


def _page(title: str, content: str, head: str = "") -> str:
    return _PAGE.substitute(title=escape(title), content=content, head=head, style=_STYLE)


def _shown(text: str, maximum: int | None = None) -> str:
    """What somebody else wrote, as HTML that is only text, in one line, and leaves its surroundings alone.

    Control, bidi and other invisible characters are dropped (Unicode TR 36 §2.5, §3.5); `<bdi>` keeps
    right-to-left letters from reordering what stands beside them. Empty when nothing can be seen.
    """
    line = " ".join(_BLANK.sub("", text).split())
    visible = "".join(character for character in line if unicodedata.category(character)[0] != "C").strip()
    if maximum and len(visible) > maximum:
        visible = f"{visible[:maximum].rstrip()}…"
    return f"<bdi>{escape(visible)}</bdi>" if visible else ""


def _permissions(scopes: tuple[str, ...]) -> str:
    # All of them: what is granted must not be hidden behind an ellipsis.
    permissions = [_permission(scope) for scope in scopes]
    permissions = permissions or ["act for you there as far as the server lets it: it named no scopes"]
    return f"<ul>{''.join(f'<li>{permission}</li>' for permission in permissions)}</ul>"


def _permission(scope: str) -> str:
    code = f"<code>{_shown(scope)}</code>"
    return f"{_IN_WORDS[scope]} ({code})" if scope in _IN_WORDS else f"use {code}"


def _destination(uri: str) -> str:
    # Never cut: who a host belongs to stands at its end.
    url = urlsplit(uri)
    if url.scheme not in {"http", "https"}:
        return f"the program that opens {_shown(f'{url.scheme}:')} links on this device"
    if url.hostname in LOOPBACK_HOSTS:
        return f"a program on this computer ({_shown(url.netloc)})"
    return _shown(url.netloc)


def _caution(redirect_uri: str) -> str:
    # MCP "Security Best Practices", localhost redirects: any local program can listen there.
    if urlsplit(redirect_uri).hostname not in LOOPBACK_HOSTS:
        return ""
    return '<dd class="caution">Any program on this computer could be waiting there: be sure that you started one.</dd>'


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
