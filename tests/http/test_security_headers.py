"""Every answer has the header fields that keep browsers from doing with it what nobody meant."""

import httpx
import pytest

from tests.broker import BrokerDoor
from tests.endpoints.test_boundary import ENDPOINTS, begin
from tests.harness import FrontDoor, authorization_request, code_request, registration_request
from tests.http_client.test_transport import response
from tests.resource_server.test_reverse_proxy import Recorder, door_with

pytestmark = pytest.mark.anyio


@pytest.fixture
def door(relay_door: FrontDoor) -> FrontDoor:
    return relay_door


HSTS = "max-age=31536000"
PREFLIGHT = {"Origin": "https://inspector.example", "Access-Control-Request-Method": "POST"}
FORM = "application/x-www-form-urlencoded"
REQUESTS = {
    "a redirect": ("GET", "/oauth/authorize", {"params": authorization_request()}, 302),
    "an error page": ("GET", "/oauth/authorize", {"headers": {"Accept": "text/html"}}, 400),
    "an error as JSON": ("POST", "/oauth/token", {"data": {"grant_type": "x"}}, 400),
    "tokens": ("POST", "/oauth/token", {"data": code_request()}, 200),
    "a registration": ("POST", "/oauth/register", {"json": registration_request()}, 201),
    "a revocation": ("POST", "/oauth/revoke", {"data": {"token": "x", "client_id": "public"}}, 200),
    "metadata": ("GET", "/.well-known/oauth-authorization-server", {}, 200),
    "a method that metadata do not know": ("POST", "/.well-known/oauth-authorization-server", {}, 405),
    "a preflight": ("OPTIONS", "/oauth/token", {"headers": PREFLIGHT}, 200),
    "health": ("GET", "/healthz", {}, 200),
    "readiness": ("GET", "/readyz", {}, 200),
    "what is not there": ("GET", "/nothing", {}, 404),
    "a method that is not allowed": ("DELETE", "/oauth/token", {}, 405),
    "what is too large": ("POST", "/oauth/token", {"content": b"x" * 70_000, "headers": {"Content-Type": FORM}}, 413),
}


def values(answer: httpx.Response, name: str) -> list[str]:
    return answer.headers.get_list(name)


@pytest.mark.parametrize("what", REQUESTS)
async def test_every_answer_may_not_be_sniffed_and_keeps_browsers_to_https(what: str, door: FrontDoor) -> None:
    """RFC 6797 §7.1."""
    method, path, options, status = REQUESTS[what]
    answer = await door.http.request(method, path, **options)  # type: ignore[arg-type]  # of several kinds
    assert answer.status_code == status
    assert values(answer, "x-content-type-options") == ["nosniff"]
    assert values(answer, "strict-transport-security") == [HSTS]


@pytest.mark.parametrize("name", [name for name, _ in ENDPOINTS])
async def test_so_has_every_step_of_a_login(name: str) -> None:
    async with BrokerDoor() as door:
        answer = await door.http.send(await begin(door, name))
    assert values(answer, "x-content-type-options") == ["nosniff"]


async def test_nobody_is_kept_to_https_by_a_server_that_has_none() -> None:
    async with FrontDoor(settings={"issuer": "http://127.0.0.1:8000"}) as door:
        answer = await door.http.get("/healthz")
    assert values(answer, "strict-transport-security") == []
    assert values(answer, "x-content-type-options") == ["nosniff"]


async def test_other_origins_may_read_what_they_could_before(door: FrontDoor) -> None:
    answer = await door.http.post("/oauth/token", data=code_request(), headers={"Origin": PREFLIGHT["Origin"]})
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_nothing_of_oauth_stays_in_a_cache(door: FrontDoor) -> None:
    """RFC 6749 §5.1."""
    for what in ("a redirect", "an error page", "an error as JSON", "tokens", "a registration", "what is not there"):
        method, path, options, _ = REQUESTS[what]
        answer = await door.http.request(method, path, **options)  # type: ignore[arg-type]  # of several kinds
        assert answer.headers["cache-control"] == "no-store", what


async def test_an_answer_of_the_mcp_server_keeps_its_own() -> None:
    own = response(b"hello", headers=b"X-Content-Type-Options: its-own\r\nStrict-Transport-Security: max-age=1\r\n")
    async with door_with(Recorder(own)) as door:
        answer = await door.http.post(door.mcp, headers=door.headers())
    assert values(answer, "x-content-type-options") == ["its-own"]
    assert values(answer, "strict-transport-security") == ["max-age=1"]
