"""`/oauth/authorize` in the broker flow: the question for consent, and what the identity provider is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from seed_oauth.clients import Client
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import AuthorizationOutcome as Row
from tests.broker import IDP, BrokerDoor, Clock, KnownClients, PlayedMetadata, request_in
from tests.endpoints.test_authorization import CASES as CASES_OF_BOTH_FLOWS
from tests.endpoints.test_authorization import Case as AuthorizationCase
from tests.harness import (
    CALLBACK,
    CODE_CHALLENGE,
    ISSUER,
    PUBLIC,
    BrokenStore,
    RelayDoor,
    authorization_request,
    increases,
    json_of,
    query_of,
    rows_of_every_endpoint,
)

pytestmark = pytest.mark.anyio

TRUSTED = replace(PUBLIC, preregistered=True, trusted=True)
DOWN = IdentityProviderError(IdentityProviderFailure.UNREACHABLE)


@dataclass
class Case:
    """A request that ends in `row`."""

    row: Row
    client: Client = PUBLIC
    changes: Mapping[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    status: int = 302
    counted: Mapping[str, float] = field(default_factory=dict)


SUCCESS = {'oauth_authorization_requests_total{result="success"}': 1.0}
IDP_DOWN = {
    'oauth_authorization_requests_total{result="error"}': 1.0,
    'oauth_errors_total{cause="idp",endpoint="authorize",reason="idp_unavailable"}': 1.0,
}
CASES = [
    # `success` is the redirect to the identity provider, not the question that comes before it.
    Case(Row.CONSENT_ASKED, status=200),
    Case(Row.CONSENT_ASKED, status=200, failure=DOWN),
    Case(Row.REDIRECTED_TO_IDP, TRUSTED, counted=SUCCESS),
    Case(Row.REDIRECTED_TO_IDP, TRUSTED, {"scope": "mail", "resource": f"{ISSUER}/mcp"}, counted=SUCCESS),
    Case(Row.IDP_UNAVAILABLE, TRUSTED, failure=DOWN, counted=IDP_DOWN),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{case.client.trusted}-{case.failure}")
async def test_a_good_request_is_answered_and_counted_as_its_row(case: Case) -> None:
    async with BrokerDoor(clients=KnownClients(case.client), metadata=PlayedMetadata(failure=case.failure)) as door:
        before = await door.samples()
        response = await door.person.opens(**case.changes)
        assert response.status_code == case.status
        assert response.headers["cache-control"] == "no-store"
        if case.row is Row.REDIRECTED_TO_IDP:
            assert response.headers["location"].startswith(f"{IDP}/authorize?")
        if case.row is Row.IDP_UNAVAILABLE:
            # PROTOCOL A5 and A8.
            told = query_of(response.headers["location"])
            assert (told["error"], told["state"], told["iss"]) == ("temporarily_unavailable", "opaque state", ISSUER)
        assert increases(before, await door.samples()) == case.counted
        assert door.idp_requests == []


def test_every_row_of_the_table_is_reached_in_one_flow_or_the_other() -> None:
    reached = {case.row for case in CASES} | {case.row for case in CASES_OF_BOTH_FLOWS}
    assert reached | rows_of_every_endpoint(Row) == set(Row)


@pytest.mark.parametrize("case", CASES_OF_BOTH_FLOWS, ids=lambda case: f"{case.row.reason}-{case.changes}")
async def test_the_same_checks_in_the_same_order_come_before_the_question(case: AuthorizationCase) -> None:
    clients = BrokenStore() if case.broken_store else None
    async with (
        RelayDoor(settings=case.settings, clients=clients) as relay,
        BrokerDoor(settings=case.settings, clients=clients) as broker,
    ):
        in_relay, in_broker = [await door.authorize(**case.changes) for door in (relay, broker)]
        assert in_relay.status_code == in_broker.status_code
        assert in_relay.content == in_broker.content
        assert in_relay.headers.get("location") == in_broker.headers.get("location")
        assert await broker.error_count(case.row) == 1
        assert "set-cookie" not in in_broker.headers


# What the identity provider is asked


async def test_the_identity_provider_is_asked_with_a_state_and_a_pkce_pair_of_our_own() -> None:
    async with BrokerDoor() as door:
        idp = query_of(await door.person.reaches_idp(scope="mail files"))
    assert idp == {
        "response_type": "code",
        "client_id": "proxy",
        "redirect_uri": f"{ISSUER}/oauth/callback",
        "code_challenge": idp["code_challenge"],
        "code_challenge_method": "S256",
        "state": idp["state"],
        "scope": "mail files",
        "resource": f"{ISSUER}/mcp",
    }
    assert idp["code_challenge"] != CODE_CHALLENGE
    assert len(idp["code_challenge"]) == 43
    # Nothing of the client's is to be read there.
    for ours in (CALLBACK, "opaque", CODE_CHALLENGE, PUBLIC.client_id + '"'):
        assert ours not in idp["state"]


async def test_each_login_has_a_state_a_pkce_pair_and_a_nonce_of_its_own() -> None:
    async with BrokerDoor() as door:
        first, second = [query_of(await door.person.reaches_idp(scope="openid")) for _ in range(2)]
    for name in ("state", "code_challenge", "nonce"):
        assert first[name] != second[name]


@dataclass
class Asked:
    """What a client asks for, and what the identity provider is asked for then; None for not at all."""

    changes: Mapping[str, str | None]
    settings: Mapping[str, Any]
    idp: Mapping[str, str | None]


ASKED = [
    Asked({"scope": None}, {}, {"scope": None, "nonce": None}),
    Asked({"scope": "mail"}, {}, {"scope": "mail", "nonce": None}),
    Asked({"scope": None}, {"idp_scopes": "openid offline_access"}, {"scope": "openid offline_access"}),
    Asked({"scope": "mail openid"}, {"idp_scopes": "openid"}, {"scope": "mail openid"}),
    Asked({"scope": "mail mail"}, {}, {"scope": "mail"}),
    Asked({"scope": "mail offline_access"}, {"idp_dropped_scopes": "offline_access"}, {"scope": "mail"}),
    Asked({"scope": "offline_access"}, {"idp_dropped_scopes": "offline_access"}, {"scope": None}),
    Asked({"scope": "openid"}, {"idp_dropped_scopes": "openid"}, {"scope": None, "nonce": None}),
    # What the operator adds is added, whatever is dropped of the client's own.
    Asked({"scope": "a b"}, {"idp_dropped_scopes": "a", "idp_scopes": "a"}, {"scope": "b a"}),
    Asked({"resource": None}, {}, {"resource": f"{ISSUER}/mcp"}),
    Asked({"resource": f"{ISSUER}/MCP"}, {"resources": f"{ISSUER}/mcp {ISSUER}/MCP"}, {"resource": f"{ISSUER}/MCP"}),
    # Entra ID refuses it.
    Asked({"resource": f"{ISSUER}/mcp"}, {"idp_send_resource": False}, {"resource": None}),
    Asked({}, {"idp_authorization_parameters": {"prompt": "consent"}}, {"prompt": "consent"}),
    # What a client adds of its own goes nowhere.
    Asked({"prompt": "none", "nonce": "the client's", "unheard_of": "x"}, {}, {"prompt": None, "nonce": None}),
    Asked({"login_hint": "somebody", "request_uri": "urn:x"}, {}, {"login_hint": None, "request_uri": None}),
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: f"{asked.changes}-{asked.settings}")
async def test_the_identity_provider_is_asked_for_what_the_client_and_the_operator_want(asked: Asked) -> None:
    async with BrokerDoor(settings=asked.settings) as door:
        idp = query_of(await door.person.reaches_idp(**asked.changes))
    assert {name: idp.get(name) for name in asked.idp} == asked.idp


async def test_a_nonce_is_sent_where_an_id_token_is_asked_for() -> None:
    """OpenID Connect Core §3.1.2.1; it is a hash, so the state does not tell it."""
    async with BrokerDoor(settings={"idp_scopes": "openid"}) as door:
        idp = query_of(await door.person.reaches_idp())
    assert len(idp["nonce"]) == 43
    assert idp["nonce"] != idp["code_challenge"]
    assert idp["nonce"] not in idp["state"]


async def test_the_identity_providers_own_query_survives() -> None:
    async with BrokerDoor(settings={"idp_authorization_url": f"{IDP}/authorize?tenant=a%26b"}) as door:
        assert query_of(await door.person.reaches_idp())["tenant"] == "a&b"


# Who is asked


async def test_the_question_names_who_asks_and_what_for_and_says_what_it_is_worth() -> None:
    """PROTOCOL A11; what the page makes of hostile names is in test_pages.py."""
    async with BrokerDoor() as door:
        client = json_of(
            await door.register(redirect_uris=["http://127.0.0.1/callback"], client_name="Claude <b>Code</b>")
        )
        page = await door.person.opens(
            client_id=str(client["client_id"]), redirect_uri="http://127.0.0.1:7/callback", scope="mail files"
        )
    for shown in ("Claude &lt;b&gt;Code", "127.0.0.1:7", "mail", "files", f"{ISSUER}/mcp", "Any program on this"):
        assert shown in page.text
    assert f'action="{ISSUER}/oauth/consent"' in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"


async def test_a_client_that_the_operator_vouches_for_needs_no_consent_but_a_browser() -> None:
    """PROTOCOL A12 holds for it, too."""
    async with BrokerDoor(clients=KnownClients(TRUSTED)) as door:
        response = await door.person.opens()
        assert response.status_code == 302
        assert "__Host-seed-oauth-" in response.headers["set-cookie"]
        stranger = door.somebody()
        assert (await stranger.logs_in(response.headers["location"])).status_code == 403
        assert (await door.person.logs_in(response.headers["location"])).status_code == 302


async def test_a_browser_keeps_the_cookie_that_it_has() -> None:
    async with BrokerDoor() as door:
        first, second = await door.person.opens(), await door.person.opens()
        assert "set-cookie" in first.headers
        assert "set-cookie" not in second.headers


async def test_a_question_may_be_asked_by_post_too() -> None:
    """PROTOCOL A10 (OAuth 2.1 §3.1)."""
    async with BrokerDoor() as door:
        page = await door.person.http.post("/oauth/authorize", data=authorization_request())
        assert (await door.person.decides(page)).status_code == 200


async def test_over_http_on_loopback_the_cookie_has_no_prefix_that_browsers_refuse_there() -> None:
    issuer = "http://127.0.0.1:8000"
    async with BrokerDoor(settings={"issuer": issuer}) as door:
        response = await door.person.http.get(f"{issuer}/oauth/authorize", params=authorization_request())
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("seed-oauth-")
        assert "Secure" not in cookie
        form = {"request": request_in(response), "decision": "approve"}
        assert (await door.person.http.post(f"{issuer}/oauth/consent", data=form)).status_code == 200


async def test_logins_that_are_begun_and_never_finished_leave_nothing_behind() -> None:
    async with BrokerDoor(clients=KnownClients(PUBLIC), settings={"store_url": "sqlite:////nowhere/at/all"}) as door:
        # There is no store to leave anything in.
        assert (await door.person.logs_in(await door.person.reaches_idp())).status_code == 302


# Keys


async def test_a_new_key_logs_nobody_out_in_the_middle_of_a_login() -> None:
    old, new = "the-key-that-was-used-until-yesterday-9", "the-key-that-is-used-from-now-on-12345"
    clock = Clock()
    async with (
        BrokerDoor(settings={"secret_keys": (old,)}, now=clock) as before,
        BrokerDoor(settings={"secret_keys": (new, old)}, now=clock) as after,
        BrokerDoor(settings={"secret_keys": (new,)}, now=clock) as later,
    ):
        after.provider = later.provider = before.provider
        person, again, stranger = before.person, after.person, later.person
        page = await person.opens(scope="mail")
        again.http.cookies = stranger.http.cookies = person.http.cookies
        consent = {"remember": "on"}
        assert (await stranger.decides(page)).status_code == 400
        assert (await again.decides(page, **consent)).status_code == 200
        onward = await person.reaches_idp(scope="mail")
        assert (await again.logs_in(onward)).status_code == 302
        assert (await again.opens(scope="mail")).status_code == 302, "it is remembered"
