"""`/oauth/callback`: what the identity provider may send back, and in whose browser (PROTOCOL A12)."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from seed_oauth.clients import Client
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import CallbackOutcome as Row
from tests.broker import (
    IDP,
    METADATA,
    BrokerDoor,
    Clock,
    KnownClients,
    PlayedHeldResponses,
    PlayedMetadata,
    jwt_of,
    request_in,
    target_of,
)
from tests.endpoints.test_token import FAILED, Failed
from tests.harness import CALLBACK, ISSUER, code_request, increases, json_of, query_of, rows_of_every_endpoint

pytestmark = pytest.mark.anyio

SOMEBODY_ELSE, NO_COOKIES = "somebody else", "no cookies"


@dataclass
class Case:
    """A return that ends in `row`: what the identity provider sends besides a good state, and in whose browser."""

    row: Row
    sent: Mapping[str, str | None] = field(default_factory=lambda: {"code": "idp code"})
    by: str = "the same"
    after: float = 0.0
    told: bool = False
    """Whether the client is told, by way of its redirect_uri."""
    sends_issuer: bool = False


FOREIGN = "https://evil.example"
CASES = [
    # THREATS 6: an answer that belongs to no login of ours.
    Case(Row.BAD_STATE, {"code": "x", "state": None}),
    Case(Row.BAD_STATE, {"code": "x", "state": "made up"}),
    Case(Row.BAD_STATE, {"code": "x", "state": "ü" * 2000}),
    Case(Row.BAD_STATE, {"error": "access_denied", "state": "made up"}),
    Case(Row.EXPIRED, after=1801),
    # PROTOCOL A12, THREATS 4 and 5: begun in one browser, finished in another.
    Case(Row.OTHER_BROWSER, by=SOMEBODY_ELSE),
    Case(Row.OTHER_BROWSER, by=NO_COOKIES),
    Case(Row.OTHER_BROWSER, {"error": "access_denied"}, by=SOMEBODY_ELSE),
    # RFC 9207 §2.4, THREATS 6: mix-up.
    Case(Row.WRONG_ISSUER, {"code": "x", "iss": FOREIGN}),
    Case(Row.WRONG_ISSUER, {"code": "x", "iss": f"{IDP}/"}),
    Case(Row.WRONG_ISSUER, {"code": "x", "iss": FOREIGN}, sends_issuer=True),
    Case(Row.WRONG_ISSUER, {"code": "x"}, sends_issuer=True),
    Case(Row.WRONG_ISSUER, {"error": "access_denied", "iss": FOREIGN}),
    # RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6.
    Case(Row.DENIED, {"error": "access_denied"}, told=True),
    Case(Row.DENIED, {"error": "access_denied", "code": "and yet a code"}, told=True),
    Case(Row.DENIED, {"error": "login_required"}, told=True),
    Case(Row.DENIED, {"error": "interaction_required"}, told=True),
    Case(Row.IDP_INVALID_SCOPE, {"error": "invalid_scope"}, told=True),
    Case(Row.IDP_INVALID_TARGET, {"error": "invalid_target"}, told=True),
    Case(Row.IDP_REFUSED, {"error": "unauthorized_client"}, told=True),
    Case(Row.IDP_REFUSED, {"error": "invalid_request", "error_description": "redirect_uri?"}, told=True),
    Case(Row.IDP_REFUSED, {"error": "<script>alert(1)</script>"}, told=True),
    Case(Row.IDP_FAILED, {"error": "server_error"}, told=True),
    Case(Row.IDP_FAILED, {"error": "temporarily_unavailable", "iss": IDP}, told=True, sends_issuer=True),
    Case(Row.NO_CODE, {}, told=True),
    Case(Row.NO_CODE, {"code": ""}, told=True),
    Case(Row.NO_CODE, {"code": "a\r\nb"}, told=True),
    Case(Row.NO_CODE, {"error": "access\x00denied"}, told=True),
    Case(Row.IDP_REFUSED, {"error": "invalid_resource"}, told=True),
    Case(Row.DENIED, {"error": "unmet_authentication_requirements"}, told=True),
    # Text for people may look like anything.
    *[
        Case(Row.DENIED, {"error": "access_denied", "error_description": words}, told=True)
        for words in (
            "AADSTS65004: declined.\r\nTrace ID: 1",
            "no-break\u00a0space",
            "全角\u3000",
            "tab\t",
            "👩\u200d💻",
            "\x1b",
        )
    ],
    # The order of the checks decides the row.
    Case(Row.EXPIRED, {"iss": FOREIGN}, by=SOMEBODY_ELSE, after=1801),
    Case(Row.OTHER_BROWSER, {"iss": FOREIGN}, by=NO_COOKIES),
    Case(Row.WRONG_ISSUER, {"iss": FOREIGN}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{case.sent}-{case.by}")
async def test_a_return_without_a_code_for_the_client_is_answered_and_counted_as_its_row(case: Case) -> None:
    """PROTOCOL A5, A8 and A12; THREATS 4, 5, 6 and 18; each case says which."""
    clock = Clock()
    metadata = PlayedMetadata(replace(METADATA, sends_issuer=case.sends_issuer))
    async with BrokerDoor(metadata=metadata, now=clock) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        other = door.somebody()
        if case.by is SOMEBODY_ELSE:
            await other.opens()
        clock.seconds += case.after
        sent = {"state": state, **case.sent}
        before = await door.samples()
        http = door.person.http if case.by == "the same" else other.http
        response = await http.get(
            "/oauth/callback",
            params={name: value for name, value in sent.items() if value is not None},
            headers={"Accept": "*/*"},
        )

        if case.told:
            # PROTOCOL A5 and A8.
            assert response.status_code == 302
            assert response.headers["location"].startswith(f"{CALLBACK}?")
            told = query_of(response.headers["location"])
            assert (told["error"], told["state"], told["iss"]) == (case.row.error, "opaque state", ISSUER)
            assert told.keys() == {"error", "error_description", "state", "iss"}
            assert "redirect_uri?" not in response.headers["location"], "the identity provider's prose is not passed on"
        else:
            assert response.status_code == case.row.status
            assert json_of(response)["error"] == case.row.error
            assert "location" not in response.headers
        assert response.headers["cache-control"] == "no-store"
        assert "set-cookie" not in response.headers
        assert increases(before, await door.samples()) == {
            f'oauth_callbacks_total{{result="{case.row.result}"}}': 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="callback",reason="{case.row.reason}"}}': 1,
        }
        assert door.idp_requests == []


@pytest.mark.parametrize("case", FAILED, ids=lambda case: f"{case.row.reason}-{case.idp_outcome}")
async def test_an_exchange_that_fails_is_counted_and_timed_once_and_the_client_is_told(case: Failed) -> None:
    """PROTOCOL A5 and A8; the codes are those of RFC 6749 §4.1.2.1 and RFC 8707 §2."""
    row = Row[case.row.name]
    async with BrokerDoor(idp=case.idp) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        before = await door.samples()
        response = await door.person.returns(code="idp code", state=state)
        grown = increases(before, await door.samples())

    assert response.status_code == 302
    told = query_of(response.headers["location"])
    assert response.headers["location"].startswith(f"{CALLBACK}?")
    assert told.keys() == {"error", "error_description", "state", "iss"}
    assert (told["error"], told["state"], told["iss"]) == (row.error, "opaque state", ISSUER)
    assert told["error"] in {
        "access_denied", "invalid_scope", "invalid_target", "server_error", "temporarily_unavailable",
    }  # fmt: skip
    labels = 'grant_type="authorization_code"'
    grown = {name: by for name, by in grown.items() if not name.startswith("http_client")}
    assert grown == {
        f'oauth_token_exchanges_total{{{labels},result="failure"}}': 1,
        f"oauth_token_exchange_duration_seconds_count{{{labels}}}": 1,
        f'oauth_callbacks_total{{result="{row.result}"}}': 1,
        f'oauth_errors_total{{cause="{row.cause}",endpoint="callback",reason="{row.reason}"}}': 1,
        f'oauth_idp_requests_total{{operation="token",outcome="{case.idp_outcome}"}}': 1,
        f'oauth_idp_request_duration_seconds_count{{operation="token",outcome="{case.idp_outcome}"}}': 1,
    }
    assert len(door.idp_requests) == 1, "a code must never be sent twice"


def answering(members: Mapping[str, object]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, json={"access_token": "at", **members})


@pytest.mark.parametrize(
    ("nonce", "row"),
    [(None, Row.IDP_NO_NONCE), *((nonce, Row.IDP_WRONG_NONCE) for nonce in ("", "another", 7, ["another"]))],
)
async def test_an_id_token_of_another_login_is_not_taken(nonce: object, row: Row) -> None:
    """OpenID Connect Core §3.1.3.7, number 11; THREATS 6."""
    claims = {"sub": "somebody"} | ({} if nonce is None else {"nonce": nonce})
    async with BrokerDoor(idp=answering({"id_token": jwt_of(claims)})) as door:
        state = query_of(await door.person.reaches_idp(scope="openid mail"))["state"]
        response = await door.person.returns(code="idp code", state=state)
        told = query_of(response.headers["location"])
        assert told.keys() == {"error", "error_description", "state", "iss"}
        assert told["error"] == "server_error"
        assert await door.error_count(row) == 1
        # The identity provider did give tokens: that was a success of the exchange.
        labels = {"grant_type": "authorization_code", "result": "success"}
        assert await door.value("oauth_token_exchanges_total", **labels) == 1


async def test_only_a_login_that_succeeded_writes_to_the_store(tmp_path: Path) -> None:
    """THREATS 32: nobody can fill it without an account."""
    path = tmp_path / "store.db"

    def rows() -> int:
        with closing(sqlite3.connect(path)) as connection:
            (number,) = connection.execute("SELECT count(*) FROM sealed_token_responses").fetchone()
            return int(number)

    async with BrokerDoor(settings={"store_url": f"sqlite:///{path}"}) as door:
        await door.person.goes_through()
        assert rows() == 1
        for sent in ({"code": "made up"}, {"error": "access_denied"}, {}):
            state = query_of(await door.person.reaches_idp())["state"]
            await door.person.returns(state=state, **sent)
        assert rows() == 1


async def test_tokens_that_cannot_be_held_for_the_client_are_trouble_that_passes() -> None:
    held = PlayedHeldResponses()
    async with BrokerDoor(held=held) as door:
        onward = await door.person.reaches_idp()
        held.failing = {"hold"}
        before = await door.samples()
        response = await door.person.logs_in(onward)
        told = query_of(response.headers["location"])
        assert (told["error"], told["state"]) == ("temporarily_unavailable", "opaque state")
        grown = increases(before, await door.samples())
        assert {name: by for name, by in grown.items() if "idp" not in name and "exchange" not in name} == {
            'oauth_callbacks_total{result="error"}': 1,
            'oauth_errors_total{cause="server",endpoint="callback",reason="store_failed"}': 1,
        }
        held.failing = set()
        assert (await door.token(code_request(code=await door.person.goes_through()))).status_code == 200


def test_every_row_of_the_table_has_a_case() -> None:
    apart = {
        Row.IDP_NO_NONCE,
        Row.IDP_WRONG_NONCE,
        Row.STORE_FAILED,
        Row.NOT_ALLOWED,  # test_access.py, as the next
        Row.IDP_BAD_ID_TOKEN,
        Row.IDP_WRONG_SUBJECT,
        Row.RETURNED,
        Row.CONSENT_ASKED,  # test_consent_after_login.py
        Row.SIGNED_IN,  # test_account.py, as the next
        Row.NO_SUBJECT,
        Row.CIRCUIT_OPEN,  # test_circuit_breaker.py, as the next
        Row.TOO_MANY_IN_FLIGHT,
    }
    failed = {Row[case.row.name] for case in FAILED}
    assert {case.row for case in CASES} | failed | rows_of_every_endpoint(Row) | apart == set(Row)


@pytest.mark.parametrize(
    "query",
    [
        "session_state=a&session_state=b",
        "unheard_of=%0d%0a",
        "unheard_of=%ff",
        "unheard_of=\u00e9",
        "%ff=x",
        "scope=a&scope=a&authuser=0&hd=%e3%80%80",
        "error_description=%00&error_description=again",
    ],
)
async def test_a_parameter_that_nobody_reads_kills_no_good_code(query: str) -> None:
    """RFC 6749 §3.1: unrecognized parameters are ignored."""
    async with BrokerDoor(idp=answering({})) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        cookies = "; ".join(f"{name}={value}" for name, value in door.person.http.cookies.items())
        sent = f"code=x&{query}&state={quote(state)}".encode("latin-1")
        response = await door.receive("GET", "callback", sent, [(b"cookie", cookies.encode())])
        assert query_of(response.headers["location"]).keys() == {"code", "state", "iss"}


@pytest.mark.parametrize("sent", [{}, {"iss": IDP}, {"session_state": "x", "unheard_of": "y"}])
async def test_a_code_of_ours_goes_to_the_client_with_its_state_and_our_issuer(sent: dict[str, str]) -> None:
    """PROTOCOL A8, M3 (RFC 9207)."""
    clock = Clock()
    async with BrokerDoor(idp=answering({}), metadata=PlayedMetadata(), now=clock) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        clock.seconds += 42
        before = await door.samples()
        response = await door.person.returns(code="idp code", state=state, **sent)

        assert response.status_code == 302
        assert response.headers["referrer-policy"] == "no-referrer"
        answer = query_of(response.headers["location"])
        assert answer.keys() == {"code", "state", "iss"}
        assert (answer["state"], answer["iss"]) == ("opaque state", ISSUER)
        assert "idp code" not in answer["code"]
        after = await door.samples()
        assert increases(before, after) == {
            'oauth_callbacks_total{result="success"}': 1,
            "oauth_authorization_wait_seconds_count{}": 1,
            'oauth_token_exchanges_total{grant_type="authorization_code",result="success"}': 1,
            'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': 1,
            'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
        }
        assert after["oauth_authorization_wait_seconds_sum", frozenset()] == pytest.approx(42, abs=0.1)
        assert len(door.idp_requests) == 1


async def test_an_issuer_is_told_to_strict_clients_byte_for_byte() -> None:
    """PROTOCOL A8 and M2, for an issuer with a path, too."""
    issuer = f"{ISSUER}/tenant"
    async with BrokerDoor(settings={"issuer": issuer}, idp=answering({})) as door:
        assert json_of(await door.http.get("/.well-known/oauth-authorization-server/tenant"))["issuer"] == issuer
        idp = query_of(await door.person.reaches_idp())
        assert idp["redirect_uri"] == f"{issuer}/oauth/callback"
        response = await door.person.http.get("/tenant/oauth/callback", params={"code": "x", "state": idp["state"]})
    assert query_of(response.headers["location"])["iss"] == issuer


async def test_a_client_that_sent_no_state_gets_none() -> None:
    async with BrokerDoor() as door:
        response = await door.person.logs_in(await door.person.reaches_idp(state=None))
        assert query_of(response.headers["location"]).keys() == {"code", "iss"}
        refused = await door.person.returns(
            state=query_of(await door.person.reaches_idp(state=None))["state"], error="access_denied"
        )
        assert "state" not in query_of(refused.headers["location"])


async def test_metadata_that_is_gone_is_trouble_of_the_identity_provider_and_spends_no_code() -> None:
    metadata = PlayedMetadata()
    async with BrokerDoor(metadata=metadata) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        metadata.failure = IdentityProviderError(IdentityProviderFailure.UNREACHABLE)
        response = await door.person.returns(code="x", state=state)
        assert query_of(response.headers["location"])["error"] == "temporarily_unavailable"
        assert await door.error_count(Row.IDP_UNREACHABLE) == 1
        assert door.idp_requests == []


async def test_an_envelope_of_another_purpose_is_no_state() -> None:
    async with BrokerDoor() as door:
        code = await door.person.goes_through()
        question = request_in(await door.person.opens())
        for envelope in (code, question):
            assert (await door.person.returns(code="x", state=envelope)).status_code == 400
        assert await door.error_count(Row.BAD_STATE) == 2


async def test_a_return_that_is_repeated_gives_no_second_code() -> None:
    """The identity provider's code is good for one exchange (PROTOCOL T5)."""
    async with BrokerDoor() as door:
        onward = await door.person.reaches_idp()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door.provider.app), base_url=IDP) as http:
            back = (await http.get(onward)).headers["location"]
        first, second = [query_of((await door.person.http.get(back)).headers["location"]) for _ in range(2)]
        assert second["error"] == "access_denied"
        assert await door.error_count(Row.IDP_INVALID_GRANT) == 1
        assert (await door.token(code_request(code=first["code"]))).status_code == 200


async def test_a_login_that_an_attacker_began_is_not_finished_by_a_victim() -> None:
    """THREATS 4: the attacker consents in their own browser and sends the victim on to the identity provider."""
    async with BrokerDoor() as door:
        attacker, victim = door.somebody(), door.somebody()
        await victim.goes_through()  # the victim uses the same client, too
        onward = await attacker.reaches_idp()
        response = await victim.logs_in(onward)
        assert response.status_code == 403
        assert "location" not in response.headers
        assert "began in another browser" in response.text


@pytest.mark.parametrize("disguise", [b"\xa0", b"\x85", b"\x0b", b"\x1c"])
async def test_no_other_host_can_give_a_browser_the_cookie_of_an_attacker(disguise: bytes) -> None:
    """THREATS 4: to a browser such a name has no `__Host-` prefix, so that a neighbouring host may set it for all of
    the domain (RFC 6265bis §4.1.3.2); Python takes the first character for a space."""
    async with BrokerDoor() as door:
        attacker = door.somebody()
        state = query_of(await attacker.reaches_idp())["state"]
        ((name, value),) = attacker.http.cookies.items()
        planted = [(b"cookie", b"theirs=1; " + disguise + f"{name}={value}".encode())]
        response = await door.receive("GET", "callback", f"code=x&state={state}".encode(), planted)
        assert response.status_code == 403
        genuine = [(b"cookie", f"theirs=\xa01; {name}={value}".encode("latin-1"))]
        response = await door.receive("GET", "callback", f"code=x&state={state}".encode(), genuine)
        assert response.status_code == 302


async def test_a_victim_is_not_logged_in_as_an_attacker() -> None:
    """THREATS 5: the attacker has logged in, and leaves the last step to the victim."""
    async with BrokerDoor() as door:
        attacker, victim = door.somebody(), door.somebody()
        await victim.opens()
        state = query_of(await attacker.reaches_idp())["state"]
        assert (await victim.returns(code="the attacker's", state=state)).status_code == 403


async def test_an_attackers_code_in_a_victims_login_fails_at_the_identity_provider() -> None:
    """THREATS 5: there, the code belongs to another PKCE pair than the login's (RFC 9700 §4.5)."""
    async with BrokerDoor() as door:
        attacker, victim = door.somebody(), door.somebody()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door.provider.app), base_url=IDP) as http:
            attackers_return = query_of((await http.get(await attacker.reaches_idp())).headers["location"])
        state = query_of(await victim.reaches_idp())["state"]
        response = await victim.returns(code=attackers_return["code"], state=state)
        assert query_of(response.headers["location"])["error"] == "access_denied"
        assert await door.error_count(Row.IDP_INVALID_GRANT) == 1


async def test_a_browser_whose_cookie_is_empty_begins_anew() -> None:
    async with BrokerDoor() as door:
        await door.person.opens()
        (cookie,) = door.person.http.cookies.jar
        cookie.value = ""
        returned = await door.person.logs_in(await door.person.reaches_idp())
        assert returned.status_code == 302


async def test_two_logins_in_one_browser_do_not_disturb_each_other() -> None:
    async with BrokerDoor() as door:
        first = await door.person.reaches_idp(state="first")
        second = await door.person.reaches_idp(state="second")
        for onward, state in ((second, "second"), (first, "first")):
            returned = await door.person.logs_in(onward)
            assert query_of(returned.headers["location"])["state"] == state


async def test_two_first_logins_at_once_in_one_browser_do_not_disturb_each_other() -> None:
    """Two tabs ask before either has a cookie."""
    async with BrokerDoor() as door:
        person, other_tab = door.person, door.somebody()
        pages = await person.opens(state="first"), await other_tab.opens(state="second")
        person.http.cookies.update(other_tab.http.cookies)
        for page, state in zip(pages, ("first", "second"), strict=True):
            returned = await person.logs_in(target_of(await person.decides(page)))
            assert query_of(returned.headers["location"])["state"] == state


@pytest.mark.parametrize(
    "state",
    ["a b&c=d#e", "ünï-cödé ✓", "%0d%0aSet-Cookie: x=y", "'\"<>\\", "x" * 8192, "é" * 4096, "${jndi:x}", "a%00b"],
    ids=lambda state: state[:12],
)
async def test_state_comes_back_exactly_as_sent_and_never_breaks_a_header(state: str) -> None:
    """PROTOCOL A5, THREATS 14."""
    async with BrokerDoor() as door:
        success = await door.person.logs_in(await door.person.reaches_idp(state=state))
        idp = query_of(await door.person.reaches_idp(state=state))["state"]
        refusal = await door.person.returns(state=idp, error="access_denied")
    for response in (success, refusal):
        assert response.headers["location"].isascii()
        assert query_of(response.headers["location"])["state"] == state


@pytest.mark.parametrize("state", ["a\r\nSet-Cookie: x=y", "a\x00", "a\u2028b"])
async def test_a_state_of_control_characters_never_begins_a_login(state: str) -> None:
    """THREATS 14; RFC 6749 appendix A.5 allows printable characters only."""
    async with BrokerDoor() as door:
        response = await door.person.http.get(f"/oauth/authorize?state={quote(state)}")
        assert response.status_code == 400
        assert "location" not in response.headers


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "com.example.app:/callback",
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "http://127.0.0.1:53682/callback",
        "http://[::1]:1/callback",
        "http://localhost:49152/callback",
        "https://app.example/callback?tenant=1",
    ],
)
async def test_the_client_gets_its_code_where_it_asked_for_it(redirect_uri: str) -> None:
    """PROTOCOL A6: native apps by a scheme of their own, or on loopback whatever the port."""
    registered = redirect_uri.replace(":49152", "").replace(":53682", "").replace(":1/", "/")
    clients = KnownClients(Client(client_id="native", issued_at=1, redirect_uris=(registered,)))
    async with BrokerDoor(clients=clients) as door:
        response = await door.person.logs_in(
            await door.person.reaches_idp(client_id="native", redirect_uri=redirect_uri)
        )
        location = response.headers["location"]
        assert location.startswith(redirect_uri)
        assert urlsplit(location).fragment == ""
        answer = query_of(location)
        form = code_request(code=answer["code"], client_id="native", redirect_uri=redirect_uri)
        assert (await door.token(form)).status_code == 200
        other_port = form | {"redirect_uri": redirect_uri.replace("49152", "49153")}
        if other_port != form:
            # What a code is bound to is the very URI, port included (PROTOCOL T4).
            assert json_of(await door.token(other_port))["error"] == "invalid_grant"


async def test_the_state_for_an_identity_provider_stays_small(record_property: Callable[[str, object], None]) -> None:
    """At most 700 bytes for an ordinary client: identity providers and proxies have limits for URLs."""
    ordinary = {
        "redirect_uri": "http://127.0.0.1:53682/callback",
        "state": "s" * 43,
        "scope": "openid profile email",
        "resource": f"{ISSUER}/mcp",
    }
    async with BrokerDoor() as door:
        client = json_of(await door.register(redirect_uris=["http://127.0.0.1/callback"], client_name="Claude Code"))
        onward = await door.person.reaches_idp(client_id=str(client["client_id"]), **ordinary)
    size = len(query_of(onward)["state"])
    record_property("state_bytes", size)
    print(f"state for the identity provider: {size} bytes, the whole URL: {len(onward)}")  # noqa: T201 - for -s
    assert size <= 700
    assert len(onward) <= 2000
