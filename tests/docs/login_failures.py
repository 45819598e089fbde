"""The login failures that an operator can cause: what is seen, why, what helps, and what brings each about."""

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
    """What the user or the client sees: the symptom."""
    cause: str
    remedy: str
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
            cause="Settings of the identity provider are missing.",
            remedy="`/readyz` names them. Set them and restart.",
            scenario=asking(FrontDoor(settings=UNCONFIGURED), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.IDP_UNAVAILABLE,
            seen="The client reports `temporarily_unavailable`, for every user.",
            cause="The metadata at `SEED_OAUTH_IDP_ISSUER` has never been read: the URL is wrong, or the firewall, "
            "DNS, a proxy or a certificate prevents it.",
            remedy="The log line `identity provider metadata not read` says why. Run `seed-oauth doctor` on this host.",
            scenario=asking(RelayDoor(idp=unreachable, settings=DISCOVERED), RelayDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.CLIENT_LOOKUP_FAILED,
            seen="The browser shows an error, for every client that has registered.",
            cause="The store cannot be read.",
            remedy="The log line `not ready` of the start, and `seed-oauth doctor`, name the file or the server and "
            "the reason.",
            scenario=asking(FrontDoor(clients=BrokenStore()), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.UNKNOWN_CLIENT,
            seen="The browser shows that the application is not registered, for many users at the same time.",
            cause="The store is new: `SEED_OAUTH_STORE_URL` has changed, the volume is not persistent, or each replica "
            "has a file of its own. For a single user: the client was unused for `SEED_OAUTH_CLIENT_DAYS`.",
            remedy="The line `store` at the start says which store is used. Restore the old one, or let users remove "
            "the connection in their client and connect again.",
            scenario=asking(FrontDoor(known=()), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.BAD_REDIRECT_URI,
            seen="The browser shows an error, for one client of `SEED_OAUTH_CLIENTS`.",
            cause="Its `redirect_uris` differ from the one that it sends, often by a slash at the end.",
            remedy="Copy the `redirect_uri` from the address in the browser to `SEED_OAUTH_CLIENTS`.",
            scenario=asking(FrontDoor(known=[REGISTERED_WITH_A_SLASH]), FrontDoor.authorize),
        ),
        Failure(
            outcome=AuthorizationOutcome.BAD_RESOURCE,
            seen="The client reports `invalid_target`.",
            cause="Clients use another URL of the MCP server than `SEED_OAUTH_RESOURCES` has.",
            remedy="Set `SEED_OAUTH_RESOURCES` to the URL that users enter in their client.",
            scenario=asking(FrontDoor(), lambda door: door.authorize(resource="https://mcp.example/mcp")),
        ),
        Failure(
            outcome=AuthorizationOutcome.CLIENT_DOCUMENT_UNAVAILABLE,
            seen="The browser shows an error, for clients whose `client_id` is a URL; others work.",
            cause="This host has no way out to the URL in `client_id`: a firewall or a network policy.",
            remedy="Allow HTTPS to that host, or set `SEED_OAUTH_CLIENT_ID_METADATA_DOCUMENTS=false`, so that these "
            "clients register.",
            scenario=asking(FrontDoor(), lambda door: door.authorize(client_id=DOCUMENT_DOWN)),
        ),
        Failure(
            outcome=AuthorizationOutcome.RATE_LIMITED,
            seen="The browser shows that there are too many requests, for many users at once.",
            cause="All users have the address of the reverse proxy or of the office.",
            remedy="Set `SEED_OAUTH_TRUSTED_PROXIES` to the addresses of your proxies, or raise "
            "[the limit](rate-limits.md).",
            scenario=too_many,
        ),
        Failure(
            outcome=RegistrationOutcome.STORE_FAILED,
            seen="A new client cannot be added; known ones may still work.",
            cause="The store cannot be written: a full disk, a file that belongs to another user, a read-only replica.",
            remedy="`seed-oauth doctor` names the reason. Run it as the user of the server.",
            scenario=asking(FrontDoor(clients=BrokenStore()), FrontDoor.register),
        ),
        Failure(
            outcome=RegistrationOutcome.QUOTA_EXHAUSTED,
            seen="A new client cannot be added.",
            cause="As many clients are registered as `SEED_OAUTH_CLIENT_QUOTA` allows.",
            remedy="Look at `seed-oauth clients list`, then raise the quota or lower `SEED_OAUTH_CLIENT_DAYS`.",
            scenario=quota_exhausted,
        ),
    ],
    "At the identity provider": [
        Failure(
            outcome=CallbackOutcome.IDP_REFUSED,
            seen="The client reports `server_error` as soon as the browser reaches the identity provider.",
            cause="The identity provider does not allow this client the authorization code flow, or one of the "
            "parameters that it is sent.",
            remedy="Allow the grant types `authorization_code` and `refresh_token` for `SEED_OAUTH_IDP_CLIENT_ID`; "
            "check `SEED_OAUTH_IDP_AUTHORIZATION_PARAMETERS`.",
            scenario=returning(error="unauthorized_client"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_SCOPE,
            seen="The client reports `invalid_scope`.",
            cause="`SEED_OAUTH_SCOPES` or `SEED_OAUTH_IDP_SCOPES` has a scope that the identity provider does not "
            "know, or does not allow this client.",
            remedy="Correct them, or list the scope in `SEED_OAUTH_IDP_DROPPED_SCOPES`.",
            scenario=returning(error="invalid_scope"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_TARGET,
            seen="The client reports `invalid_target`.",
            cause="The identity provider does not know the URL of the MCP server as a resource or API.",
            remedy="Register it there, or set `SEED_OAUTH_IDP_SEND_RESOURCE=false`.",
            scenario=returning(error="invalid_target"),
        ),
        Failure(
            outcome=CallbackOutcome.BAD_STATE,
            seen="After the login the browser shows that it did not begin here, every now and then or for everybody.",
            cause="The replicas have different `SEED_OAUTH_SECRET_KEYS`, or the keys were replaced during the login.",
            remedy="Give all replicas the same keys, and [rotate keys](secret-keys.md) by adding the new one first.",
            scenario=asking(
                BrokerDoor(), lambda door: door.person.returns(state="sealed-by-another-replica", code="x")
            ),
        ),
        Failure(
            outcome=CallbackOutcome.OTHER_BROWSER,
            seen="After the login the browser shows that it began in another browser, for everybody.",
            cause="The login begins at another host name than that of `SEED_OAUTH_ISSUER`, so the cookie is missing; "
            "or the reverse proxy removes cookies.",
            remedy="Use one host name everywhere: in `SEED_OAUTH_ISSUER`, in the registered redirect URI and in the "
            "clients. Pass `Cookie` and `Set-Cookie` on.",
            scenario=other_browser,
        ),
        Failure(
            outcome=CallbackOutcome.IDP_REFUSED_OUR_CREDENTIALS,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            cause="`SEED_OAUTH_IDP_CLIENT_SECRET` is wrong or has expired, or is sent in another way than the identity "
            "provider expects.",
            remedy="Set a new secret; try the other value of `SEED_OAUTH_IDP_TOKEN_AUTH_METHOD`. "
            "`seed-oauth doctor` checks both.",
            scenario=exchanging_at_callback(401, error="invalid_client"),
        ),
        Failure(
            outcome=CallbackOutcome.NO_SUBJECT,
            seen="After a login at `/oauth/account` the browser shows that it is not known who the user is.",
            cause="The identity provider sends no ID token, and nothing else says who has logged in.",
            remedy="Set `SEED_OAUTH_IDP_ISSUER` instead of single URLs, or add `openid` to `SEED_OAUTH_IDP_SCOPES`.",
            scenario=asking(BrokerDoor(), opens_account_page),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_ID_TOKEN_ALONE,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            cause="Azure AD B2C issues no access token, because no API is among the scopes.",
            remedy="Expose a scope of an API there, and add it to `SEED_OAUTH_IDP_SCOPES`.",
            scenario=exchanging_at_callback(200, id_token="a.b.c"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNAUTHORIZED_CLIENT,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            cause="The identity provider does not allow `SEED_OAUTH_IDP_CLIENT_ID` the grant type "
            "`authorization_code`.",
            remedy="Allow `authorization_code` and `refresh_token` there.",
            scenario=exchanging_at_callback(400, error="unauthorized_client"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNSUPPORTED_GRANT_TYPE,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            cause="`SEED_OAUTH_IDP_TOKEN_URL` is another endpoint.",
            remedy="Correct the URL.",
            scenario=exchanging_at_callback(400, error="unsupported_grant_type"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_INVALID_REQUEST,
            seen="Everybody can log in at the identity provider, and then the client reports `server_error`.",
            cause="The identity provider does not take a parameter of the token request, often `resource`.",
            remedy="The log line quotes what it says. Try `SEED_OAUTH_IDP_SEND_RESOURCE=false`.",
            scenario=exchanging_at_callback(400, error="invalid_request"),
        ),
        Failure(
            outcome=CallbackOutcome.IDP_UNREACHABLE,
            seen="The client reports `temporarily_unavailable` after the login.",
            cause="This host cannot reach the token endpoint: a firewall, DNS, a proxy or a certificate. Browsers can.",
            remedy="Run `seed-oauth doctor` on this host.",
            scenario=token_endpoint_down_at_callback,
        ),
        Failure(
            outcome=CallbackOutcome.STORE_FAILED,
            seen="The client reports `temporarily_unavailable` after the login.",
            cause="The store cannot be written, so the tokens cannot wait for the client.",
            remedy="`seed-oauth doctor` names the reason. Run it as the user of the server.",
            scenario=store_down_at_callback,
        ),
    ],
    "When the client asks for tokens": [
        Failure(
            outcome=TokenOutcome.NOT_CONFIGURED,
            seen="The client reports `server_error`.",
            cause="Settings of the identity provider are missing in this replica.",
            remedy="`/readyz` names them.",
            scenario=asking(FrontDoor(settings=UNCONFIGURED), redeem),
        ),
        Failure(
            outcome=TokenOutcome.IDP_REFUSED_OUR_CREDENTIALS,
            seen="No client can refresh, or in the relay flow get a token: they report `server_error`.",
            cause="`SEED_OAUTH_IDP_CLIENT_SECRET` is wrong or has expired, or is sent in another way than the identity "
            "provider expects.",
            remedy="Set a new secret; try the other value of `SEED_OAUTH_IDP_TOKEN_AUTH_METHOD`. "
            "`seed-oauth doctor` checks both.",
            scenario=exchanging(401, "invalid_client"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_ID_TOKEN_ALONE,
            seen="No client can refresh, or in the relay flow get a token: they report `server_error`.",
            cause="Azure AD B2C issues no access token, because no API is among the scopes.",
            remedy="Expose a scope of an API there, and add it to `SEED_OAUTH_IDP_SCOPES`.",
            scenario=asking(RelayDoor(idp=lambda _: httpx.Response(200, json={"id_token": "a.b.c"})), redeem),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNAUTHORIZED_CLIENT,
            seen="The client reports `unauthorized_client`.",
            cause="The identity provider does not allow `SEED_OAUTH_IDP_CLIENT_ID` this grant type.",
            remedy="Allow `authorization_code` and `refresh_token` there.",
            scenario=exchanging(400, "unauthorized_client"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNSUPPORTED_GRANT_TYPE,
            seen="The client reports `unsupported_grant_type`, often only when it refreshes.",
            cause="The identity provider does not offer this grant type, or `SEED_OAUTH_IDP_TOKEN_URL` is another "
            "endpoint.",
            remedy="Enable it there, or correct the URL.",
            scenario=exchanging(400, "unsupported_grant_type"),
        ),
        Failure(
            outcome=TokenOutcome.IDP_UNREACHABLE,
            seen="The client reports `temporarily_unavailable` when it refreshes, in the relay flow after the login.",
            cause="This host cannot reach the token endpoint: a firewall, DNS, a proxy or a certificate. Browsers can.",
            remedy="Run `seed-oauth doctor` on this host.",
            scenario=asking(RelayDoor(idp=unreachable), redeem),
        ),
        Failure(
            outcome=TokenOutcome.CLIENT_LOOKUP_FAILED,
            seen="The client reports `temporarily_unavailable` after the login.",
            cause="The store cannot be read.",
            remedy="`seed-oauth doctor` names the reason.",
            scenario=asking(FrontDoor(clients=BrokenStore()), redeem),
        ),
        Failure(
            outcome=TokenOutcome.STORE_FAILED,
            seen="Logins succeed, but clients cannot refresh: they report `temporarily_unavailable` after an hour.",
            cause="The store cannot be written.",
            remedy="`seed-oauth doctor` names the reason.",
            scenario=store_down_at_refresh,
        ),
        Failure(
            outcome=TokenOutcome.BAD_CODE,
            seen="The client reports `invalid_grant` right after the login, every now and then.",
            cause="The replicas have different `SEED_OAUTH_SECRET_KEYS`.",
            remedy="Give all replicas the same keys.",
            scenario=asking(BrokerDoor(), lambda door: door.token(code_request(code="sealed-by-another-replica"))),
        ),
        Failure(
            outcome=TokenOutcome.BAD_REFRESH_TOKEN,
            seen="Everybody has to log in again at the same time.",
            cause="`SEED_OAUTH_SECRET_KEYS` was replaced, or is random because it is not set.",
            remedy="Keep the old key in the list while its tokens are in use: [Secret keys](secret-keys.md).",
            scenario=asking(
                BrokerDoor(), lambda door: door.token(refresh_request(refresh_token="sealed-by-former-keys"))
            ),
        ),
    ],
    "When the client uses its token": [
        Failure(
            outcome=ResourceOutcome.WRONG_AUDIENCE,
            seen="The client logs in again and again.",
            cause="The identity provider issues its tokens for another audience than the URL of the MCP server.",
            remedy="Set `SEED_OAUTH_IDP_AUDIENCES` to the `aud` of its tokens, or `SEED_OAUTH_ACCESS_TOKENS=own`.",
            scenario=resource(ResourceOutcome.WRONG_AUDIENCE),
        ),
        Failure(
            outcome=ResourceOutcome.WRONG_ISSUER,
            seen="The client logs in again and again.",
            cause="The `iss` of the tokens is not `SEED_OAUTH_IDP_ISSUER`: another tenant or another version.",
            remedy="Set `SEED_OAUTH_IDP_ISSUER` to the `iss` of the tokens.",
            scenario=resource(ResourceOutcome.WRONG_ISSUER),
        ),
        Failure(
            outcome=ResourceOutcome.TOKEN_NOT_YET_VALID,
            seen="Tokens are refused right after the login, and accepted later.",
            cause="The clock of this host is slow.",
            remedy="Synchronize it (NTP).",
            scenario=resource(ResourceOutcome.TOKEN_NOT_YET_VALID),
        ),
        Failure(
            outcome=ResourceOutcome.INSUFFICIENT_SCOPE,
            seen="The client asks for more rights, and logs in once more.",
            cause="`SEED_OAUTH_REQUIRED_SCOPES` has a scope that the identity provider did not grant.",
            remedy="Grant it there, or remove it here. "
            "If the second login did not bring it, `scope_not_granted` follows.",
            scenario=resource(ResourceOutcome.INSUFFICIENT_SCOPE),
        ),
        Failure(
            outcome=ResourceOutcome.SCOPE_NOT_GRANTED,
            seen="A tool fails after a login that asked for more rights.",
            cause="`SEED_OAUTH_TOOL_SCOPES`, `SEED_OAUTH_METHOD_SCOPES` or `SEED_OAUTH_REQUIRED_SCOPES` names a scope "
            "that the identity provider does not grant to this user. A client is asked to log in for it once in ten "
            "minutes.",
            remedy="Grant it there, or tell the user that they may not use the tool.",
            scenario=scope_not_granted,
        ),
        Failure(
            outcome=ResourceOutcome.NOT_CONFIGURED,
            seen="Every request to the MCP server fails with 503.",
            cause="Access tokens of the identity provider are JWTs, and its issuer is not set.",
            remedy="Set `SEED_OAUTH_IDP_ISSUER`.",
            scenario=resource(ResourceOutcome.NOT_CONFIGURED),
        ),
        Failure(
            outcome=ResourceOutcome.TOKEN_CHECK_REFUSED,
            seen="Every request to the MCP server fails with 502.",
            cause="The identity provider does not let this server introspect tokens.",
            remedy="Allow introspection for `SEED_OAUTH_IDP_CLIENT_ID`, check its secret, or set "
            "`SEED_OAUTH_IDP_INTROSPECTION=false`.",
            scenario=resource(ResourceOutcome.TOKEN_CHECK_REFUSED),
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_UNREACHABLE,
            seen="The login succeeds, and the client shows no tools.",
            cause="Nothing listens at `SEED_OAUTH_MCP_SERVER`.",
            remedy="Start the MCP server or correct the URL; `/readyz` and `seed-oauth doctor` check it.",
            scenario=mcp_server_down,
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_TIMEOUT,
            seen="The login succeeds, and requests of the client time out.",
            cause="The MCP server does not begin its answer within `SEED_OAUTH_MCP_SERVER_TIMEOUT`.",
            remedy="Look at its log, or raise the timeout.",
            scenario=mcp_server_slow,
        ),
        Failure(
            outcome=ResourceOutcome.MCP_SERVER_INVALID_RESPONSE,
            seen="The login succeeds, and the client shows no tools.",
            cause="`SEED_OAUTH_MCP_SERVER` redirects, often to the same URL with a slash at the end, or is not an HTTP "
            "server.",
            remedy="Set it to the URL that answers.",
            scenario=mcp_server_redirects,
        ),
    ],
}
