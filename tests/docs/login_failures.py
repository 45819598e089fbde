"""The login failures that an operator can cause: what is seen, and what brings each about."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import TypeVar

import httpx

from seed_oauth import Settings
from seed_oauth.clients import Client
from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    TokenOutcome,
)
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from tests.broker import BrokerDoor, Clock, PlayedGrants, PlayedHeldResponses
from tests.cli.test_cli import free_port
from tests.harness import (
    CALLBACK,
    DOCUMENT_DOWN,
    SETTINGS,
    BrokenStore,
    FrontDoor,
    RelayDoor,
    authorization_request,
    code_request,
    query_of,
    refresh_request,
)
from tests.http_client.test_transport import answering, listening
from tests.resource_server.issuing import Idp, own_token
from tests.resource_server.test_protect import CASES, Protected, good_token

Scenario = Callable[[], Awaitable[object]]
Door = TypeVar("Door", bound=FrontDoor)

DISCOVERED = {"idp_issuer": "https://idp.example", "idp_authorization_url": None}
REGISTERED_WITH_A_SLASH = Client(client_id="public", issued_at=1, redirect_uris=(f"{CALLBACK}/",))
UNCONFIGURED = {"idp_authorization_url": None, "idp_token_url": None, "idp_client_id": None, "idp_client_secret": None}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One section of the page."""

    outcome: Outcome
    seen: str
    """What the user or the client sees: the symptom. Cause and remedy are in `REMEDIES`."""
    scenario: Scenario


def asking(door: Door, ask: Callable[[Door], Awaitable[object]]) -> Scenario:
    """One request to a door."""

    async def scenario() -> None:
        async with door:
            await ask(door)

    return scenario


async def redeem(door: FrontDoor) -> None:
    await door.token(code_request())


async def opens_account_page(door: BrokerDoor) -> None:
    page = await door.person.http.get("/oauth/account")
    await door.person.logs_in(page.headers["location"])


async def store_down_at_refresh() -> None:
    grants = PlayedGrants()
    async with BrokerDoor(grants=grants) as door:
        tokens = await door.login()
        grants.failing.add("take_lease")
        await door.token(refresh_request(refresh_token=tokens["refresh_token"]))


async def quota_exhausted() -> None:
    store = SqliteClientStore(Database("sqlite:///:memory:"), quota=1)
    async with FrontDoor(clients=store) as door:
        await door.register()
        await door.register()


def unreachable(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def too_many() -> None:
    limited = FrontDoor(settings={"rate_limit_authorize": "1/minute"}, now=Clock())
    async with limited as door, door.client("93.184.216.34") as http:
        for _ in range(2):
            await http.get("/oauth/authorize", params=authorization_request())


def returning(**parameters: str) -> Scenario:
    async def scenario() -> None:
        async with BrokerDoor() as door:
            at_idp = query_of(await door.person.reaches_idp())
            await door.person.returns(**{"state": at_idp["state"], **parameters})

    return scenario


async def other_browser() -> None:
    async with BrokerDoor() as door:
        at_idp = query_of(await door.person.reaches_idp())
        await door.somebody().returns(state=at_idp["state"], code="x")


def exchanging_at_callback(status: int, **members: str) -> Scenario:
    async def scenario() -> None:
        async with BrokerDoor(idp=lambda _: httpx.Response(status, json=members)) as door:
            at_idp = query_of(await door.person.reaches_idp())
            await door.person.returns(state=at_idp["state"], code="x")

    return scenario


async def token_endpoint_down_at_callback() -> None:
    async with BrokerDoor(idp=unreachable) as door:
        at_idp = query_of(await door.person.reaches_idp())
        await door.person.returns(state=at_idp["state"], code="x")


async def store_down_at_callback() -> None:
    held = PlayedHeldResponses()
    held.failing.add("hold")
    async with BrokerDoor(held=held) as door:
        await door.person.logs_in(await door.person.reaches_idp())


def exchanging(status: int, error: str) -> Scenario:
    return asking(RelayDoor(idp=lambda _: httpx.Response(status, json={"error": error})), redeem)


def resource(row: ResourceOutcome) -> Scenario:
    case = next(case for case in CASES if case.row is row)

    async def scenario() -> None:
        async with Protected(idp=Idp(failure=case.idp), settings=case.settings) as server:
            await server.get(*case.authorization(), params=case.query)

    return scenario


async def scope_not_granted() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delete_file"}}
    async with Protected(settings={"tool_scopes": {"files:delete": ["delete_*"]}}) as server:
        for login in ("first", "second"):
            headers = {"Authorization": f"Bearer {good_token(jti=login)}"}
            await server.http.post("/mcp", json=call, headers=headers)


async def forward(port: int, **settings: object) -> None:
    door = FrontDoor(settings={"mcp_server": f"http://127.0.0.1:{port}/mcp", "access_tokens": "own", **settings})
    token = own_token(Settings(**{**SETTINGS, **door.settings}), expires_at=int(time()) + 300)
    async with door:
        await door.http.post("/mcp", headers={"Authorization": f"Bearer {token}"})


async def mcp_server_down() -> None:
    await forward(free_port())


async def mcp_server_slow() -> None:
    async with listening(answering(then_hang=True)) as port:
        await forward(port, mcp_server_timeout=0.05)


async def mcp_server_redirects() -> None:
    head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /mcp/\r\nContent-Length: 0\r\n\r\n"
    async with listening(answering(head)) as port:
        await forward(port)


SECTIONS: dict[str, list[Failure]] = {
    "Before the login page": [
        Failure(
            outcome=AuthorizationOutcome.NOT_CONFIGURED,
            seen="The browser shows an error, for every client.",
            scenario=asking(FrontDoor(settings=UNCONFIGURED), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.IDP_UNAVAILABLE,
            seen="The client reports `temporarily_unavailable`, for every user.",
            scenario=asking(RelayDoor(idp=unreachable, settings=DISCOVERED), RelayDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
            seen="The browser shows an error, for every client that has registered.",
            scenario=asking(FrontDoor(clients=BrokenStore()), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.UNKNOWN_CLIENT,
            seen="The browser shows that the application is not registered, for many users at the same time.",
            scenario=asking(FrontDoor(known=()), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.BAD_REDIRECT_URI,
            seen="The browser shows an error, for one client of `SEED_OAUTH_CLIENTS`.",
            scenario=asking(FrontDoor(known=[REGISTERED_WITH_A_SLASH]), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.BAD_RESOURCE,
            seen="The client reports `invalid_target`.",
            scenario=asking(FrontDoor(), lambda door: door.authorize(resource="https://mcp.example/mcp")),
        ),
        Failure(
            outcome=AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE,
            seen="The browser shows an error, for clients whose `client_id` is a URL; others work.",
            scenario=asking(FrontDoor(), lambda door: door.authorize(client_id=DOCUMENT_DOWN)),
        ),
        Failure(
            outcome=AuthorizationOutcome.RATE_LIMITED,
            seen="The browser shows that there are too many requests, for many users at once.",
            scenario=too_many,
        ),
        Failure(
            outcome=RegistrationOutcome.STORE_FAILED,
            seen="A new client cannot be added; known ones may still work.",
            scenario=asking(FrontDoor(clients=BrokenStore()), FrontDoor.register),
        ),
        Failure(
            outcome=RegistrationOutcome.QUOTA_EXHAUSTED,
            seen="A new client cannot be added.",
            scenario=quota_exhausted,
        ),
    ],
    "At the identity provider": [
        Failure(
            outcome=CallbackOutcome.IDP_REFUSED,
            seen="The client reports `server_error` as soon as the browser reaches the identity provider.",
            scenario=returning(error="unauthorized_client"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_SCOPE,
            seen="The client reports `invalid_scope`.",
            scenario=returning(error="invalid_scope"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_TARGET,
            seen="The client reports `invalid_target`.",
            scenario=returning(error="invalid_target"),
        ),
        Failure(
            outcome=CallbackOutcome.BAD_STATE,
            seen="After the login the browser shows that it did not begin here, every now and then or for everybody.",
            scenario=asking(
                BrokerDoor(), lambda door: door.person.returns(state="sealed-by-another-replica", code="x")
            ),
        ),
        Failure(
            outcome=CallbackOutcome.OTHER_BROWSER,
            seen="After the login the browser shows that it began in another browser, for everybody.",
            scenario=other_browser,
        ),
        Failure(
            outcome=CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            scenario=exchanging_at_callback(401, error="invalid_client"),
        ),
        Failure(
            outcome=CallbackOutcome.NO_SUBJECT,
            seen="After a login at `/oauth/account` the browser shows that it is not known who the user is.",
            scenario=asking(BrokerDoor(), opens_account_page),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_ID_TOKEN_ALONE,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            scenario=exchanging_at_callback(200, id_token="a.b.c"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNAUTHORIZED_CLIENT,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            scenario=exchanging_at_callback(400, error="unauthorized_client"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNSUPPORTED_GRANT_TYPE,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            scenario=exchanging_at_callback(400, error="unsupported_grant_type"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_REQUEST,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            scenario=exchanging_at_callback(400, error="invalid_request"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNREACHABLE,
            seen="The client reports `temporarily_unavailable` after the login.",
            scenario=token_endpoint_down_at_callback,
        ),
        Failure(
            outcome=CallbackOutcome.STORE_FAILED,
            seen="The client reports `temporarily_unavailable` after the login.",
            scenario=store_down_at_callback,
        ),
    ],
    "When the client asks for tokens": [
        Failure(
            outcome=TokenOutcome.NOT_CONFIGURED,
            seen="The client reports `server_error`.",
            scenario=asking(FrontDoor(settings=UNCONFIGURED), redeem),
        ),
        Failure(
            outcome=TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS,
            seen="No client can refresh, or in the relay flow get a token: they report `server_error`.",
            scenario=exchanging(401, "invalid_client"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_ID_TOKEN_ALONE,
            seen="No client can refresh, or in the relay flow get a token: they report `server_error`.",
            scenario=asking(RelayDoor(idp=lambda _: httpx.Response(200, json={"id_token": "a.b.c"})), redeem),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNAUTHORIZED_CLIENT,
            seen="The client reports `unauthorized_client`.",
            scenario=exchanging(400, "unauthorized_client"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNSUPPORTED_GRANT_TYPE,
            seen="The client reports `unsupported_grant_type`, often only when it refreshes.",
            scenario=exchanging(400, "unsupported_grant_type"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNREACHABLE,
            seen="The client reports `temporarily_unavailable` when it refreshes, in the relay flow after the login.",
            scenario=asking(RelayDoor(idp=unreachable), redeem),
        ),
        Failure(
            outcome=TokenOutcome.CLIENT_LOOKUP_FAILED,
            seen="The client reports `temporarily_unavailable` after the login.",
            scenario=asking(FrontDoor(clients=BrokenStore()), redeem),
        ),
        Failure(
            outcome=TokenOutcome.STORE_FAILED,
            seen="Logins succeed, but clients cannot refresh: they report `temporarily_unavailable` after an hour.",
            scenario=store_down_at_refresh,
        ),
        Failure(
            outcome=TokenOutcome.BAD_CODE,
            seen="The client reports `invalid_grant` right after the login, every now and then.",
            scenario=asking(BrokerDoor(), lambda door: door.token(code_request(code="sealed-by-another-replica"))),
        ),
        Failure(
            outcome=TokenOutcome.BAD_REFRESH_TOKEN,
            seen="Everybody has to log in again at the same time.",
            scenario=asking(
                BrokerDoor(), lambda door: door.token(refresh_request(refresh_token="sealed-by-former-keys"))
            ),
        ),
    ],
    "When the client uses its token": [
        Failure(
            outcome=ResourceOutcome.WRONG_AUDIENCE,
            seen="The client logs in again and again.",
            scenario=resource(ResourceOutcome.WRONG_AUDIENCE),
        ),
        Failure(
            outcome=ResourceOutcome.WRONG_ISSUER,
            seen="The client logs in again and again.",
            scenario=resource(ResourceOutcome.WRONG_ISSUER),
        ),
        Failure(
            outcome=ResourceOutcome.TOKEN_NOT_YET_VALID,
            seen="Tokens are refused right after the login, and accepted later.",
            scenario=resource(ResourceOutcome.TOKEN_NOT_YET_VALID),
        ),
        Failure(
            outcome=ResourceOutcome.INSUFFICIENT_SCOPE,
            seen="The client asks for more rights, and logs in once more.",
            scenario=resource(ResourceOutcome.INSUFFICIENT_SCOPE),
        ),
        Failure(
            outcome=ResourceOutcome.SCOPE_NOT_GRANTED,
            seen="A tool fails after a login that asked for more rights.",
            scenario=scope_not_granted,
        ),
        Failure(
            outcome=ResourceOutcome.NOT_CONFIGURED,
            seen="Every request to the MCP server fails with 503.",
            scenario=resource(ResourceOutcome.NOT_CONFIGURED),
        ),
        Failure(
            outcome=ResourceOutcome.TOKEN_CHECK_REFUSED,
            seen="Every request to the MCP server fails with 502.",
            scenario=resource(ResourceOutcome.TOKEN_CHECK_REFUSED),
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_UNREACHABLE,
            seen="The login succeeds, and the client shows no tools.",
            scenario=mcp_server_down,
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_TIMEOUT,
            seen="The login succeeds, and requests of the client time out.",
            scenario=mcp_server_slow,
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
            seen="The login succeeds, and the client shows no tools.",
            scenario=mcp_server_redirects,
        ),
    ],
}
