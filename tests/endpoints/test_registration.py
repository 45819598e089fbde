from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import pytest

from seed_oauth.clients import PROTECTED, QuotaExhaustedError
from seed_oauth.outcomes import RegistrationOutcome as Row
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from tests.broker import BrokerDoor
from tests.harness import (
    CALLBACK,
    ISSUER,
    BrokenStore,
    FrontDoor,
    code_request,
    increases,
    json_of,
    query_of,
    refresh_request,
    registration_request,
    rows_of_every_endpoint,
)

pytestmark = pytest.mark.anyio


@dataclass
class Case:
    """A registration that ends in `row`."""

    row: Row
    body: object
    error: str = "invalid_client_metadata"
    status: int = 400
    result: str = "invalid"
    failure: Exception | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def changed(**changes: object) -> dict[str, object]:
    return registration_request(**changes)


CASES = [
    # PROTOCOL R2.
    Case(Row.BAD_REDIRECT_URI, {"token_endpoint_auth_method": "none"}, "invalid_redirect_uri"),
    *(
        Case(Row.BAD_REDIRECT_URI, changed(redirect_uris=redirect_uris), "invalid_redirect_uri")
        for redirect_uris in (
            [], "https://app.example/", [7], ["javascript:alert(1)"], ["http://app.example/"], ["/callback"],
            ["https://app.example/#x"], ["https://app.example/"] * 33, ["a\x00"], [None],
            [f"{ISSUER}/oauth/callback"], ["https://app.example%2eevil.example/"], ["goose://extension?cmd=evil"],
        )
    ),
    *(
        Case(Row.BAD_CLIENT_METADATA, changed(**metadata))
        for metadata in (
            {"token_endpoint_auth_method": "private_key_jwt"},
            {"token_endpoint_auth_method": 7},
            {"token_endpoint_auth_method": ["none"]},
            {"grant_types": ["client_credentials"]},
            {"grant_types": "authorization_code"},
            {"response_types": ["token"]},
            # A flood of the largest ones must not fill what keeps the clients of others.
            {"grant_types": ["authorization_code"] * 33},
            {"redirect_uris": [f"https://app.example/{'a' * 2000}{number}" for number in range(5)]},
            {"contacts": ["a" * 300] * 32},
        )
    ),
    Case(Row.STORE_FAILED, changed(), "temporarily_unavailable", 503, "error", failure=StoreError("OperationalError")),
    # THREATS 10: a flood that fills the store ends here.
    Case(
        Row.QUOTA_EXHAUSTED, changed(), "temporarily_unavailable", 503, "error",
        failure=QuotaExhaustedError(), headers={"retry-after": str(PROTECTED)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "description",
    [
        {"client_name": "x" * 257},
        {"client_name": "a\nb"},
        {"client_name": "\u202egnp.exe"},
        {"client_name": ["x"]},
        {"client_uri": "javascript:alert(1)"},
        {"client_uri": "http://localhost:3000"},
        {"logo_uri": "http://app.example/logo.png"},
        {"logo_uri": "data:image/png;base64,AAAA"},
        {"tos_uri": ""},
        {"policy_uri": {"a": 1}},
        {"contacts": "me@app.example"},
        {"contacts": ["a"] * 33},
        {"software_id": 7},
    ],
)
async def test_a_description_that_cannot_be_used_is_left_out_of_the_answer(
    description: dict[str, object], door: FrontDoor
) -> None:
    """RFC 7591 §2; LibreChat, Copilot Studio and others send such."""
    registered = await door.register(**description)
    assert registered.status_code == 201
    assert not json_of(registered).keys() & description.keys()


async def test_a_null_member_is_no_member(door: FrontDoor) -> None:
    """PROTOCOL R8: Java clients write what they do not have as null."""
    members = (
        "token_endpoint_auth_method grant_types response_types client_name client_uri logo_uri contacts scope jwks"
    )
    nulls = dict.fromkeys([*members.split(), "jwks_uri", "software_id", "software_statement"])
    registered = await door.register(**nulls)
    assert registered.status_code == 201
    information = json_of(registered)
    assert information["token_endpoint_auth_method"] == "client_secret_basic"
    assert information["grant_types"] == ["authorization_code", "refresh_token"]
    assert None not in information.values()


TOKENS = ("an initial access token, 0123456789", "another initial access token, 0123")
BY_TOKEN = {"registration": "token", "registration_tokens": TOKENS, "contact": "it@example.com"}


@pytest.mark.parametrize(
    ("settings", "authorization", "row", "challenge"),
    [
        ({"registration": "off", "contact": "it@example.com"}, None, Row.CLOSED, None),
        ({"registration": "off", "contact": "it@example.com"}, f"Bearer {TOKENS[0]}", Row.CLOSED, None),
        (BY_TOKEN, None, Row.BAD_INITIAL_ACCESS_TOKEN, "Bearer"),
        (BY_TOKEN, "Bearer wrong", Row.BAD_INITIAL_ACCESS_TOKEN, 'Bearer error="invalid_token"'),
        (BY_TOKEN, f"Bearer {TOKENS[0]}x", Row.BAD_INITIAL_ACCESS_TOKEN, 'Bearer error="invalid_token"'),
        (BY_TOKEN, f"Basic {TOKENS[0]}", Row.BAD_INITIAL_ACCESS_TOKEN, 'Bearer error="invalid_token"'),
        (BY_TOKEN, "Bearer ", Row.BAD_INITIAL_ACCESS_TOKEN, 'Bearer error="invalid_token"'),
    ],
)
async def test_whoever_may_not_register_is_told_whom_to_ask(
    settings: dict[str, object], authorization: str | None, row: Row, challenge: str | None
) -> None:
    """PROTOCOL R7, RFC 7591 §3."""
    async with FrontDoor(settings=settings) as door:
        headers = {"Authorization": authorization} if authorization else {}
        refused = await door.http.post("/oauth/register", json=registration_request(), headers=headers)
        assert (refused.status_code, json_of(refused)["error"]) == (row.status, row.error)
        assert "ask it@example.com" in json_of(refused)["error_description"]
        assert refused.headers.get("www-authenticate") == challenge
        assert await door.error_count(row) == 1


@pytest.mark.parametrize("authorization", [f"Bearer {TOKENS[0]}", f"bearer  {TOKENS[1]}"])
async def test_whoever_has_an_initial_access_token_may_register(authorization: str) -> None:
    """PROTOCOL R7: of several, so that they can be replaced."""
    async with FrontDoor(settings=BY_TOKEN) as door:
        headers = {"Authorization": authorization}
        registered = await door.http.post("/oauth/register", json=registration_request(), headers=headers)
        assert registered.status_code == 201


async def test_a_redirect_uri_at_a_host_that_the_operator_does_not_allow_is_refused() -> None:
    settings = {"redirect_hosts": ("app.example", "*.corp.example"), "contact": "it@example.com"}
    async with FrontDoor(settings=settings) as door:
        for uri in (
            "https://evil.example/",
            "https://app.example.evil/",
            "https://x.app.example/",
            "https://corp.example/",
        ):
            refused = await door.register(redirect_uris=[uri])
            assert json_of(refused)["error"] == "invalid_redirect_uri"
            assert "ask it@example.com" in json_of(refused)["error_description"]
        allowed = [
            "https://app.example:444/",
            "https://a.b.corp.example/",
            "http://127.0.0.1/",
            "cursor://anysphere.cursor-mcp/oauth/callback",
        ]
        registered = json_of(await door.register(redirect_uris=[*allowed, "https://evil.example/"]))
        assert registered["redirect_uris"] == allowed


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row.reason}-{str(case.body)[:40]}")
async def test_a_registration_that_fails_is_answered_and_counted_as_its_row(case: Case) -> None:
    """PROTOCOL R2, THREATS 10."""
    async with FrontDoor(clients=BrokenStore(case.failure) if case.failure else None) as door:
        before = await door.samples()
        response = await door.http.post("/oauth/register", json=case.body)

        assert response.status_code == case.status
        assert json_of(response)["error"] == case.error
        assert case.headers.items() <= dict(response.headers).items()
        assert increases(before, await door.samples()) == {
            f'oauth_dcr_registrations_total{{result="{case.result}"}}': 1,
            f'oauth_errors_total{{cause="{case.row.cause}",endpoint="register",reason="{case.row.reason}"}}': 1,
        }


def test_every_row_of_the_table_has_a_case() -> None:
    elsewhere = {Row.CLOSED, Row.BAD_INITIAL_ACCESS_TOKEN}
    assert {case.row for case in CASES} | elsewhere | rows_of_every_endpoint(Row) | {Row.REGISTERED} == set(Row)


async def test_a_registered_client_gets_its_metadata_as_accepted(door: FrontDoor) -> None:
    """PROTOCOL R1."""
    before = await door.samples()
    response = await door.register(
        client_name="Inspector",
        client_uri="https://inspector.example/",
        grant_types=["authorization_code", "refresh_token", "client_credentials"],
        response_types=["code"],
        scope="mail files",
        contacts=["me@app.example"],
        software_id="inspector",
        unheard_of={"a": 1},
    )
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    registered = json_of(response)
    assert len(registered.pop("client_id")) >= 22
    assert registered.pop("client_id_issued_at") > 1_700_000_000
    assert registered == {
        "redirect_uris": [CALLBACK],
        "token_endpoint_auth_method": "none",
        "client_name": "Inspector",
        "client_uri": "https://inspector.example/",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "contacts": ["me@app.example"],
        "software_id": "inspector",
    }
    assert increases(before, await door.samples()) == {'oauth_dcr_registrations_total{result="success"}': 1}


@pytest.mark.parametrize("scope", ["mail", "a  b", ["a"], "a" * 8192])
async def test_a_scope_is_not_registered_because_it_would_be_no_limit(relay_door: FrontDoor, scope: object) -> None:
    """RFC 7591 §3.2.1: what is not in the answer is not registered. A client may be told to ask for more later."""
    registered = json_of(await relay_door.register(scope=scope))
    assert "scope" not in registered
    assert (await relay_door.authorize(client_id=registered["client_id"], scope="mail files")).status_code == 302


@pytest.mark.parametrize("flow", ["relay", "broker"])
@pytest.mark.parametrize(
    ("grant_types", "gets_refresh_tokens"),
    [(["authorization_code"], False), (["authorization_code", "refresh_token"], True), (None, True)],
)
async def test_a_client_gets_refresh_tokens_if_it_has_registered_for_them(
    grant_types: list[str] | None, gets_refresh_tokens: bool, flow: str
) -> None:
    changes = {} if grant_types is None else {"grant_types": grant_types}
    async with BrokerDoor(
        settings={"flow": flow}, idp=lambda _: httpx.Response(200, json={"access_token": "at", "refresh_token": "rt"})
    ) as door:
        client = json_of(await door.register(**changes))["client_id"]
        code = "the code"
        if flow == "broker":
            returned = await door.person.returns(
                state=query_of(await door.person.reaches_idp(client_id=client))["state"], code="x"
            )
            code = query_of(returned.headers["location"])["code"]
        tokens = json_of(await door.token(code_request(code=code, client_id=client)))
        assert ("refresh_token" in tokens) == gets_refresh_tokens
        response = await door.token(refresh_request(client_id=client, refresh_token=tokens.get("refresh_token", "x")))
        assert (response.status_code == 200) == gets_refresh_tokens
        if not gets_refresh_tokens:
            assert json_of(response)["error"] == "unauthorized_client"
            assert await door.error_count(TokenOutcome.UNREGISTERED_GRANT_TYPE) == 1


async def test_a_client_is_told_of_the_one_response_type_that_there_is(door: FrontDoor) -> None:
    registered = json_of(await door.register(response_types=["code", "code token", "none"]))
    assert registered["response_types"] == ["code"]


async def test_a_registered_client_can_log_in_at_once(door: FrontDoor) -> None:
    client_id = json_of(await door.register())["client_id"]
    assert (await door.authorize(client_id=client_id)).status_code == 200


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_secret_is_given_only_where_the_method_needs_one(door: FrontDoor, method: str) -> None:
    """PROTOCOL R3."""
    confidential = json_of(await door.register(token_endpoint_auth_method=method))
    public = json_of(await door.register())
    assert len(confidential["client_secret"]) >= 43
    assert confidential["client_secret_expires_at"] == 0
    assert "client_secret" not in public


async def test_a_client_that_names_no_method_gets_client_secret_basic(door: FrontDoor) -> None:
    """RFC 7591 §2."""
    response = await door.http.post("/oauth/register", json={"redirect_uris": [CALLBACK]})
    registered = json_of(response)
    assert registered["token_endpoint_auth_method"] == "client_secret_basic"
    assert "client_secret" in registered


async def test_of_a_secret_only_a_hash_is_stored() -> None:
    """PROTOCOL R3."""
    clients = SqliteClientStore(Database("sqlite:///:memory:"))
    async with FrontDoor(clients=clients) as door:
        registered = json_of(await door.register(token_endpoint_auth_method="client_secret_post"))
        stored = await clients.get(registered["client_id"])
    assert stored is not None
    assert registered["client_secret"] not in repr(stored)
    assert stored.has_secret(registered["client_secret"])


async def test_a_bad_redirect_uri_does_not_sink_those_beside_it(door: FrontDoor) -> None:
    """PROTOCOL R4: what Cursor sends, with something nobody may have in between."""
    cursor = "cursor://anysphere.cursor-mcp/oauth/callback"
    wanted = [cursor, "javascript:alert(1)", "https://www.cursor.com/agents/mcp/oauth/callback",
              "http://localhost:8787/callback"]  # fmt: skip
    registered = json_of(await door.register(redirect_uris=wanted, application_type="web"))
    assert registered["redirect_uris"] == [cursor, wanted[2], wanted[3]]
    response = await door.authorize(client_id=registered["client_id"], redirect_uri="javascript:alert(1)")
    assert response.status_code == 400


async def test_the_operator_may_allow_further_private_use_schemes() -> None:
    async with FrontDoor(settings={"private_use_schemes": "acme, acme-dev"}) as door:
        assert (await door.register(redirect_uris=["acme://callback"])).status_code == 201
        assert (await door.register(redirect_uris=["other://callback"])).status_code == 400


async def test_a_lone_surrogate_is_not_json(door: FrontDoor) -> None:
    content = rb'{"redirect_uris": ["https://app.example/"], "client_name": "\ud800"}'
    response = await door.http.post("/oauth/register", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert await door.error_count(Row.MALFORMED_REQUEST) == 1


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"", "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 60_000, "application/json"),
        (b'{"redirect_uris": ["https://app.example/"], "client_name": "\xed\xa0\x80"}', "application/json"),
        (b'{"redirect_uris": ["https://app.example/"]}', "text/plain"),
    ],
)
async def test_what_is_not_a_json_object_is_malformed(door: FrontDoor, content: bytes, content_type: str) -> None:
    response = await door.http.post("/oauth/register", content=content, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert json_of(response)["error"] == "invalid_client_metadata"
    assert await door.error_count(Row.MALFORMED_REQUEST) == 1
