"""`/oauth/consent`: what becomes of a decision, and who may make it (PROTOCOL A11)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey
from starlette.requests import Request
from starlette.responses import Response

from seed_oauth import Settings
from seed_oauth.clients import Client
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import ConsentOutcome as Row
from tests.broker import IDP, BrokerDoor, Clock, KnownClients, PlayedMetadata, link_in, request_in, target_of
from tests.harness import (
    CALLBACK,
    ISSUER,
    PUBLIC,
    SETTINGS,
    document,
    increases,
    json_of,
    query_of,
    rows_of_every_endpoint,
    sealer_of,
)

pytestmark = pytest.mark.anyio

SOMEBODY_ELSE, NO_COOKIES = "somebody else", "no cookies"


@dataclass
class Case:
    """A decision that ends in `row`: what is changed in a good one, who makes it and how many seconds late."""

    row: Row
    changes: Mapping[str, str | None] = field(default_factory=dict)
    by: str = "the same"
    after: float = 0.0
    told: bool = False
    """Whether the client is told, by way of its redirect_uri."""
    idp_down: bool = False


CASES = [
    Case(Row.BAD_ENVELOPE, {"request": None}),
    Case(Row.BAD_ENVELOPE, {"request": "made up"}),
    Case(Row.BAD_ENVELOPE, {"request": "é" * 9000}),
    Case(Row.EXPIRED, after=601),
    # PROTOCOL A12, THREATS 4.
    Case(Row.OTHER_BROWSER, by=SOMEBODY_ELSE),
    Case(Row.OTHER_BROWSER, by=NO_COOKIES),
    Case(Row.OTHER_BROWSER, {"decision": "deny"}, by=SOMEBODY_ELSE),
    Case(Row.NO_DECISION, {"decision": None}),
    Case(Row.NO_DECISION, {"decision": "APPROVE"}),
    Case(Row.IDP_UNAVAILABLE, idp_down=True, told=True),
    Case(Row.DENIED, {"decision": "deny"}, told=True),
    Case(Row.DENIED, {"decision": "deny"}, told=True, idp_down=True),
    # The order of the checks decides the row.
    Case(Row.BAD_ENVELOPE, {"request": "made up", "decision": None}, by=NO_COOKIES, after=601),
    Case(Row.EXPIRED, {"decision": None}, by=SOMEBODY_ELSE, after=601),
    Case(Row.OTHER_BROWSER, {"decision": None}, by=SOMEBODY_ELSE, idp_down=True),
    Case(Row.NO_DECISION, {"decision": "maybe"}, idp_down=True),
]


def counted(row: Row) -> dict[str, float]:
    """What grows when a decision ends in an error row."""
    grown = {f'oauth_errors_total{{cause="{row.cause}",endpoint="consent",reason="{row.reason}"}}': 1.0}
    if row.result is not None:
        grown[f'oauth_authorization_requests_total{{result="{row.result}"}}'] = 1.0
    if row is Row.DENIED:
        grown['oauth_consent_decisions_total{decision="denied"}'] = 1.0
    return grown


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{case.changes}-{case.by}")
async def test_a_decision_that_does_not_count_as_consent_is_answered_and_counted_as_its_row(case: Case) -> None:
    metadata, clock = PlayedMetadata(), Clock()
    async with BrokerDoor(metadata=metadata, now=clock) as door:
        form = {"request": request_in(await door.person.opens()), "decision": "approve", **case.changes}
        other = door.somebody()
        if case.by is SOMEBODY_ELSE:
            await other.opens()
        clock.seconds += case.after
        metadata.failure = IdentityProviderError(IdentityProviderFailure.UNREACHABLE) if case.idp_down else None
        before = await door.samples()
        http = door.person.http if case.by == "the same" else other.http
        response = await http.post(
            "/oauth/consent",
            data={name: value for name, value in form.items() if value is not None},
            headers={"Accept": "*/*"},
        )

        if case.told:
            # PROTOCOL A5, A8 and A14. After a form, the redirect is a page (Chrome's form-action); and to whom the
            # user has denied access they go by their own click only.
            assert response.status_code == 200
            assert ("http-equiv" in response.text) == (case.row is not Row.DENIED)
            assert link_in(response).startswith(f"{CALLBACK}?")
            told = query_of(link_in(response))
            assert (told["error"], told["state"], told["iss"]) == (case.row.error, "opaque state", ISSUER)
        else:
            assert response.status_code == case.row.status
            assert json_of(response)["error"] == case.row.error
        assert "location" not in response.headers
        assert response.headers["cache-control"] == "no-store"
        assert "set-cookie" not in response.headers
        assert increases(before, await door.samples()) == counted(case.row)


def test_every_row_of_the_table_has_a_case() -> None:
    apart = {Row.APPROVED, Row.APPROVED_AFTER_LOGIN, Row.DENIED_AFTER_LOGIN}  # test_consent_after_login.py
    assert {case.row for case in CASES} | rows_of_every_endpoint(Row) | apart == set(Row)


async def test_the_page_names_the_host_that_publishes_the_clients_document() -> None:
    """The client's name is its own claim, but its client_id is where its document was fetched."""
    url = "https://publisher.example/client.json"
    async with BrokerDoor(documents=lambda _: httpx.Response(200, json=document(url))) as door:
        assert "publisher.example" in (await door.person.opens(client_id=url)).text


async def test_who_approves_goes_on_to_the_identity_provider_and_counts_as_success() -> None:
    async with BrokerDoor() as door:
        page = await door.person.opens()
        before = await door.samples()
        response = await door.person.decides(page)
        assert response.status_code == 200
        assert target_of(response).startswith(f"{IDP}/authorize?")
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert increases(before, await door.samples()) == {
            'oauth_authorization_requests_total{result="success"}': 1,
            'oauth_consent_decisions_total{decision="approved"}': 1,
        }


@pytest.mark.parametrize("field_name", ["request", "decision"])
async def test_a_person_gets_a_page_that_says_what_to_do(field_name: str) -> None:
    async with BrokerDoor() as door:
        response = await door.person.decides(await door.person.opens(), **{field_name: "x"})
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["x-correlation-id"] in response.text


async def test_a_page_that_was_open_for_too_long_says_so_once_and_blames_nobody() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        page = await door.person.opens()
        clock.seconds += 601
        response = await door.person.decides(page)
    assert response.text.count("open for too long") == 1
    assert "mistake" not in response.text


async def test_an_envelope_of_another_purpose_is_no_question() -> None:
    async with BrokerDoor() as door:
        state = query_of(await door.person.reaches_idp())["state"]
        response = await door.person.http.post("/oauth/consent", data={"request": state, "decision": "approve"})
        assert response.status_code == 400
        assert await door.error_count(Row.BAD_ENVELOPE) == 1


async def test_a_consent_that_is_given_again_begins_a_login_of_its_own() -> None:
    """The door keeps nothing: the back button works, and nobody else can use the question."""
    async with BrokerDoor() as door:
        page = await door.person.opens()
        first, second = [query_of(target_of(await door.person.decides(page))) for _ in range(2)]
        assert first["state"] != second["state"]
        assert first["code_challenge"] != second["code_challenge"]


async def test_a_question_cannot_be_answered_by_a_link() -> None:
    async with BrokerDoor() as door:
        form = {"request": request_in(await door.person.opens()), "decision": "approve"}
        response = await door.person.http.get("/oauth/consent", params=form)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_consent_cannot_be_given_by_scripts_of_other_origins() -> None:
    """PROTOCOL M6: no CORS here."""
    async with BrokerDoor() as door:
        form = {"request": request_in(await door.person.opens()), "decision": "approve"}
        response = await door.person.http.post("/oauth/consent", data=form, headers={"Origin": "https://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control-")]


# What a browser remembers


REMEMBERED = {"scope": "mail files", "redirect_uri": CALLBACK, "resource": f"{ISSUER}/mcp"}
TWO_RESOURCES = {"resources": f"{ISSUER}/mcp,{ISSUER}/other"}
NATIVE = "com.example.app://app.example/callback"
LOCAL_TLS = "https://localhost:8443/callback"
APP = KnownClients(
    Client(
        client_id=PUBLIC.client_id,
        issued_at=1,
        redirect_uris=(
            CALLBACK,
            f"{CALLBACK}/other",
            "https://two.example/",
            "http://127.0.0.1/callback",
            NATIVE,
            LOCAL_TLS,
        ),
    ),
    Client(client_id="another", issued_at=1, redirect_uris=(CALLBACK,)),
)


async def remembering(door: BrokerDoor, **changes: str) -> httpx.Response:
    """Somebody who does not want to be asked again."""
    page = await door.person.opens(**{**REMEMBERED, **changes})
    return await door.person.decides(page, remember="on")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scope": "files"},
        {"scope": "files mail"},
        {"redirect_uri": f"{CALLBACK}/other"},
        {"resource": None},
        {"resource": f"{ISSUER}/mcp/"},
        {"state": "another"},
    ],
)
async def test_who_is_remembered_goes_to_the_identity_provider_at_once(changes: dict[str, str | None]) -> None:
    async with BrokerDoor(clients=APP, settings=TWO_RESOURCES) as door:
        await remembering(door)
        before = await door.samples()
        response = await door.person.opens(**{**REMEMBERED, **changes})
        assert response.status_code == 302
        assert response.headers["location"].startswith(f"{IDP}/authorize?")
        assert increases(before, await door.samples()) == {'oauth_authorization_requests_total{result="success"}': 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "another"},
        {"redirect_uri": "https://two.example/"},
        {"redirect_uri": "http://127.0.0.1:9/callback"},
        {"redirect_uri": NATIVE},
        {"resource": f"{ISSUER}/other"},
        {"scope": "mail files admin"},
        {"scope": "mailbox"},
        # No scopes by name is as far as the server lets the client go.
        {"scope": None},
    ],
)
async def test_what_was_not_consented_to_is_asked_for_again(changes: dict[str, str | None]) -> None:
    async with BrokerDoor(clients=APP, settings=TWO_RESOURCES) as door:
        await remembering(door)
        response = await door.person.opens(**{**REMEMBERED, **changes})
        assert response.status_code == 200
        assert request_in(response)


async def test_a_consent_without_scopes_covers_none_by_name() -> None:
    async with BrokerDoor() as door:
        page = await door.person.opens()
        await door.person.decides(page, remember="on")
        assert (await door.person.opens()).status_code == 302
        assert (await door.person.opens(scope="mail")).status_code == 200


KEYS = {"jwks": {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}}
SECRET = "8Jr2kqPz0vXwT5bYcN7mLhD1sGfA3eRu"
IN_SETTINGS = {"redirect_uris": [CALLBACK]}
MEMORY = {
    "clients": [
        {"client_id": "public-in-the-settings", **IN_SETTINGS},
        {"client_id": "with-a-secret", "client_secret": SECRET, "ask_consent": True, **IN_SETTINGS},
        {"client_id": "with-keys", "ask_consent": True, **KEYS, **IN_SETTINGS},
    ]
}
DOCUMENT = "https://app.example/client.json"


@pytest.mark.parametrize(
    ("changes", "remembered"),
    [
        ({}, True),
        # RFC 8252 §8.6: any program may listen there, or register the scheme.
        ({"redirect_uri": "http://127.0.0.1:7/callback"}, False),
        ({"redirect_uri": LOCAL_TLS}, False),
        ({"redirect_uri": NATIVE}, False),
        # THREATS 21: others know these, and could begin a login in their name.
        ({"client_id": DOCUMENT}, False),
        ({"client_id": "public-in-the-settings"}, False),
        # Nobody else can redeem their codes.
        ({"client_id": "with-a-secret"}, True),
        ({"client_id": "with-keys"}, True),
    ],
    ids=str,
)
async def test_a_consent_is_remembered_where_nobody_else_can_make_use_of_it(
    changes: dict[str, str], remembered: bool
) -> None:
    """PROTOCOL A13, THREATS 24."""

    def published(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=document(str(request.url)))

    async with BrokerDoor(clients=APP, documents=published, settings=MEMORY) as door:
        page = await door.person.opens(**{**REMEMBERED, **changes})
        assert ("remember" in page.text) == remembered
        await door.person.decides(page, remember="on")
        response = await door.person.opens(**{**REMEMBERED, **changes})
        assert response.status_code == (302 if remembered else 200)


@pytest.mark.parametrize("client_id", ["https://app.example/client.json", "public-in-the-settings"])
async def test_a_consent_that_was_remembered_before_it_could_be_misused_is_not_honoured(client_id: str) -> None:
    """THREATS 21: cookies of an older release, or of before a client became known, are still in browsers."""

    def published(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=document(str(request.url)))

    before = KnownClients(Client(client_id="registered", issued_at=1, redirect_uris=(CALLBACK,)))
    async with BrokerDoor(clients=before, documents=published, settings=MEMORY) as door:
        response = Response()
        request = Request({"type": "http", "headers": []})
        sealer = sealer_of(Settings(**{**SETTINGS, **door.settings}))
        browser = BrowserCookies(request, sealer, secure=True, consent_days=30)
        browser.keep_on(response)
        consent = Consent(client_id, "app.example", ("mail", "files"), f"{ISSUER}/mcp", can_be_remembered=True)
        browser.remember(consent, response, door.now())
        for cookie in response.headers.getlist("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            door.person.http.cookies.set(name, value, domain="door.example")
        assert (await door.person.opens(**{**REMEMBERED, "client_id": client_id})).status_code == 200


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({}, True),
        ({"ask_consent": False}, False),
        ({"client_secret": SECRET}, False),
        ({"client_secret": SECRET, "ask_consent": True}, True),
        (KEYS, False),
    ],
    ids=["public", "public and trusted", "confidential", "confidential and not trusted", "with keys"],
)
async def test_for_a_client_in_the_settings_the_operator_decides_whether_its_users_are_asked(
    members: dict[str, Any], asked: bool
) -> None:
    """THREATS 21: without a word of theirs, those are asked whose codes anybody can redeem."""
    settings = {"clients": [{"client_id": "client", **IN_SETTINGS, **members}]}
    async with BrokerDoor(settings=settings) as door:
        response = await door.person.opens(client_id="client")
    assert response.status_code == (200 if asked else 302)


async def test_an_error_goes_to_the_client_by_itself_once_its_user_has_consented_in_this_browser() -> None:
    """PROTOCOL A14."""
    async with BrokerDoor() as door:
        assert (await door.person.opens(response_type="token")).status_code == 400
        await remembering(door)
        assert (await door.person.opens(response_type="token")).status_code == 302
        assert (await door.somebody().opens(response_type="token")).status_code == 400


async def test_who_denies_is_told_so_and_stays_here() -> None:
    """PROTOCOL A14: they may have denied because they do not want to go where the link would have led."""
    async with BrokerDoor(clients=APP) as door:
        response = await door.person.decides(await door.person.opens(redirect_uri=NATIVE), "deny")
    assert "You denied access" in response.text
    assert "http-equiv" not in response.text
    assert query_of(link_in(response))["error"] == "access_denied"


async def test_a_consent_is_remembered_in_its_own_browser_only() -> None:
    """PROTOCOL A12: also when the cookie is carried to another one."""
    async with BrokerDoor() as door:
        await remembering(door)
        other = door.somebody()
        assert (await other.opens(**REMEMBERED)).status_code == 200
        for name, value in door.person.http.cookies.items():
            if "consent" in name:
                other.http.cookies.set(name, value)
        assert (await other.opens(**REMEMBERED)).status_code == 200


async def test_a_consent_is_forgotten_after_the_days_that_the_operator_sets() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock, settings={"consent_days": 2}) as door:
        response = await remembering(door)
        assert "Max-Age=172800" in response.headers["set-cookie"]
        clock.seconds += 2 * 86_400
        assert (await door.person.opens(**REMEMBERED)).status_code == 302
        clock.seconds += 1
        assert (await door.person.opens(**REMEMBERED)).status_code == 200


async def test_nothing_is_remembered_where_the_operator_does_not_want_that() -> None:
    async with BrokerDoor(settings={"consent_days": 0}) as door:
        page = await door.person.opens(**REMEMBERED)
        assert "remember" not in page.text
        response = await door.person.decides(page, remember="on")
        assert "set-cookie" not in response.headers
        assert (await door.person.opens(**REMEMBERED)).status_code == 200


async def test_what_was_remembered_before_is_not_any_more_where_the_operator_stops_that() -> None:
    async with BrokerDoor() as before, BrokerDoor(settings={"consent_days": 0}) as after:
        await remembering(before)
        after.person.http.cookies = before.person.http.cookies
        assert (await after.person.opens(**REMEMBERED)).status_code == 200


async def test_nothing_is_remembered_unasked_or_of_a_denial() -> None:
    async with BrokerDoor() as door:
        page = await door.person.opens(**REMEMBERED)
        assert "set-cookie" not in (await door.person.decides(page)).headers
        assert "set-cookie" not in (await door.person.decides(page, "deny", remember="on")).headers
        assert (await door.person.opens(**REMEMBERED)).status_code == 200


@pytest.mark.parametrize("forged", ["", "x", "x" * 5000])
async def test_a_cookie_that_was_made_up_is_no_consent(forged: str) -> None:
    async with BrokerDoor() as door:
        await remembering(door)
        for cookie in door.person.http.cookies.jar:
            if "consent" in cookie.name:
                cookie.value = forged
        assert (await door.person.opens(**REMEMBERED)).status_code == 200


async def test_the_question_of_another_client_is_not_answered_by_the_cookie_of_one() -> None:
    """The cookie's name says which consent it is, and so does its content."""
    async with BrokerDoor(clients=APP) as door:
        await remembering(door)
        await door.person.decides(await door.person.opens(**REMEMBERED, client_id="another"), remember="on")
        first, second = [cookie for cookie in door.person.http.cookies.jar if "consent" in cookie.name]
        first.value, second.value = second.value, first.value
        assert (await door.person.opens(**REMEMBERED)).status_code == 200
        assert (await door.person.opens(**REMEMBERED, client_id="another")).status_code == 200


async def test_cookies_are_for_this_host_over_https_and_out_of_reach_of_scripts() -> None:
    """RFC 6265bis §4.1.3.2, the prefix `__Host-`."""
    async with BrokerDoor() as door:
        page = await door.person.opens(**REMEMBERED)
        consent = await door.person.decides(page, remember="on")
    for response in (page, consent):
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-seed-oauth")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
