"""The pages that a person sees during a login: consent, redirect, and error."""

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from html import escape
from string import Template
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse, Response

from seed_oauth.http.page import HEADERS, HEADERS_WITH_LOGO, name_of, page, permissions, shown
from seed_oauth.protocol.host import LOOPBACK_HOSTS

_CONSENT = Template("""<p class="note">The application chose this name itself$unverified.
Allow this only if you have just started it yourself. If not, choose Deny, and it gets no access.</p>
<dl>
$publisher<div><dt>Server it wants to access</dt><dd>$resource</dd></div>
<div><dt>It wants to</dt><dd>$scopes</dd></div>
<div><dt>After you sign in, you are sent to</dt><dd>$destination</dd>$caution</div>
</dl>
<form method="post" action="$action" aria-labelledby="title">
<input type="hidden" name="request" value="$request">
$remember<div class="choice">
<button class="button" name="decision" value="deny">Deny</button>
<button class="button" name="decision" value="approve">Allow</button>
</div>
</form>
$account""")

_ACCOUNT = Template("""<p class="note">You can take access back at any time:
<a href="$location">see which applications have access</a>.</p>
""")

_PUBLISHER = Template("""<div><dt>Published at</dt><dd>$url</dd>
<dd class="note">Verified: the application is described at this address, by whoever can publish there.</dd></div>
""")

_REMEMBER = Template("""<label><input type="checkbox" name="remember" value="on">
<span>Do not ask again in this browser for $days</span></label>
""")

_ONWARD = Template("""<p>You are being sent to <strong>$destination</strong>.</p>
<p>If nothing happens, choose Continue. You can close this page when your application has opened.</p>
<p><a class="button" href="$location">Continue</a></p>
""")

_ERROR = Template("""<p><strong>$description.</strong></p>
$more<footer>Error <code>$error</code>, reference <code>$correlation_id</code>$login</footer>
""")

_BACK = Template("""<p>If you came from <strong>$destination</strong>, you can go back there.</p>
<p><a class="button" href="$location">Go back</a></p>
""")

_SIGN_IN = Template("""<p><a class="button" href="$location">$words</a></p>
""")

_NOT_FOUND = Template("""<p>$name is for MCP clients. Add this URL to your client, which then opens the login:</p>
<ul>$resources</ul>
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How the operator presents the MCP server to its users."""

    name: str = ""
    """The host of the resource if empty."""
    logo: str = ""
    """A `data:` URL of an image; empty for none."""
    scopes: Mapping[str, str] = field(default_factory=dict)
    """What scopes let a client do, in words that follow "It wants to"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentView:
    """What the consent page shows and submits."""

    client_name: str
    """As the client registered it, unchecked; may be empty."""
    client_url: str | None
    """The URL of the client's metadata document; None for a registered client."""
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
    account: str | None = None
    """The URL of the account page; None omits the link."""
    server: Presentation = Presentation()


@dataclass(frozen=True, slots=True)
class ErrorView:
    """What an error page shows."""

    title: str
    description: str
    """What happened and what to do, without the full stop."""
    detail: str = ""
    """What the client's developer has to know beyond that."""
    _: KW_ONLY
    error: str
    correlation_id: str
    flow_id: str | None = None
    """What the log lines of the login have in common, if it is known."""
    location: str | None = None
    """The client's redirect URI with the error, for a link."""
    other_account: str | None = None
    """Where the user can log in with another account."""
    account: str | None = None
    """The account page, where the user can sign in again."""


def consent_page(view: ConsentView) -> Response:
    """Asks whether a client may act for the user (MCP Security Best Practices, "Confused Deputy Problem").

    Posts `request`, `decision` (`approve` or `deny`) and, if ticked, `remember=on`. Pressing Enter in the
    checkbox activates the first button, which denies. A click on Allow has no effect at first (see pages.css).
    """
    server = view.server.name or urlsplit(view.resource).netloc
    name = name_of(view.client_name)
    content = _CONSENT.substitute(
        unverified="" if view.client_url else ", and nobody has verified it",
        publisher=_PUBLISHER.substitute(url=shown(view.client_url)) if view.client_url else "",
        resource=shown(view.resource),
        scopes=permissions(view.scopes, view.server.scopes),
        destination=_destination(view.redirect_uri),
        caution=_caution(view.redirect_uri),
        action=escape(view.action),
        request=escape(view.request),
        remember=_REMEMBER.substitute(days=_days(view.remember_days)) if view.remember_days else "",
        account=_ACCOUNT.substitute(location=escape(view.account)) if view.account else "",
    )
    heading = f'<span class="name">{name}</span> wants to use {escape(server)}'
    logo = f'<img class="logo" alt="" src="{escape(view.server.logo)}">\n' if view.server.logo else ""
    html = page(f"Access to {server}", content, heading=heading, logo=logo)
    return HTMLResponse(html, headers=HEADERS_WITH_LOGO if logo else HEADERS)


def onward_page(location: str, *, title: str = "One moment") -> Response:
    """Redirects the browser to `location`, which must be verified, by a page instead of a 302.

    Chrome applies `form-action` (CSP) to a redirect that follows a form, and would block it. A private-use scheme
    may need the user's click on the link.
    """
    refresh = f'\n<meta http-equiv="refresh" content="0;url={escape(location)}">'
    content = _ONWARD.substitute(destination=_destination(location), location=escape(location))
    return HTMLResponse(page(title, content, refresh), headers=HEADERS)


def error_page(view: ErrorView, status: int, headers: Mapping[str, str]) -> Response:
    """Tells the user why the login failed, what to do, and what to quote to the operator."""
    more = f'<p class="note">For its developer: {escape(view.detail)}</p>\n' if view.detail else ""
    if view.other_account is not None:
        more += _SIGN_IN.substitute(location=escape(view.other_account), words="Sign in with another account")
    if view.account is not None:
        more += _SIGN_IN.substitute(location=escape(view.account), words="Sign in again")
    if view.location is not None:
        more += _BACK.substitute(destination=_destination(view.location), location=escape(view.location))
    content = _ERROR.substitute(
        description=escape(view.description[:1].upper() + view.description[1:]),
        more=more,
        error=escape(view.error),
        correlation_id=escape(view.correlation_id),
        login=f", login <code>{escape(view.flow_id)}</code>" if view.flow_id else "",
    )
    return HTMLResponse(page(view.title, content), status, {**headers, **HEADERS})


def not_found_page(server: Presentation, resources: Iterable[str]) -> Response:
    """Tells a person who comes by browser what the server is for."""
    listed = "".join(f"<li><code>{escape(resource)}</code></li>" for resource in resources)
    content = _NOT_FOUND.substitute(name=escape(server.name or "This server"), resources=listed)
    return HTMLResponse(page("There is nothing to see here", content), 404, HEADERS)


def _destination(uri: str) -> str:
    # Never truncated: the end of a host name says who owns it.
    url = urlsplit(uri)
    if url.scheme not in {"http", "https"}:
        return f"the program that opens {shown(f'{url.scheme}:')} links on this device"
    if url.hostname in LOOPBACK_HOSTS:
        return f"a program on this computer ({shown(url.netloc)})"
    return shown(url.netloc)


def _caution(redirect_uri: str) -> str:
    # MCP Authorization, "Localhost Redirect URI Risks": any local program can listen there.
    if urlsplit(redirect_uri).hostname not in LOOPBACK_HOSTS:
        return ""
    return '<dd class="caution">Any program on this computer could be listening there: be sure it is yours.</dd>'


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
