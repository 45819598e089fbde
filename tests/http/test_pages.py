"""The pages that a person sees: what they say, and that nobody else speaks in them."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from seed_oauth.http.pages import (
    ConsentView,
    ErrorView,
    Presentation,
    consent_page,
    error_page,
    not_found_page,
    onward_page,
)

VIEW = ConsentView(
    client_name="Example App",
    client_url=None,
    redirect_uri="https://app.example/callback",
    scopes=("mcp:tools",),
    resource="https://door.example/mcp",
    action="/oauth/consent",
    request="sealed-request",
    remember_days=30,
    server=Presentation(name="Example Tools"),
)
ERROR = ErrorView(
    "This login cannot continue", "connect again", error="invalid_client", correlation_id="0123456789abcdef"
)
LOGO = "data:image/png;base64,iVBORw0KGgo="
IDP = "https://idp.example/authorize?client_id=proxy&state=s"
PAGES = {
    "consent": consent_page(VIEW),
    "onward": onward_page(IDP),
    "error": error_page(ERROR, 400, {"Retry-After": "5"}),
    "error with a link": error_page(replace(ERROR, location="https://app.example/?error=x", detail="PKCE"), 400, {}),
    "not found": not_found_page(Presentation(), ["https://door.example/mcp"]),
}


class Document(HTMLParser):
    """A page as a browser reads it: its elements and the text that can be seen."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.told: list[str] = []
        """What stands in each `<bdi>`: the words of others."""
        self._inside: list[str] = []
        self._text: list[str] = []
        self.feed(bytes(response.body).decode())
        self.text = " ".join("".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "img"}:
            self._inside.append(tag)
        if tag == "bdi":
            self.told.append("")
        elif tag in {"dt", "dd", "li"}:
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "bdi":
            self.told[-1] += data
        if "style" not in self._inside:
            self._text.append(data)

    @property
    def structure(self) -> list[tuple[str, list[str]]]:
        """The elements with the names of their attributes."""
        return [(tag, list(attributes)) for tag, attributes in self.elements]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def consent(**changes: object) -> Document:
    """The consent page of a good view, but for `changes`."""
    return Document(consent_page(replace(VIEW, **changes)))  # type: ignore[arg-type]  # each test gives the right type


def name_shown(client_name: str) -> str:
    """What the page makes of a client's name."""
    return consent(client_name=client_name).told[0]


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Response:
    return PAGES[request.param]


def test_a_page_may_not_be_framed_cached_or_become_a_referer(page: Response) -> None:
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["pragma"] == "no-cache"


def test_a_page_may_load_nothing_but_its_own_style(page: Response) -> None:
    [style] = re.findall(r"<style>(.*?)</style>", bytes(page.body).decode(), re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert page.headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    assert not re.search(r"url\(|@import|@font-face", style)


def test_a_page_runs_nothing_and_refers_to_nothing_elsewhere(page: Response) -> None:
    document = Document(page)
    assert {tag for tag, _ in document.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "strong", "dl", "div", "dt", "dd"),
        *("bdi", "code", "ul", "li", "form", "input", "label", "span", "button", "a", "footer"),
    }
    attributes = {name for _, given in document.elements for name in given}
    assert not {name for name in attributes if name.startswith("on") or name in {"style", "src"}}


def test_a_page_is_in_a_language_has_a_title_one_heading_and_one_main_part(page: Response) -> None:
    document = Document(page)
    assert document.of("html") == [{"lang": "en"}]
    assert [len(document.of(tag)) for tag in ("title", "main", "h1")] == [1, 1, 1]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in document.of("meta")


def test_consent_tells_who_asks_what_for_where_and_what_to_do_otherwise() -> None:
    """MCP Security Best Practices, "Confused Deputy Problem"."""
    document = consent()
    assert document.told == ["Example App", "https://door.example/mcp", "mcp:tools", "app.example"]
    for words in (
        "Example App wants to use Example Tools",
        "chose this name itself, and nobody has verified it",
        "Server it wants to access https://door.example/mcp",
        "It wants to use mcp:tools",
        "you are sent to app.example",
        "only if you have just started it yourself. If not, choose Deny",
    ):
        assert words in document.text


def test_the_form_posts_request_decision_and_remember_and_nothing_else() -> None:
    document = consent()
    assert document.of("form") == [{"method": "post", "action": "/oauth/consent", "aria-labelledby": "title"}]
    assert document.of("input") == [
        {"type": "hidden", "name": "request", "value": "sealed-request"},
        {"type": "checkbox", "name": "remember", "value": "on"},
    ]


def test_to_deny_comes_first_and_looks_as_to_allow() -> None:
    """The first button is also what Enter in the checkbox stands for."""
    assert consent().of("button") == [
        {"class": "button", "name": "decision", "value": "deny"},
        {"class": "button", "name": "decision", "value": "approve"},
    ]


@pytest.mark.parametrize(
    ("days", "words"), [(1, "in this browser for 1 day Deny"), (30, "in this browser for 30 days Deny")]
)
def test_the_choice_can_be_remembered_for_as_long_as_is_set(days: int, words: str) -> None:
    assert words in consent(remember_days=days).text


def test_without_days_nothing_is_offered_to_be_remembered() -> None:
    document = consent(remember_days=0)
    assert [field["name"] for field in document.of("input")] == ["request"]
    assert "Do not ask again" not in document.text


def test_the_whole_url_of_a_metadata_document_is_told_because_many_may_publish_at_one_host() -> None:
    """Client ID Metadata Documents: what is known of such a client is where its document is."""
    url = "https://gist.githubusercontent.com/somebody/0123/raw/client.json"
    document = consent(client_url=url)
    assert document.told[1] == url
    assert f"Published at {url} Verified: the application is described at this address" in document.text
    assert "The application chose this name itself" in document.text
    assert "Verified" not in consent().text


def test_without_a_name_the_server_is_called_by_its_host() -> None:
    assert "Example App wants to use door.example The app" in consent(server=Presentation()).text


def test_the_operators_words_for_scopes_go_before_ours_and_the_scope_is_named_beside_them() -> None:
    words = {"files:read": "see <your> files", "openid": "learn your name"}
    text = consent(scopes=("files:read", "files:write", "openid"), server=Presentation(scopes=words)).text
    assert "see <your> files (files:read) use files:write learn your name (openid)" in text


def test_a_logo_is_part_of_the_page_and_nothing_else_may_be_shown() -> None:
    page = consent_page(replace(VIEW, server=Presentation(logo=LOGO)))
    assert Document(page).of("img") == [{"class": "logo", "alt": "", "src": LOGO}]
    assert page.headers["content-security-policy"].endswith("; img-src data:")
    assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("redirect_uri", "words"),
    [
        ("https://app.example/callback?a=https://other.example", "sent to app.example"),
        ("https://app.example:8443", "sent to app.example:8443"),
        ("https://app.example?@other.example", "sent to app.example "),
        ("http://127.0.0.1:49152/callback", "sent to a program on this computer (127.0.0.1:49152) Any program"),
        ("http://localhost/callback", "sent to a program on this computer (localhost) Any program"),
        ("http://[::1]:1/callback", "sent to a program on this computer ([::1]:1) Any program"),
        ("cursor://anysphere.cursor-mcp/oauth", "sent to the program that opens cursor: links on this device"),
        ("com.example.app:/oauth2redirect", "sent to the program that opens com.example.app: links on this device"),
    ],
)
def test_the_user_is_told_where_they_will_be_sent(redirect_uri: str, words: str) -> None:
    """MCP Authorization, "Localhost Redirect URI Risks": with a warning where any local program can be waiting."""
    text = consent(redirect_uri=redirect_uri).text
    assert words in text
    assert ("could be listening there" in text) == ("this computer" in words)


def test_the_end_of_a_host_is_never_cut_because_it_says_whose_it_is() -> None:
    host = f"accounts.google.com.{'a' * 60}.{'b' * 60}.evil.example"
    assert f"https://{host}/client" in consent(client_url=f"https://{host}/client").told
    assert host in consent(redirect_uri=f"https://{host}/").told


def test_scopes_that_mean_the_same_everywhere_are_told_in_words() -> None:
    text = consent(scopes=("openid", "offline_access", "files:write")).text
    for words in ("know who you are (openid)", "while you are away (offline_access)", "use files:write"):
        assert words in text


def test_no_scope_is_left_out_however_many_there_are() -> None:
    scopes = tuple(f"scope-{number}-{'x' * 300}" for number in range(500))
    assert consent(scopes=scopes).told[2:-1] == list(scopes)


def test_without_scopes_the_page_says_what_that_means() -> None:
    assert (
        "It wants to do everything there that the server lets it do for you: it named no scopes"
        in consent(scopes=()).text
    )


@pytest.mark.parametrize("name", ["", " \n\t", "\u202e", "\u200b\ufeff", "\u3164\u2800", "\x00", "\u00a0"])
def test_a_name_of_which_nothing_can_be_seen_is_no_name(name: str) -> None:
    document = consent(client_name=name)
    assert "Unnamed application wants to use" in document.text
    assert document.told[0] == VIEW.resource


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("</bdi></dd><h1>Verified</h1>", "</bdi></dd><h1>Verified</h1>"),
        ("\"'><img src=x onerror=alert(1)>", "\"'><img src=x onerror=alert(1)>"),
        ("&lt;b&gt;&#8238;", "&lt;b&gt;&#8238;"),
        ("$name ${request} %s {0}", "$name ${request} %s {0}"),
        ("\u202eedualC\u202c", "edualC"),
        ("\u2066a\u2067b\u2068c\u2069\u200e\u200f\u061c", "abc"),
        ("Cl\u200ba\u200cu\u200dd\u2060e\ufeff\u00ad", "Claude"),
        ("a\x00b\x07c\x1bd\x7fe\x9f", "abcde"),
        ("two\nlines\r\nor\u2028three\u2029four\x85five", "two lines or three four five"),
        ("  wide\u00a0\u2003\u3000spaces  ", "wide spaces"),
        ("a\u3164\u115f\u2800\u034f\ufe0fb", "ab"),
        ("\ud800half a surrogate\udfff", "half a surrogate"),
        ("\U000e0041\U000e0042tagged", "tagged"),
        ("\ue000private", "private"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("Zo\u00eb 数据 \U0001f680", "Zo\u00eb 数据 \U0001f680"),
    ],
)
def test_a_hostile_name_is_shown_harmlessly_and_an_honest_one_as_it_is(sent: str, shown: str) -> None:
    """THREATS 10."""
    assert name_shown(sent) == shown


@pytest.mark.parametrize("name", ["x" * 10_000, "word " * 2000, "\u202e" * 5000 + "x" * 5000])
def test_a_name_that_is_longer_than_any_that_can_be_registered_is_cut(name: str) -> None:
    shown = name_shown(name)
    assert 250 < len(shown) <= 257
    assert shown.endswith("…")


def test_a_name_as_long_as_can_be_registered_is_shown_in_full() -> None:
    assert name_shown("x" * 256) == "x" * 256


texts = st.text(st.characters(), max_size=200) | st.lists(
    st.sampled_from(["<", ">", '"', "'", "&", "/", "script", "bdi", "<!--", "]]>", "$", "\u202e", "\n", "a"]),
    max_size=30,
).map("".join)


@given(name=texts, host=texts, scope=texts, resource=texts, action=texts, request=texts)
def test_nothing_that_is_shown_changes_the_page_around_it(
    name: str, host: str, scope: str, resource: str, action: str, request: str
) -> None:
    """THREATS 10: whatever others write is text in a place of its own."""
    sent = {
        "client_name": f"n{name}",
        "client_url": f"h{host}",
        "scopes": (f"s{scope}",),
        "resource": f"r{resource}",
    }
    encodable = {"action": action, "request": request}
    page = consent(**sent, **{field: text.encode("utf-8", "ignore").decode() for field, text in encodable.items()})
    assert page.structure == consent(client_url="https://host.example/client").structure
    assert len(page.told) == 5
    assert all(told.isprintable() for told in page.told)


@given(texts)
def test_what_the_form_carries_comes_back_as_it_was_given(request: str) -> None:
    request = "".join(character for character in request if character.isprintable())
    document = consent(request=request, action=f"/{request}")
    assert document.of("input")[0]["value"] == request
    assert document.of("form")[0]["action"] == f"/{request}"


def test_the_way_onward_is_taken_at_once_and_can_be_taken_by_hand() -> None:
    document = Document(onward_page(IDP, title="Signing <you> in"))
    assert {"http-equiv": "refresh", "content": f"0;url={IDP}"} in document.of("meta")
    assert document.of("a") == [{"class": "button", "href": IDP}]
    assert "You are being sent to idp.example." in document.text
    assert document.text.count("Signing <you> in") == 2
    assert onward_page(IDP).status_code == 200


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.1:1/callback?code=c", "a program on this computer (127.0.0.1:1)."),
        ("cursor://anysphere.cursor-mcp/oauth?code=c", "the program that opens cursor: links on this device."),
    ],
)
def test_the_way_onward_may_lead_to_a_program(location: str, words: str) -> None:
    document = Document(onward_page(location))
    assert words in document.text
    assert document.of("a")[0]["href"] == location


def test_a_location_cannot_leave_its_attribute() -> None:
    """THREATS 14."""
    location = "https://app.example/?state=\"'><script>alert(1)</script>;url=https://evil.example"
    document = Document(onward_page(location))
    assert document.structure == Document(onward_page(IDP)).structure
    assert document.of("a")[0]["href"] == location


def test_an_error_says_what_to_do_and_what_to_quote() -> None:
    page = PAGES["error"]
    document = Document(page)
    assert (page.status_code, page.headers["retry-after"]) == (400, "5")
    assert "Connect again." in document.text
    assert "Error invalid_client, reference 0123456789abcdef" in document.text


def test_an_error_shows_the_login_that_it_ended_if_it_is_known() -> None:
    view = ErrorView("Title", "what to do", error="invalid_client", correlation_id="0123456789abcdef", flow_id="8404df")
    document = Document(error_page(view, 400, {}))
    assert "reference 0123456789abcdef, login 8404df" in document.text
    assert "login" not in Document(PAGES["error"]).text.partition("reference")[2]


def test_an_error_is_text_and_cannot_loosen_the_headers() -> None:
    hostile = ErrorView("<a>", "<b>", error="<i>", correlation_id="<u>", flow_id="<s>")
    page = error_page(hostile, 400, {"X-Frame-Options": "ALLOWALL"})
    assert Document(page).structure == [*Document(PAGES["error"]).structure, ("code", [])]
    assert page.headers.getlist("x-frame-options") == ["DENY"]


def test_an_error_with_a_link_says_where_it_leads_and_what_the_developer_has_to_know() -> None:
    document = Document(PAGES["error with a link"])
    assert (
        "Connect again. For its developer: PKCE If you came from app.example, you can go back there." in document.text
    )
    assert document.of("a") == [{"class": "button", "href": "https://app.example/?error=x"}]


def test_who_comes_to_a_path_where_nothing_is_learns_what_the_server_is_for() -> None:
    page = not_found_page(Presentation(name="Example Tools"), ["https://door.example/mcp"])
    assert page.status_code == 404
    assert "Example Tools is for MCP clients. Add this URL" in Document(page).text
    assert "https://door.example/mcp" in Document(page).text
