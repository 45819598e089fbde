"""The account page: which applications have access for a user."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from string import Template

from starlette.responses import HTMLResponse, Response

from seed_oauth.http.page import HEADERS, name_of, page, permissions, shown
from seed_oauth.http.pages import Presentation

_LIST = Template("""<p>Whatever you revoke here loses its access within a second, and has to ask you again.
Times are in UTC.</p>
<form method="post" action="$action" aria-labelledby="title">
<input type="hidden" name="request" value="$request">
$applications$all</form>
""")

_APPLICATION = Template("""<section aria-labelledby="name-$number">
<h2 id="name-$number"><span class="name">$name</span></h2>
<dl>
$publisher<div><dt>Server it has access to</dt><dd>$resource</dd></div>
<div><dt>It may</dt><dd>$scopes</dd></div>
<div><dt>Since</dt><dd>$issued$address</dd></div>
<div><dt>Last used, to the hour</dt><dd>$used</dd></div>
</dl>
<button class="button" name="grant" value="$grant_id" aria-describedby="name-$number">Revoke</button>
</section>
""")

_PUBLISHER = Template("""<div><dt>Published at</dt><dd>$url</dd></div>
""")

_ALL = """<section>
<h2>Everything</h2>
<p>This ends all access that was given in your name, also what is not listed here.</p>
<button class="button" name="grant" value="all">Revoke all</button>
</section>
"""

_NOTHING = "<p>No application has access.</p>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A grant as its user sees it."""

    grant_id: str
    client_name: str
    """As the client registered it, unchecked; may be empty."""
    client_url: str | None
    """The URL of the client's metadata document; None for a registered client."""
    scopes: tuple[str, ...]
    resource: str
    issued_at: int
    """Seconds since the epoch."""
    used_at: int
    """Seconds since the epoch, to the hour."""
    address: str | None
    """Of the browser at the login, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """What the account page shows and submits."""

    applications: Sequence[Application]
    action: str
    """The URL that the form is posted to, on the origin that serves the page."""
    request: str
    """Whose page this is in which browser, sealed; for the field `request`."""
    server: Presentation


def account_page(view: AccountView) -> Response:
    """Lists the applications, each with a button that posts `request` and its `grant`, which is `all` for all."""
    content = _LIST.substitute(
        action=escape(view.action),
        request=escape(view.request),
        applications="".join(
            _application(number, application, view.server) for number, application in enumerate(view.applications)
        )
        or _NOTHING,
        all=_ALL,
    )
    return HTMLResponse(page("Applications with access", content), headers=HEADERS)


def _application(number: int, application: Application, server: Presentation) -> str:
    url = application.client_url
    return _APPLICATION.substitute(
        number=number,
        name=name_of(application.client_name),
        publisher=_PUBLISHER.substitute(url=shown(url)) if url else "",
        resource=shown(application.resource),
        scopes=permissions(application.scopes, server.scopes),
        issued=_time(application.issued_at),
        address=f" from {shown(application.address)}" if application.address else "",
        used=_time(application.used_at),
        grant_id=escape(application.grant_id),
    )


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
