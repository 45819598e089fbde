"""`/oauth/verify`: what a reverse proxy is told about a request, and who is told nothing."""

import re
from collections.abc import AsyncIterator, Mapping
from time import time
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import Request

from seed_oauth import Settings
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked
from seed_oauth.http.original_request import AmbiguousRequestError, original_request
from seed_oauth.outcomes import ResourceOutcome as Row
from seed_oauth.storage.open import open_stores
from tests.cli.test_cli import PATIENCE
from tests.harness import ISSUER, FrontDoor, increases, json_of
from tests.harness import SETTINGS as OF_EVERY_DOOR
from tests.resource_server.issuing import NOW, own_token

pytestmark = pytest.mark.anyio

PROXY = "10.1.2.3"
FILES, MAIL = "https://mcp.example/files", "https://mail.example/mcp"
SETTINGS: Mapping[str, Any] = {
    "access_tokens": "own",
    "trusted_proxies": PROXY,
    "resources": (FILES, MAIL, "https://mcp.example/files/inner"),
    "required_scopes": "files:read",
}


class Door(FrontDoor):
    """A front door that is asked by a reverse proxy."""

    def token(self, **changes: Any) -> str:  # type: ignore[override]
        return own_token(Settings(**{**OF_EVERY_DOOR, **self.settings}), **{"resource": FILES, **changes})

    async def ask(self, *, peer: str = PROXY, path: str = "/oauth/verify", method: str = "GET", **changes: Any) -> Any:
        """A question about a good request, but for `changes` of its header fields; None leaves one out."""
        good = {
            "authorization": f"Bearer {self.token()}",
            "x_original_uri": "/files",
            "x_original_method": "POST",
            "x_forwarded_host": "mcp.example",
            "x_forwarded_proto": "https",
        }
        sent = {name.replace("_", "-"): value for name, value in {**good, **changes}.items() if value is not None}
        async with self.client(peer) as http:
            return await http.request(method, path, headers=sent)


def door(now: float = NOW, **settings: Any) -> Door:
    return Door(settings={**SETTINGS, **settings}, now=lambda: now)


@pytest.fixture
async def asked() -> AsyncIterator[Door]:
    async with door() as opened:
        yield opened


def identity(answer: httpx.Response) -> dict[str, str]:
    prefix = "x-seed-oauth-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items() if name.startswith(prefix)}


async def test_what_the_token_does_not_say_is_empty_so_that_it_replaces_what_the_client_says(asked: Door) -> None:
    """THREATS 42: some reverse proxies replace only what the answer has."""
    assert identity(await asked.ask()) == {
        "subject": "alice",
        "email": "",
        "name": "",
        "groups": "",
        "tenant": "",
        "client-id": "https://app.example/client.json",
        "scope": "files:read files:write",
        "idp-token": "",
    }


async def test_the_reverse_proxy_is_told_who_sent_the_request(asked: Door) -> None:
    before = await asked.samples()
    token = asked.token(email="alice@example.com", name="Älice", groups=("staff", "a,b"), tenant="t")
    answer = await asked.ask(authorization=f"Bearer {token}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert identity(answer) == {
        "subject": "alice",
        "email": "alice@example.com",
        "name": "%C3%84lice",
        "groups": "staff,a%2Cb",
        "tenant": "t",
        "client-id": "https://app.example/client.json",
        "scope": "files:read files:write",
        "idp-token": "",
    }
    grown = increases(before, await asked.samples())
    assert grown == {'oauth_resource_requests_total{resource="mcp.example/files",result="allowed"}': 1}


async def test_the_token_of_the_identity_provider_is_told_only_where_that_is_set() -> None:
    """Otherwise a client that reaches this path would learn what only the MCP server may."""
    async with door(verify_send_token=True) as asked:
        assert identity(await asked.ask())["idp-token"] == "the%20token%20of%20the%20identity%20provider"


def test_to_tell_that_token_to_nobody_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="SEED_OAUTH_TRUSTED_PROXIES is missing"):
        Settings(**{**OF_EVERY_DOOR, "verify_send_token": True})


@pytest.mark.parametrize(("left", "seconds"), [(300, 5), (3.5, 3), (0.5, 0)])
async def test_it_may_be_cached_for_seconds_and_never_longer_than_the_token_lives(left: float, seconds: int) -> None:
    async with door() as asked:
        answer = await asked.ask(authorization=f"Bearer {asked.token(expires_at=NOW + left)}")
    assert answer.headers["cache-control"] == f"private, max-age={seconds}"
    assert answer.headers["x-accel-expires"] == str(seconds)
    assert "Authorization" in answer.headers["vary"]


async def test_a_refusal_has_the_challenge_and_is_never_cached(asked: Door) -> None:
    answer = await asked.ask(authorization=None)
    assert answer.status_code == 401
    assert answer.headers["cache-control"] == "no-store"
    assert "x-accel-expires" not in answer.headers
    metadata = "https://mcp.example/.well-known/oauth-protected-resource/files"
    assert f'resource_metadata="{metadata}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (Row.NO_TOKEN, {"authorization": None}),
        (Row.TOKEN_IN_QUERY, {"x_original_uri": "/files?access_token=x"}),
        (Row.BAD_TOKEN, {"authorization": "Bearer x"}),
        (Row.WRONG_AUDIENCE, {"x_forwarded_host": "mail.example", "x_original_uri": "/mcp"}),
        (Row.WRONG_AUDIENCE, {"x_original_uri": "/files/inner"}),
        (Row.WRONG_AUDIENCE, {"x_original_uri": "/files/inner/"}),
        (Row.METHOD_NOT_ALLOWED, {"x_original_method": "PUT"}),
        (Row.UNTRUSTED_PROXY, {"peer": "10.1.2.4"}),
        (Row.NOT_A_RESOURCE, {"x_original_uri": "/"}),
        (Row.NOT_A_RESOURCE, {"x_original_uri": "/filesystem"}),
        (Row.NOT_A_RESOURCE, {"x_original_uri": "/FILES"}),
        (Row.NOT_A_RESOURCE, {"x_forwarded_host": "evil.example"}),
        (Row.NOT_A_RESOURCE, {"x_forwarded_proto": "http"}),
        (Row.NOT_A_RESOURCE, {"x_forwarded_host": "mcp.example:8443"}),
        (Row.NOT_A_RESOURCE, {"x_forwarded_host": "mcp.example:port"}),
        *[
            (Row.NOT_A_RESOURCE, {name: None})
            for name in ("x_original_uri", "x_original_method", "x_forwarded_host", "x_forwarded_proto")
        ],
    ],
)
async def test_each_other_question_ends_in_a_row_and_is_counted_once(
    row: Row, changes: dict[str, Any], asked: Door
) -> None:
    before = await asked.samples()
    answer = await asked.ask(**changes)
    grown = increases(before, await asked.samples())
    assert answer.status_code == row.status
    assert json_of(answer)["error"] == row.error
    assert identity(answer) == {}
    result = "challenged" if row is Row.NO_TOKEN else "refused"
    meant = {"x_forwarded_host": "mcp.example", "x_original_uri": "/files", **changes}
    resource = f"{meant['x_forwarded_host']}{meant['x_original_uri']}".partition("?")[0].rstrip("/")
    if row in {Row.UNTRUSTED_PROXY, Row.NOT_A_RESOURCE}:
        resource = "_other"
    assert grown == {
        f'oauth_errors_total{{cause="client",endpoint="resource",reason="{row.reason}"}}': 1,
        f'oauth_resource_requests_total{{resource="{resource}",result="{result}"}}': 1,
    }


async def test_without_trusted_proxies_nobody_is_told_anything() -> None:
    """THREATS 41: otherwise everybody could say which request is meant."""
    async with door(trusted_proxies="") as asked:
        for peer in (PROXY, "127.0.0.1", "203.0.113.1"):
            answer = await asked.ask(peer=peer, authorization=None)
            assert answer.status_code == 403
            assert "SEED_OAUTH_TRUSTED_PROXIES" in json_of(answer)["error_description"]


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2fadmin",
        "/files/%2e%2e/admin",
        "/files/../files",
        "/files/.",
        "/files/./x",
        "//files",
        "/files//x",
        "/files/x%2Fy",
        "/files/%252e%252e",
        "/files\\..\\admin",
        "/files/%5c..",
        "/files/..;/admin",
        "/files/%00",
        "/%66iles",
        "files",
        "https://mcp.example/files",
        "",
    ],
)
async def test_a_path_that_can_be_read_in_two_ways_is_refused_with_a_good_token(path: str, asked: Door) -> None:
    """THREATS 43."""
    answer = await asked.ask(x_original_uri=path)
    assert answer.status_code == 403
    assert json_of(answer)["error"] == "invalid_request"


@pytest.mark.parametrize("uri", ["/files", "/files/", "/files?a=%2F..%2F", "/files/a.b/-_~", "/files/...", "/files?"])
async def test_a_plain_path_of_the_resource_passes(uri: str, asked: Door) -> None:
    assert (await asked.ask(x_original_uri=uri)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"x_forwarded_uri": "/files/other"},
        {"x_forwarded_method": "GET"},
        {"x_original_uri": "/files", "x_forwarded_uri": "/"},
    ],
)
async def test_what_a_client_adds_to_the_fields_of_its_reverse_proxy_is_refused(
    changes: dict[str, str], asked: Door
) -> None:
    assert (await asked.ask(**changes)).status_code == 403


async def test_a_method_override_changes_nothing(asked: Door) -> None:
    """THREATS 44: what counts is the method that the reverse proxy saw."""
    refused = await asked.ask(x_original_method="OPTIONS", x_http_method_override="POST")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST, DELETE"


async def test_caddy_and_traefik_are_understood(asked: Door) -> None:
    answer = await asked.ask(
        x_original_uri=None, x_original_method=None, x_forwarded_uri="/files?x=1", x_forwarded_method="DELETE"
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/files", 200), ("/files/..%2f", 403), ("/filesystem?x=/files", 403)])
async def test_envoy_which_sends_the_request_itself_is_understood(path: str, status: int, asked: Door) -> None:
    answer = await asked.ask(
        path=f"/oauth/verify{path}", method="POST", x_original_uri=None, x_original_method=None, x_forwarded_host=None,
        host="mcp.example",
    )  # fmt: skip
    assert answer.status_code == status


async def test_a_token_needs_the_scopes_of_all_tools_because_nobody_sees_which_one_is_called() -> None:
    async with door(tool_scopes={"files:write": ["write_*"]}, method_scopes={"admin": ["resources/read"]}) as asked:
        refused = await asked.ask()
        every = asked.token(scope="files:read files:write admin")
        assert (await asked.ask(authorization=f"Bearer {every}")).status_code == 200
    assert refused.status_code == 403
    assert 'scope="files:read files:write admin"' in refused.headers["www-authenticate"]


async def test_a_revoked_grant_is_out_within_a_second(tmp_path: Any) -> None:
    settings = {**SETTINGS, "store_url": f"sqlite:///{tmp_path}/clients.db"}
    async with Door(settings=settings) as asked:
        headers = {"authorization": f"Bearer {asked.token(issued_at=time(), expires_at=int(time()) + 300)}"}
        assert (await asked.ask(**headers)).status_code == 200
        stores = open_stores(Settings(**{**OF_EVERY_DOOR, **settings}))
        await Revocations(stores.revocations).revoke(Revoked.GRANT, "grant")
        await stores.aclose()
        with anyio.fail_after(PATIENCE):
            while (answer := await asked.ask(**headers)).status_code == 200:
                await anyio.sleep(0.01)
        assert answer.status_code == 401
        assert await asked.error_count(Row.REVOKED_TOKEN) == 1


async def test_a_door_that_can_check_no_tokens_has_no_such_path() -> None:
    async with Door() as asked:
        assert (await asked.http.get("/oauth/verify")).status_code == 404


async def test_it_is_below_the_path_of_the_issuer_too() -> None:
    async with door(issuer=f"{ISSUER}/tenant") as asked:
        for path in ("/oauth/verify", "/tenant/oauth/verify"):
            assert (await asked.ask(path=path)).status_code == 200


def request_about(path: str) -> Request:
    fields = {"x-original-uri": path, "x-original-method": "GET", "x-forwarded-host": "h", "x-forwarded-proto": "https"}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    return Request({"type": "http", "headers": headers, "method": "GET", "query_string": b""})


@given(st.text(alphabet="/.%;\\?ab2feE5cC0#@ \x00é", max_size=20))
def test_every_path_that_is_understood_has_one_reading(path: str) -> None:
    try:
        url = original_request(request_about(path)).url
    except AmbiguousRequestError:
        return
    segments = url.removeprefix("https://h").split("/")[1:]
    assert not {".", ".."} & set(segments)
    assert "" not in segments[:-1]
    assert not re.search(r"[^\w.~!$&'()*+,=:@/-]", url.removeprefix("https://h"), re.ASCII)
