"""What a resource server learns when it asks about an access token (RFC 7662, PROTOCOL I1)."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import LogCapture

from seed_oauth.http import log_fields
from seed_oauth.outcomes import IntrospectionOutcome as Row
from tests.broker import BrokerDoor, Clock, access_jwt, id_jwt
from tests.harness import ISSUER, PUBLIC, TOKENS, code_request, json_of, query_of
from tests.issued_tokens import CALLER_SECRET, CHECKED, EC_PEM, RESOURCE, SIGNED

pytestmark = pytest.mark.anyio

FORMS = {"sealed": {"access_tokens": "own"}, "signed": SIGNED}
both_forms = pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS.keys())

TWO: Mapping[str, Any] = {
    "resources": f"{RESOURCE},{ISSUER}/mail",
    "introspection_clients": [
        {"client_id": "files", "client_secret": CALLER_SECRET, "resource": RESOURCE},
        {"client_id": "mail", "client_secret": CALLER_SECRET[::-1], "resource": f"{ISSUER}/mail"},
    ],
}
MALLORY = {"sub": "mallory", "email": "mallory@example.com", "email_verified": True, "name": "Mallory"}


def door_of(settings: Mapping[str, Any], **more: Any) -> BrokerDoor:
    return BrokerDoor(settings={**CHECKED, **settings}, **more)


async def login_of_mallory(door: BrokerDoor) -> dict[str, Any]:
    """The tokens of a login, whose ID token says who has logged in."""
    at_idp = query_of(await door.person.reaches_idp(scope="mail files"))
    members = {**TOKENS, "id_token": id_jwt(**MALLORY, nonce=at_idp["nonce"])}
    door.idp = lambda _: httpx.Response(200, json=members)
    returned = await door.person.returns(code="the code", state=at_idp["state"])
    return json_of(await door.token(code_request(code=query_of(returned.headers["location"])["code"])))


async def ask(door: BrokerDoor, token: str | None, *auth: str, **form: str) -> httpx.Response:
    """Ask as the files server, unless `auth` is somebody else's."""
    data = form if token is None else {"token": token, **form}
    return await door.http.post("/oauth/introspect", data=data, auth=auth or ("files", CALLER_SECRET))  # type: ignore[arg-type]


async def is_inactive(door: BrokerDoor, token: str, *auth: str, **form: str) -> bool:
    """Whether that is all that is said."""
    answer = await ask(door, token, *auth, **form)
    assert answer.status_code == 200
    return json_of(answer) == {"active": False}


@both_forms
async def test_a_resource_server_learns_what_its_token_says_and_nothing_of_the_user(
    settings: Mapping[str, Any],
) -> None:
    clock = Clock()
    async with door_of({**settings, "idp_scopes": "openid"}, now=clock) as door:
        tokens = await login_of_mallory(door)
        answer = await ask(door, tokens["access_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "active": True,
        "iss": ISSUER,
        "sub": "mallory",
        "aud": RESOURCE,
        "exp": clock() + tokens["expires_in"],
        "iat": clock(),
        "client_id": PUBLIC.client_id,
        "scope": " ".join(sorted(tokens["scope"].split())),
        "token_type": "Bearer",
    }


@both_forms
async def test_it_learns_more_of_the_user_if_the_operator_says_so(settings: Mapping[str, Any]) -> None:
    more = {**settings, "idp_scopes": "openid", "access_token_claims": "email,name"}
    async with door_of(more) as door:
        answer = json_of(await ask(door, (await login_of_mallory(door))["access_token"]))
    told = {name: answer[name] for name in ("email", "name", "username")}
    assert told == {"email": "mallory@example.com", "name": "Mallory", "username": "Mallory"}


@both_forms
async def test_a_token_that_has_expired_or_was_revoked_is_inactive(settings: Mapping[str, Any]) -> None:
    clock = Clock()
    async with door_of(settings, now=clock) as door:
        revoked, expired = (await door.login())["access_token"], (await door.login())["access_token"]
        await door.http.post("/oauth/revoke", data={"token": revoked, "client_id": PUBLIC.client_id})
        assert await is_inactive(door, revoked)
        assert not await is_inactive(door, expired)
        clock.seconds += 3600
        assert await is_inactive(door, expired)


@both_forms
async def test_a_token_ends_with_its_grant(settings: Mapping[str, Any]) -> None:
    async with door_of(settings) as door:
        tokens = await door.login()
        form = {"token": tokens["refresh_token"], "client_id": PUBLIC.client_id}
        await door.http.post("/oauth/revoke", data=form)
        assert await is_inactive(door, tokens["access_token"])


@both_forms
async def test_the_token_of_another_resource_is_inactive_whoever_asks(settings: Mapping[str, Any]) -> None:
    """RFC 7662 §4, THREATS 49: a resource server learns nothing of the tokens of another one."""
    async with BrokerDoor(settings={**settings, **TWO}) as door:
        for_mail = (await door.login(resource=f"{ISSUER}/mail"))["access_token"]
        assert await is_inactive(door, for_mail)
        answer = json_of(await ask(door, for_mail, "mail", CALLER_SECRET[::-1]))
        assert (answer["active"], answer["aud"]) == (True, f"{ISSUER}/mail")


@both_forms
async def test_what_is_no_access_token_of_ours_is_inactive_and_nobody_is_asked(settings: Mapping[str, Any]) -> None:
    idp = {"idp_issuer_claim": "https://idp.example", "idp_introspection_url": "https://idp.example/introspect"}
    async with door_of({**settings, **idp, "idp_jwks_url": "https://idp.example/keys"}) as door:
        tokens = await door.login()
        before = len(door.idp_requests)
        of_the_idp = access_jwt(iss="https://idp.example", aud=RESOURCE, sub="alice")
        for token in ("made up", "a.b.c", "", tokens["refresh_token"], of_the_idp, access_jwt(iss=ISSUER)):
            assert await is_inactive(door, token or "~")
        assert len(door.idp_requests) == before


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:example:unknown", ""])
async def test_a_hint_changes_nothing(hint: str) -> None:
    """RFC 7662 §2.1: a server may ignore it."""
    async with door_of(FORMS["sealed"]) as door:
        token = (await door.login())["access_token"]
        assert json_of(await ask(door, token, token_type_hint=hint))["active"] is True


async def test_the_secret_may_be_in_the_form() -> None:
    async with door_of(FORMS["sealed"]) as door:
        form = {"token": "x", "client_id": "files", "client_secret": CALLER_SECRET}
        assert (await door.http.post("/oauth/introspect", data=form)).json() == {"active": False}


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [("files", "wrong"), ("files", ""), ("files", CALLER_SECRET[::-1]), ("mail", CALLER_SECRET), ("public", "x")],
)
async def test_whoever_is_no_resource_server_learns_nothing(client_id: str, secret: str) -> None:
    """Not even a registered client: clients are strangers here."""
    async with BrokerDoor(settings={**FORMS["sealed"], **TWO}) as door:
        token = (await door.login())["access_token"]
        refused = await ask(door, token, client_id, secret)
        in_the_form = {"token": token, "client_id": client_id, "client_secret": secret}
        also = await door.http.post("/oauth/introspect", data=in_the_form)
        without = await door.http.post("/oauth/introspect", data={"token": token, "client_id": client_id})
        assert await door.error_count(Row.BAD_CLIENT_AUTHENTICATION) == 3
    for answer in (refused, also, without):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="seed-oauth"'
        assert answer.headers["cache-control"] == "no-store"
        assert json_of(answer)["error"] == "invalid_client"
        assert "active" not in answer.text


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "body"),
    [
        (None, "token=x"),
        ("Bearer made-up", "token=x"),
        ("Basic ~", "token=x"),
        (basic(f"files:{CALLER_SECRET}"), "token=x&token=y"),
        (basic(f"files:{CALLER_SECRET}"), "token=x&client_secret=y"),
        (basic(f"files:{CALLER_SECRET}"), "token=x&client_id=mail"),
    ],
)
async def test_a_malformed_request_is_refused(authorization: str | None, body: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    headers |= {} if authorization is None else {"Authorization": authorization}
    async with door_of(FORMS["sealed"]) as door:
        answer = await door.http.post("/oauth/introspect", content=body, headers=headers)
        assert await door.error_count(Row.MALFORMED_REQUEST) == 1
    assert (answer.status_code, json_of(answer)["error"]) == (400, "invalid_request")


async def test_a_request_without_a_token_or_by_get_is_refused() -> None:
    """RFC 7662 §4: by GET the token would be in logs."""
    async with door_of(FORMS["sealed"]) as door:
        missing = await ask(door, None, token_type_hint="access_token")
        by_get = await door.http.get("/oauth/introspect", params={"token": "x"}, auth=("files", CALLER_SECRET))
        assert await door.error_count(Row.MISSING_PARAMETER) == 1
        assert await door.error_count(Row.METHOD_NOT_ALLOWED) == 1
    assert (missing.status_code, json_of(missing)["error"]) == (400, "invalid_request")
    assert (by_get.status_code, by_get.headers["allow"]) == (405, "POST")


async def test_made_up_tokens_are_limited_and_good_ones_are_not() -> None:
    """Whoever sends made-up tokens to a resource server must not end the access of everybody else there."""
    async with door_of({**FORMS["sealed"], "rate_limit_token_address": "2/minute"}, now=Clock()) as door:
        token = (await door.login())["access_token"]
        answers = [(await ask(door, made_up)).status_code for made_up in ("a", "b", "c", "a")]
        assert answers == [200, 200, 429, 429]
        limited = await ask(door, "d")
        assert (json_of(limited)["error"], limited.headers["retry-after"]) == ("temporarily_unavailable", "60")
        assert await door.error_count(Row.RATE_LIMITED) == 3
        assert not await is_inactive(door, token)


async def test_guesses_of_the_secret_are_limited_and_the_right_one_is_not() -> None:
    async with door_of({**FORMS["sealed"], "rate_limit_token_address": "2/minute"}, now=Clock()) as door:
        door.http = door.client("1.1.1.1")
        answers = [(await ask(door, "x", "files", guess)).status_code for guess in ("a", "b", "c")]
        assert answers == [401, 401, 429]
        assert not await is_inactive(door, (await door.login())["access_token"])


async def test_the_log_says_why_a_token_is_inactive_and_not_which() -> None:
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[log_fields.merge, capture])
    try:
        async with door_of(FORMS["sealed"]) as door:
            await ask(door, "made-up")
    finally:
        structlog.configure(processors=before)
    line = capture.entries[-1]
    assert (line["endpoint"], line["outcome"]) == ("introspect", "inactive")
    assert (line["token"], line["client_id"]) == ("bad_token", "files")
    assert "made-up" not in json.dumps(line, default=str)


async def test_it_is_announced_where_somebody_may_ask() -> None:
    async with door_of({"signing_keys": EC_PEM}) as door:
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
    assert metadata["introspection_endpoint"] == f"{ISSUER}/oauth/introspect"
    assert metadata["introspection_endpoint_auth_methods_supported"] == ["client_secret_basic", "client_secret_post"]
    assert metadata["jwks_uri"] == f"{ISSUER}/oauth/jwks"
    async with BrokerDoor() as door:
        metadata = json_of(await door.http.get("/.well-known/oauth-authorization-server"))
        assert not {"introspection_endpoint", "jwks_uri"} & metadata.keys()
        for path in ("introspect", "jwks"):
            assert (await door.http.post(f"/oauth/{path}")).status_code == 404
