"""`protect`: an MCP server that only requests with a good access token reach (PROTOCOL M5 and M6, THREATS 15)."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from time import time
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocketDisconnect

from seed_oauth import Pipeline, ProtectedApp, Settings, SettingsError, VerifiedToken, protect
from seed_oauth.outcomes import ResourceOutcome
from tests.harness import FrontDoor, increases, json_of
from tests.resource_server.issuing import IDP, RESOURCE, SETTINGS, Idp, claims, down, own_token, rsa_key, signed

pytestmark = pytest.mark.anyio

METADATA_URL = "https://door.example/.well-known/oauth-protected-resource/mcp"
SCOPES = ("files:read", "files:write")


async def mcp(request: Request) -> Response:
    """A server that tells what it knows of the client."""
    token: VerifiedToken | None = request.scope.get("seed_oauth.token")
    if token is None:
        return JSONResponse({"anonymous": request.method, "headers": dict(request.headers)})
    return JSONResponse(
        {
            "subject": token.subject,
            "idp_token": token.idp_token,
            "told": [token.email, token.name, token.groups, token.tenant],
            "user": [request.user.is_authenticated, request.user.display_name, request.user.identity],
            "user_is_of_the_token": request.user.token is token,
            "scopes": request.auth.scopes,
            "headers": dict(request.headers),
        }
    )


SERVER = Starlette(routes=[Route("/mcp", mcp, methods=["GET", "POST", "OPTIONS"])])


@dataclass
class Protected:
    """A protected server, and the identity provider that its tokens come from."""

    app: ASGIApp = SERVER
    idp: Idp = field(default_factory=Idp)
    settings: Mapping[str, Any] = field(default_factory=dict)
    scopes: tuple[str, ...] = SCOPES
    pipeline: Pipeline = field(default_factory=Pipeline)

    async def __aenter__(self) -> Self:
        self.all_settings = Settings(**{**SETTINGS, **self.settings})
        self.protected = protect(
            self.app,
            self.all_settings,
            scopes=self.scopes,
            pipeline=self.pipeline,
            transport=httpx.MockTransport(self.idp),
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.protected), base_url="https://door.example")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()
        await self.protected.aclose()

    async def get(self, *authorization: str, **options: Any) -> httpx.Response:
        headers = [("Authorization", value) for value in authorization] + list(options.pop("headers", {}).items())
        return await self.http.get("/mcp", headers=headers, **options)


def good_token(**changes: Any) -> str:
    return signed(claims(**{"iat": int(time()), "exp": int(time()) + 300, **changes}))


@pytest.fixture
async def server() -> AsyncIterator[Protected]:
    async with Protected() as protected:
        yield protected


@dataclass(frozen=True)
class Case:
    """A request that does not get through, and the row it ends in."""

    row: ResourceOutcome
    authorization: Callable[[], list[str]] = list
    idp: Callable[[httpx.Request], httpx.Response] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    challenge: str = ""
    """Between `Bearer ` and the resource's metadata."""


def bearer(**changes: Any) -> Callable[[], list[str]]:
    return lambda: [f"Bearer {good_token(**changes)}"]


def unforeseen(_: httpx.Request) -> httpx.Response:
    raise RuntimeError("unforeseen")


INVALID_TOKEN = r'error="invalid_token", error_description="[ -!#-\[\]-~]+", '
INVALID_REQUEST = INVALID_TOKEN.replace("invalid_token", "invalid_request")
INTROSPECTING = {
    "idp_issuer": None,
    "idp_introspection_url": "https://idp.example/introspect",
}
CASES = [
    Case(ResourceOutcome.NO_TOKEN),
    Case(ResourceOutcome.NO_TOKEN, lambda: ["Basic YTpi"]),
    Case(ResourceOutcome.NO_TOKEN, lambda: ["Bearer"]),
    Case(ResourceOutcome.NO_TOKEN, lambda: ["Bearer   "]),
    Case(ResourceOutcome.TOKEN_IN_QUERY, query="access_token=x", challenge=INVALID_REQUEST),
    Case(ResourceOutcome.TOKEN_IN_QUERY, bearer(), query="a=b&access_token=x", challenge=INVALID_REQUEST),
    Case(ResourceOutcome.MALFORMED_REQUEST, lambda: ["Bearer number-1", "Bearer number-2"], challenge=INVALID_REQUEST),
    Case(ResourceOutcome.BAD_TOKEN, lambda: ["Bearer two words"], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.BAD_TOKEN, lambda: ['Bearer "quoted"'], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.BAD_TOKEN, lambda: ["Bearer " + "a" * 17_000], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.BAD_TOKEN, lambda: ["Bearer a.b.c"], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.NOT_AN_ACCESS_TOKEN, lambda: [f"bearer {signed(claims(nonce='n'), typ='JWT')}"],
         challenge=INVALID_TOKEN),
    Case(ResourceOutcome.WRONG_ISSUER, bearer(iss="https://evil.example"), challenge=INVALID_TOKEN),
    Case(ResourceOutcome.UNKNOWN_KEY, lambda: [f"Bearer {signed(claims(), rsa_key('new'))}"], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.WRONG_AUDIENCE, bearer(aud="https://other.example"), challenge=INVALID_TOKEN),
    Case(ResourceOutcome.EXPIRED_TOKEN, bearer(exp=1), challenge=INVALID_TOKEN),
    Case(ResourceOutcome.TOKEN_NOT_YET_VALID, bearer(nbf=time() + 1e6), challenge=INVALID_TOKEN),
    Case(ResourceOutcome.INACTIVE_TOKEN, lambda: ["Bearer opaque"], challenge=INVALID_TOKEN),
    Case(ResourceOutcome.INSUFFICIENT_SCOPE, bearer(scope="files:read"),
         challenge=INVALID_TOKEN.replace("invalid_token", "insufficient_scope")),
    Case(ResourceOutcome.NOT_CONFIGURED, bearer(),
         settings={**INTROSPECTING, "idp_jwks_url": "https://idp.example/keys"}),
    Case(ResourceOutcome.TOKEN_CHECK_UNAVAILABLE, bearer(), idp=down),
    Case(ResourceOutcome.TOKEN_CHECK_REFUSED, lambda: ["Bearer opaque"],
         idp=lambda _: httpx.Response(401, json={"error": "invalid_client"})),
    # Without credentials nobody is asked (RFC 7662 §2.1): a 502 would keep clients from logging in again.
    Case(ResourceOutcome.BAD_TOKEN, lambda: ["Bearer opaque"], challenge=INVALID_TOKEN,
         idp=lambda _: httpx.Response(401, json={"error": "invalid_client"}),
         settings={"idp_client_id": None, "idp_client_secret": None}),
    Case(ResourceOutcome.UNEXPECTED, bearer(), idp=unforeseen),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row.name)
async def test_each_way_not_to_get_through_has_its_answer_and_is_counted_once(case: Case) -> None:
    """PROTOCOL M5 (RFC 6750 §3, RFC 9728 §5.1)."""
    async with Protected(idp=Idp(failure=case.idp), settings=case.settings) as server:
        door = FrontDoor(pipeline=server.pipeline)
        before = await door.samples()
        authorization = case.authorization()
        response = await server.get(*authorization, params=case.query)
        grown = increases(before, await door.samples())
    assert response.status_code == case.row.status
    assert json_of(response)["error"] == case.row.error
    for value in authorization:
        token = value.partition(" ")[2].strip()
        assert not token or token not in response.text + repr(response.headers)
    row = f'oauth_errors_total{{cause="{case.row.cause}",endpoint="resource",reason="{case.row.reason}"}}'
    result = "challenged" if case.row is ResourceOutcome.NO_TOKEN else "refused"
    requests = f'oauth_resource_requests_total{{result="{result}"}}'
    assert {name: by for name, by in grown.items() if not name.startswith("oauth_idp")} == {row: 1, requests: 1}
    if case.row.status in {400, 401, 403}:
        challenge = case.challenge + re.escape(f'resource_metadata="{METADATA_URL}", scope="files:read files:write"')
        assert re.fullmatch(f"Bearer {challenge}", response.headers["www-authenticate"])
        # PROTOCOL M6: a client in a browser reads it, too.
        assert response.headers["access-control-allow-origin"] == "*"
        assert "WWW-Authenticate" in response.headers["access-control-expose-headers"]
    else:
        # Trouble that may pass is never a 401: clients throw good tokens away on that.
        assert "www-authenticate" not in response.headers
        assert ("retry-after" in response.headers) == (case.row.status in {502, 503})


async def test_an_endpoint_that_is_set_is_asked_without_credentials_too() -> None:
    """It may be protected otherwise."""
    settings = {**INTROSPECTING, "idp_client_id": None, "idp_client_secret": None}
    async with Protected(settings=settings, scopes=()) as server:
        server.idp.tokens["opaque"] = claims(active=True, iss=None, iat=None, exp=None)
        assert (await server.get("Bearer opaque")).status_code == 200


class WithoutMetadata(Idp):
    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert not request.url.path.startswith("/.well-known/")
        return super().__call__(request)


async def test_where_the_metadata_cannot_be_read_the_urls_and_the_issuer_of_the_tokens_suffice() -> None:
    issuer = "https://idp.example/tenant/v2.0/"
    known = {"idp_issuer": None, "idp_issuer_claim": issuer, "idp_jwks_url": f"{IDP}/keys"}
    async with Protected(idp=WithoutMetadata(), settings=known) as server:
        for iss, status in ((issuer, 200), (IDP, 401)):
            assert (await server.get(f"Bearer {good_token(iss=iss)}")).status_code == status


async def test_what_a_good_token_says_is_known_to_the_app_and_the_token_is_not(server: Protected) -> None:
    door = FrontDoor(pipeline=server.pipeline)
    before = await door.samples()
    response = await server.get(f"Bearer {good_token()}")
    assert response.status_code == 200
    seen = json_of(response)
    assert seen["subject"] == "alice"
    assert seen["user"] == [True, "alice", "alice"]
    assert seen["user_is_of_the_token"]
    assert seen["scopes"] == ["files:read", "files:write"]
    assert seen["idp_token"] is None
    assert "authorization" not in seen["headers"]
    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-correlation-id"])
    grown = increases(before, await door.samples())
    assert not [name for name in grown if name.startswith("oauth_errors")]
    assert grown['oauth_idp_requests_total{operation="jwks",outcome="ok"}'] == 1


async def test_a_token_of_ours_tells_the_app_the_identity_providers_token() -> None:
    async with Protected(settings={"access_tokens": "own", "idp_issuer": None}) as server:
        token = own_token(server.all_settings, subject=None)
        seen = json_of(await server.get(f"Bearer {token}"))
    assert seen["idp_token"] == "the token of the identity provider"
    assert seen["user"] == [True, "", ""]
    assert server.idp.requests == []


async def test_a_token_of_ours_tells_the_app_who_the_user_is() -> None:
    async with Protected(settings={"access_tokens": "own", "idp_issuer": None}) as server:
        user = {"email": "ann@example.com", "name": "Ann", "groups": ("a", "b"), "tenant": "t"}
        seen = json_of(await server.get(f"Bearer {own_token(server.all_settings, **user)}"))
    assert seen["told"] == ["ann@example.com", "Ann", ["a", "b"], "t"]


@pytest.mark.parametrize(
    "name",
    [
        "X-Seed-OAuth-Subject",
        "x-seed-oauth-idp-token",
        "X_Seed_OAuth_Subject",
        "X.Seed.OAuth-Subject",
        "X-Seed-OAuth-New",
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_identity_headers_that_a_client_makes_up_never_reach_the_app(
    server: Protected, name: str, method: str
) -> None:
    """THREATS 15."""
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    headers = {name: "admin", "Authorization": f"Bearer {good_token()}", **(preflight if method == "OPTIONS" else {})}
    seen = json_of(await server.http.request(method, "/mcp", headers=headers))
    assert "admin" not in seen["headers"].values()
    assert "authorization" not in seen["headers"]


async def test_what_stands_before_cannot_make_somebody_up_either() -> None:
    """THREATS 15: the scope of a request that has passed is ours."""
    async with Protected() as server:

        async def forging(scope: Any, receive: Any, send: Any) -> None:
            forged = {"user": "admin", "auth": "admin", "seed_oauth.token": "admin"}
            await server.protected({**scope, **forged}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(forging), base_url="https://door.example") as http:
            seen = json_of(await http.get("/mcp", headers={"Authorization": f"Bearer {good_token()}"}))
            assert seen["subject"] == "alice"
            assert (await http.get("/mcp")).status_code == 401
            preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
            assert json_of(await http.options("/mcp", headers=preflight))["anonymous"] == "OPTIONS"


async def test_a_required_scope_may_be_granted_by_one_that_includes_it() -> None:
    """PROTOCOL M8 (MCP Authorization, "Step-Up Authorization Flow")."""
    hierarchy = {"scope_hierarchy": {"admin": ["files:write"], "files:write": ["files:read"]}}
    async with Protected(scopes=("files:read",), settings=hierarchy) as server:
        for scope, status in (("files:read", 200), ("files:write", 200), ("admin", 200)):
            assert (await server.get(f"Bearer {good_token(scope=scope)}")).status_code == status
        refused = await server.get(f"Bearer {good_token(scope='mail')}")
        assert refused.status_code == 403
        assert 'scope="files:read"' in refused.headers["www-authenticate"]


async def test_a_person_who_opens_the_mcp_server_is_told_what_to_do_with_its_url() -> None:
    async with Protected() as server:
        page = await server.http.get("/mcp", headers={"Accept": "text/html"})
        assert page.status_code == 401
        assert page.headers["content-type"].startswith("text/html")
        assert "Add the URL of this page to your MCP client" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["www-authenticate"].startswith("Bearer ")
        client = await server.http.get("/mcp", headers={"Accept": "application/json, text/event-stream"})
        assert json_of(client)["error"] == "invalid_token"


async def test_without_required_scopes_any_good_token_will_do_and_the_advertised_are_asked_for() -> None:
    async with Protected(scopes=(), settings={"scopes": "mail"}) as server:
        assert (await server.get(f"Bearer {good_token(scope=None)}")).status_code == 200
        assert 'scope="mail"' in (await server.get()).headers["www-authenticate"]
    async with Protected(scopes=(), settings={"required_scopes": "mail", "scopes": "files"}) as server:
        assert (await server.get(f"Bearer {good_token()}")).status_code == 403
        assert 'scope="mail"' in (await server.get()).headers["www-authenticate"]
    async with Protected(scopes=()) as server:
        assert "scope=" not in (await server.get()).headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"])
async def test_the_resources_metadata_is_served_where_the_challenge_says(server: Protected, path: str) -> None:
    """PROTOCOL M4 and M6 (RFC 9728)."""
    response = await server.http.get(path, headers={"Origin": "https://app.example"})
    assert json_of(response) == {
        "resource": RESOURCE,
        "authorization_servers": ["https://door.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["files:read", "files:write"],
    }
    assert response.headers["access-control-allow-origin"] == "*"
    assert (await server.http.post(path)).status_code == 405


async def test_a_door_elsewhere_is_named_in_the_metadata() -> None:
    settings = {"issuer": "https://login.example/tenant", "resources": "https://mcp.example/a/mcp/"}
    async with Protected(settings=settings) as server:
        url = "https://mcp.example/.well-known/oauth-protected-resource/a/mcp"
        assert url in (await server.get()).headers["www-authenticate"]
        metadata = json_of(await server.http.get(httpx.URL(url).path))
    assert metadata["authorization_servers"] == ["https://login.example/tenant"]
    assert metadata["resource"] == "https://mcp.example/a/mcp/"


async def test_a_preflight_is_left_to_the_app_and_nothing_else_without_a_token_is() -> None:
    """PROTOCOL M6."""
    cors = Middleware(CORSMiddleware, allow_origins=["https://app.example"], allow_headers=["authorization"])
    app = Starlette(routes=[Route("/mcp", mcp)], middleware=[cors])
    async with Protected(app=app) as server:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
        preflight = await server.http.options("/mcp", headers=headers)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert (await server.http.options("/mcp", headers={"Origin": "https://app.example"})).status_code == 401
        assert (await server.http.get("/mcp", headers=headers)).status_code == 401


async def test_a_preflight_that_the_app_does_not_answer_is_answered_here() -> None:
    """PROTOCOL M6: MCP SDK servers answer 405. Browsers do not send the token before one is answered."""
    app = Starlette(routes=[Route("/mcp", mcp, methods=["GET", "POST"])])
    async with Protected(app=app) as server:
        headers = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, mcp-protocol-version",
            "Access-Control-Request-Private-Network": "true",
        }
        preflight = await server.http.options("/mcp", headers=headers)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-private-network"] == "true"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        answer = await server.get(f"Bearer {good_token()}")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "mcp-session-id" in answer.headers["access-control-expose-headers"].lower()


async def test_a_preflight_that_the_app_refuses_stays_refused() -> None:
    cors = Middleware(CORSMiddleware, allow_origins=["https://app.example"], allow_headers=["authorization"])
    async with Protected(app=Starlette(routes=[Route("/mcp", mcp)], middleware=[cors])) as server:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
        refused = await server.http.options("/mcp", headers=headers)
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)


async def test_cors_around_the_protection_has_the_last_word() -> None:
    async with Protected() as server:
        around = CORSMiddleware(
            server.protected, allow_origins=["https://app.example"], expose_headers=["WWW-Authenticate"]
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(around), base_url="https://door.example") as http:
            response = await http.get("/mcp", headers={"Origin": "https://app.example"})
    assert response.status_code == 401
    assert response.headers.get_list("access-control-allow-origin") == ["https://app.example"]


async def test_a_method_that_nobody_has_heard_of_is_refused_and_head_is_not_counted(server: Protected) -> None:
    response = await server.http.request("PROPFIND", "/mcp")
    assert response.status_code == 405
    assert await FrontDoor(pipeline=server.pipeline).error_count(ResourceOutcome.METHOD_NOT_ALLOWED) == 1
    assert (await server.http.head("/mcp")).status_code == 401
    assert await FrontDoor(pipeline=server.pipeline).error_count(ResourceOutcome.NO_TOKEN) == 0


def test_a_websocket_is_refused() -> None:
    app = protect(SERVER, Settings(**SETTINGS), pipeline=Pipeline())
    with pytest.raises(WebSocketDisconnect) as refused, TestClient(app).websocket_connect("/mcp"):
        pass
    assert refused.value.code == 1008


async def test_the_apps_lifespan_is_run_and_connections_are_closed_with_it() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("stopped")

    class Closing(httpx.MockTransport):
        async def aclose(self) -> None:
            events.append("closed")

    app = Starlette(routes=SERVER.routes, lifespan=lifespan)
    protected = protect(app, Settings(**SETTINGS), transport=Closing(Idp()))
    with TestClient(protected) as client:
        token = good_token()
        assert client.get("/mcp", headers={"Authorization": f"Bearer {token}"}).json()["subject"] == "alice"
    assert events == ["started", "stopped", "closed"]


async def test_it_mounts_beside_the_door_in_one_app() -> None:
    async with FrontDoor(settings={"idp_issuer": "https://idp.example"}) as door:
        settings = Settings(**SETTINGS)
        protected = protect(SERVER, settings, pipeline=door.pipeline, transport=httpx.MockTransport(Idp()))
        app = Starlette(routes=[Route("/mcp", protected), Mount("/", door.app)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://door.example") as http:
            refused = await http.get("/mcp")
            where = re.search(r'resource_metadata="https://door.example([^"]+)"', refused.headers["www-authenticate"])
            assert where
            assert json_of(await http.get(where[1]))["resource"] == RESOURCE
            good = await http.get("/mcp", headers={"Authorization": f"Bearer {good_token()}"})
            assert json_of(good)["subject"] == "alice"
        assert await door.error_count(ResourceOutcome.NO_TOKEN) == 1
        await protected.aclose()


async def test_an_app_that_fails_after_the_check_fails_as_it_would_without_and_is_counted_as_allowed() -> None:
    async def fails(*_: Any) -> None:
        raise RuntimeError("of the app")

    async with Protected(app=fails) as server:
        with pytest.raises(RuntimeError, match="of the app"):
            await server.get(f"Bearer {good_token()}")
        assert await FrontDoor(pipeline=server.pipeline).error_count(ResourceOutcome.UNEXPECTED) == 0


async def test_a_client_that_is_gone_is_the_apps_to_notice() -> None:
    received: list[Message] = []

    async def app(_: Any, receive: Any, __: Any) -> None:
        received.append(await receive())

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise AssertionError

    headers = [(b"authorization", f"Bearer {good_token()}".encode())]
    async with Protected(app=app) as other:
        scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}
        await other.protected(scope, receive, send)
    assert received == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"idp_issuer": None}, {}, "SEED_OAUTH_IDP_ISSUER is missing"),
        ({"idp_issuer": None, "flow": "relay", "access_tokens": "own"}, {}, "SEED_OAUTH_IDP_ISSUER is missing"),
        ({"resources": "https://a.example/mcp https://b.example/mcp"}, {}, "must be one of SEED_OAUTH_RESOURCES"),
        ({}, {"resource": "https://other.example"}, "must be one of SEED_OAUTH_RESOURCES"),
        ({}, {"scopes": "files:read"}, "must be a list of scopes"),
        ({}, {"scopes": ["a b"]}, "must be a list of scopes"),
        ({}, {"scopes": ['a"b']}, "must be a list of scopes"),
    ],
)
def test_what_cannot_be_checked_is_refused_at_start(
    settings: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        protect(SERVER, Settings(**{**SETTINGS, **settings}), **given)


async def test_one_of_several_resources_can_be_protected_by_its_name() -> None:
    settings = Settings(**{**SETTINGS, "resources": "https://a.example/mcp https://b.example/mcp"})
    protected = protect(
        SERVER, settings, resource="https://b.example/mcp", transport=httpx.MockTransport(Idp()), pipeline=Pipeline()
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(protected), base_url="https://b.example") as http:
        for audience, status in (("https://a.example/mcp", 401), ("https://b.example/mcp", 200)):
            headers = {"Authorization": f"Bearer {good_token(aud=audience)}"}
            assert (await http.get("/mcp", headers=headers)).status_code == status
    await protected.aclose()


def test_settings_come_from_the_environment_when_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_OAUTH_IDP_ISSUER", "https://idp.example")
    assert isinstance(protect(SERVER), ProtectedApp)


@cache
def shared_server() -> ProtectedApp:
    return protect(SERVER, Settings(**SETTINGS), pipeline=Pipeline(), transport=httpx.MockTransport(Idp()))


anything = st.binary(max_size=60).filter(lambda value: not re.search(rb"[\r\n\0]", value))
tokens = st.text("Aa0-_.=~+/", max_size=60).map(str.encode) | st.sampled_from(
    [
        b"e30.e30.e30",
        b"eyJhbGciOiJub25lIn0.e30.",
        b"a" * 20_000,
        signed(claims(exp=[])).encode(),
        b"gAAAAA",
        b"..",
        b".",
    ]
)
authorizations = anything | st.builds(lambda token: b"Bearer " + token, tokens | anything)


@given(st.lists(authorizations, max_size=2), anything, st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "x"]))
def test_whatever_is_sent_for_a_token_is_refused_cleanly(sent: list[bytes], query: bytes, method: str) -> None:
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        answered.append(message)

    headers = [(b"authorization", value) for value in sent]
    scope = {"type": "http", "method": method, "path": "/mcp", "query_string": query, "headers": headers}
    anyio.run(shared_server(), scope, receive, send)
    assert answered[0]["status"] in {400, 401, 405}
    for name, value in answered[0]["headers"]:
        assert re.fullmatch(rb"[a-z-]+", name)
        assert re.fullmatch(rb"[\x20-\x7e]+", value)


async def test_requests_are_counted_by_result_so_that_failures_have_a_denominator() -> None:
    async with Protected() as server:
        before = await FrontDoor(pipeline=server.pipeline).samples()
        await server.get()
        await server.get("Bearer none.of.ours")
        for _ in range(2):
            assert (await server.get(f"Bearer {good_token()}")).status_code == 200
        grown = increases(before, await FrontDoor(pipeline=server.pipeline).samples())
    assert {name: by for name, by in grown.items() if name.startswith("oauth_resource_requests")} == {
        f'oauth_resource_requests_total{{result="{result}"}}': by
        for result, by in {"challenged": 1, "refused": 1, "allowed": 2}.items()
    }
