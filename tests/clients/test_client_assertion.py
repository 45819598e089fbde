"""PROTOCOL T3, private_key_jwt (RFC 7523): which assertion authenticates a client, and that it does so once."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any

import httpx
import orjson
import pytest
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, RSAKey

from seed_oauth.clients import Client
from seed_oauth.clients.assertion import ASSERTION_TYPE
from seed_oauth.clients.keys import REFETCH_AFTER, ClientKeys
from seed_oauth.outcomes import RevocationOutcome
from seed_oauth.outcomes import TokenOutcome as Row
from seed_oauth.storage.sqlite.assertions import SqliteUsedAssertions
from seed_oauth.storage.sqlite.database import Database
from tests.harness import CALLBACK, ISSUER, RelayDoor, code_request, document, json_of, refresh_request

pytestmark = pytest.mark.anyio

URL = "https://app.example/oauth/client.json"
JWKS_URI = "https://app.example/oauth/jwks.json"
KEY = ECKey.generate_key("P-256", {"kid": "one"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
OTHER = ECKey.generate_key("P-256", {"kid": "one"})


def jwks(*keys: Any) -> dict[str, object]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def claims(**changes: object) -> dict[str, Any]:
    good = {"iss": URL, "sub": URL, "aud": ISSUER, "exp": int(time()) + 60, "jti": str(time())}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(key: Any = KEY, header: Mapping[str, object] | None = None, **changes: object) -> str:
    return jwt.encode({"alg": "ES256", "kid": "one", **(header or {})}, claims(**changes), key)


def by_assertion(assertion: str, **changes: str | None) -> dict[str, str]:
    good = {"client_id": URL, "client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}
    return code_request(**{**good, **changes})


def publishing(*keys: Any, **changes: object) -> Callable[[httpx.Request], httpx.Response]:
    """What the client publishes: its document, and its keys apart."""
    content = document(URL, token_endpoint_auth_method="private_key_jwt", jwks_uri=JWKS_URI, **changes)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=content if str(request.url) == URL else jwks(*(keys or (KEY, RSA))))

    return answer


@pytest.mark.parametrize(
    "assertion",
    [
        signed,
        lambda: signed(aud=[ISSUER]),
        lambda: signed(exp=int(time()) - 50),  # within the clock's skew
        lambda: signed(iat=int(time()) + 50, nbf=int(time()) + 50),
        lambda: signed(exp=time() + 600),
        lambda: jwt.encode({"alg": "ES256"}, claims(), KEY),  # no kid: every key is tried
        lambda: jwt.encode({"alg": "PS256", "kid": "rsa"}, claims(), RSA, algorithms=["PS256"]),
        lambda: jwt.encode({"alg": "RS256", "kid": "rsa", "typ": "client-authentication+jwt"}, claims(), RSA),
    ],
    ids=range(8),
)
async def test_a_client_that_signs_with_its_key_is_authenticated(assertion: Callable[[], str]) -> None:
    async with RelayDoor(documents=publishing()) as door:
        response = await door.token(by_assertion(assertion()))
        assert response.status_code == 200, response.text
        assert len(door.idp_requests) == 1


async def test_the_client_id_may_be_left_out() -> None:
    """RFC 7521 §4.2."""
    async with RelayDoor(documents=publishing()) as door:
        assert (await door.token(by_assertion(signed(), client_id=None))).status_code == 200


async def test_the_keys_may_be_in_the_document() -> None:
    content = document(URL, token_endpoint_auth_method="private_key_jwt", jwks=jwks(KEY))
    async with RelayDoor(documents=lambda _: httpx.Response(200, json=content)) as door:
        assert (await door.token(by_assertion(signed()))).status_code == 200
        assert len(door.document_requests) == 1


async def test_a_client_authenticates_so_to_refresh_and_to_revoke_too() -> None:
    """PROTOCOL V1."""
    async with RelayDoor(documents=publishing()) as door:
        assertion = {"client_assertion_type": ASSERTION_TYPE, "client_id": URL}
        refreshed = await door.token({**refresh_request(), **assertion, "client_assertion": signed(jti="1")})
        assert refreshed.status_code == 200
        revocation = {"token": "t", **assertion, "client_assertion": signed(jti="2")}
        assert (await door.http.post("/oauth/revoke", data=revocation)).status_code == 200
        forged = {"token": "t", **assertion, "client_assertion": signed(OTHER)}
        assert (await door.http.post("/oauth/revoke", data=forged)).status_code == 401
        assert await door.error_count(RevocationOutcome.BAD_CLIENT_AUTHENTICATION) == 1


def unsigned() -> str:
    with pytest.warns(SecurityWarning):
        return jwt.encode({"alg": "none"}, claims(), KEY, algorithms=["none"])


SECRET = OctKey.import_key(b"0123456789abcdef0123456789abcdef")
REFUSED: list[tuple[Callable[[], str], str]] = [
    (lambda: signed(OTHER), "not signed with a key"),
    (lambda: signed(header={"kid": "two"}), "not signed with a key"),
    (lambda: signed(iss="https://evil.example/client.json"), "as its iss"),
    (lambda: signed(iss=None), "must have iss, sub, aud, exp and jti"),
    (lambda: signed(sub="https://evil.example/client.json"), "as its sub"),
    (lambda: signed(sub=None), "must have iss, sub, aud, exp and jti"),
    (lambda: signed(aud="https://other.example"), "as its only aud"),
    (lambda: signed(aud=f"{ISSUER}/"), "as its only aud"),
    (lambda: signed(aud=f"{ISSUER}/oauth/token"), "as its only aud"),
    (lambda: signed(aud=[ISSUER, f"{ISSUER}/oauth/token"]), "as its only aud"),
    (lambda: signed(aud=[ISSUER, "https://other.example"]), "as its only aud"),
    (lambda: signed(aud=[]), "as its only aud"),
    (lambda: signed(aud={"a": 1}), "as its only aud"),
    (lambda: signed(aud=None), "must have iss, sub, aud, exp and jti"),
    (lambda: signed(exp=int(time()) - 61), "has expired"),
    (lambda: signed(exp=None), "must have iss, sub, aud, exp and jti"),
    (lambda: signed(exp="soon"), "has expired"),
    (lambda: signed(exp=True), "has expired"),
    (lambda: signed(exp=int(time()) + 700), "must expire within 600 seconds"),
    (lambda: signed(exp=10**30), "must expire within 600 seconds"),
    (lambda: signed(nbf=int(time()) + 100), "not valid yet"),
    (lambda: signed(iat=int(time()) + 100), "issued in the future"),
    (lambda: signed(jti=None), "must have iss, sub, aud, exp and jti"),
    (lambda: signed(jti=7), "a string as its jti"),
    (unsigned, "must be signed with one of"),
    (lambda: jwt.encode({"alg": "HS256"}, claims(), SECRET), "must be signed with one of"),
    (lambda: "not.a.jwt", "is not a signed JWT"),
    (lambda: signed()[:-4], "not signed with a key"),
    (lambda: "x" * 5000, "is not a signed JWT"),
]


@pytest.mark.parametrize(("assertion", "objection"), REFUSED, ids=range(len(REFUSED)))
async def test_an_assertion_that_proves_nothing_is_refused(assertion: Callable[[], str], objection: str) -> None:
    """THREATS 16: other audiences and issuers, `none`, HMAC, unknown keys, expired, not yet valid."""
    async with RelayDoor(documents=publishing()) as door:
        response = await door.token(by_assertion(assertion()))
        assert response.status_code == 401
        assert json_of(response)["error"] == "invalid_client"
        assert objection in json_of(response)["error_description"]
        assert await door.error_count(Row.BAD_CLIENT_AUTHENTICATION) == 1
        assert door.idp_requests == []


async def test_an_exp_that_is_no_number_never_expires_nobody() -> None:
    header, _, signature = signed().split(".")
    payload = "eyJleHAiOk5hTn0"  # {"exp":NaN}
    async with RelayDoor(documents=publishing()) as door:
        assert (await door.token(by_assertion(f"{header}.{payload}.{signature}"))).status_code == 401


async def test_claims_that_are_no_json_are_refused() -> None:
    payload = orjson.dumps(claims(jti="@@")).replace(b"@@", rb"\ud800")
    async with RelayDoor(documents=publishing()) as door:
        assertion = jws.serialize_compact({"alg": "ES256", "kid": "one"}, payload, KEY)
        assert (await door.token(by_assertion(assertion))).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"client_assertion_type": None},
        {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        {"client_assertion": None},
        {"client_secret": "secret"},
        {"client_id": None, "client_assertion": "x.y.z"},
        {"client_id": None, "client_assertion": jwt.encode({"alg": "ES256"}, {"iss": URL}, KEY)},
    ],
    ids=range(6),
)
async def test_an_assertion_that_is_half_sent_or_not_the_only_one_is_malformed(changes: dict[str, str | None]) -> None:
    """RFC 6749 §2.3, RFC 7521 §4.2."""
    async with RelayDoor(documents=publishing()) as door:
        response = await door.token(by_assertion(signed(), **changes))
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_request")
        assert await door.error_count(Row.MALFORMED_REQUEST) == 1


async def test_an_assertion_and_an_authorization_header_are_one_too_many() -> None:
    async with RelayDoor(documents=publishing()) as door:
        response = await door.token(by_assertion(signed()), headers={"Authorization": "Basic YTpi"})
        assert await door.error_count(Row.MALFORMED_REQUEST) == 1
        assert response.status_code == 400


async def test_an_assertion_for_a_client_that_has_none_registered_is_refused() -> None:
    """PROTOCOL T3: as registered."""
    async with RelayDoor() as door:
        form = by_assertion(signed(), client_id="public")
        assert (await door.token(form)).status_code == 401
        assert await door.error_count(Row.BAD_CLIENT_AUTHENTICATION) == 1


async def test_a_client_with_a_key_is_not_authenticated_without_it() -> None:
    async with RelayDoor(documents=publishing()) as door:
        assert (await door.token(code_request(client_id=URL))).status_code == 401
        assert (await door.token(code_request(client_id=URL, client_secret="s"))).status_code == 401


async def test_a_client_that_lists_none_as_well_is_not_authenticated_without_its_key() -> None:
    """THREATS 28: what ChatGPT publishes."""
    listed = {"token_endpoint_auth_methods_supported": ["none", "private_key_jwt"]}
    async with RelayDoor(documents=publishing(**listed)) as door:
        assert (await door.token(code_request(client_id=URL))).status_code == 401
        assert (await door.token(by_assertion(signed()))).status_code == 200
        assert (await door.token(by_assertion(signed(OTHER)))).status_code == 401


async def test_an_assertion_is_good_for_one_request() -> None:
    async with RelayDoor(documents=publishing()) as door:
        assertion = signed()
        assert (await door.token(by_assertion(assertion))).status_code == 200
        again = await door.token(by_assertion(assertion))
        assert "was used before" in json_of(again)["error_description"]
        assert again.status_code == 401
        assert (await door.token(by_assertion(signed()))).status_code == 200


async def test_of_many_workers_that_get_an_assertion_at_once_one_accepts_it(tmp_path: Path) -> None:
    """THREATS 3: the race has one winner, across processes."""
    settings = {"store_url": f"sqlite:///{tmp_path}/door.db"}
    assertion = signed(jti="once")
    async with (
        RelayDoor(documents=publishing(), settings=settings) as one,
        RelayDoor(documents=publishing(), settings=settings) as two,
    ):
        responses = await asyncio.gather(
            *(door.token(by_assertion(assertion)) for door in (one, two) for _ in range(10))
        )
    assert sorted(response.status_code for response in responses) == [200] + [401] * 19


async def test_a_forged_assertion_uses_nothing_up() -> None:
    async with RelayDoor(documents=publishing()) as door:
        assert (await door.token(by_assertion(signed(OTHER, jti="same")))).status_code == 401
        assert (await door.token(by_assertion(signed(jti="same")))).status_code == 200


async def test_used_assertions_are_forgotten_when_they_have_expired() -> None:
    database = Database("sqlite:///:memory:")
    used = SqliteUsedAssertions(database)
    assert await used.use("a", "1", expires_at=100, now=0)
    assert not await used.use("a", "1", expires_at=100, now=100)
    assert await used.use("b", "1", expires_at=1000, now=100)
    assert await used.use("a", "2", expires_at=1000, now=102)
    assert database.read(lambda connection: connection.execute("SELECT count(*) FROM assertions").fetchone()) == (2,)
    await database.aclose()


async def test_a_store_that_is_down_is_no_fault_of_the_client(tmp_path: Path) -> None:
    settings = {"store_url": f"sqlite:///{tmp_path}/missing/door.db"}
    async with RelayDoor(documents=publishing(), settings=settings) as door:
        response = await door.token(by_assertion(signed()))
        assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
        assert await door.error_count(Row.CLIENT_LOOKUP_FAILED) == 1


@pytest.mark.parametrize(
    ("answer", "row", "status", "error"),
    [
        (httpx.Response(503), Row.CLIENT_DOCUMENT_UNAVAILABLE, 503, "temporarily_unavailable"),
        (httpx.Response(404), Row.BAD_CLIENT_DOCUMENT, 401, "invalid_client"),
        (httpx.Response(200, json={"keys": []}), Row.BAD_CLIENT_DOCUMENT, 401, "invalid_client"),
    ],
    ids=["down", "gone", "empty"],
)
async def test_keys_that_cannot_be_had_are_the_publishers_trouble(
    answer: httpx.Response, row: Row, status: int, error: str
) -> None:
    good = publishing()
    async with RelayDoor(documents=lambda request: good(request) if str(request.url) == URL else answer) as door:
        response = await door.token(by_assertion(signed()))
        assert (response.status_code, json_of(response)["error"]) == (status, error)
        assert json_of(response)["error_description"].startswith("the document at this client_id ")
        assert await door.error_count(row) == 1


async def test_a_new_key_is_found_and_made_up_keys_cause_no_storm() -> None:
    """THREATS 16: refetching for unknown keys is rate limited."""
    now, asked = [0.0], []
    published: list[Any] = [KEY]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=jwks(*published))

    keys = ClientKeys(httpx.MockTransport(answer), clock=lambda: now[0])
    client = Client(client_id=URL, issued_at=0, redirect_uris=(), jwks_uri=JWKS_URI)
    for key_id in ("one", "new", "made up", None):
        assert len(await keys.find(client, key_id)) == (1 if key_id in {"one", None} else 0)
    assert len(asked) == 1
    published.append(ECKey.generate_key("P-256", {"kid": "new"}))
    now[0] = REFETCH_AFTER + 1
    for key_id in ("one", "new", "made up"):
        assert len(await keys.find(client, key_id)) == (0 if key_id == "made up" else 1)
    assert len(asked) == 2
    await keys.aclose()


async def test_a_client_in_the_settings_may_have_keys() -> None:
    client = {"client_id": URL, "redirect_uris": [CALLBACK], "jwks": jwks(KEY)}
    settings = {"clients": [client], "client_id_metadata_documents": False}
    async with RelayDoor(settings=settings) as door:
        assert (await door.token(by_assertion(signed()))).status_code == 200
        assert (await door.token(by_assertion(signed(OTHER)))).status_code == 401
        assert door.document_requests == []
