"""The OpenAPI document matches what is served."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import httpx
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import BaseRoute, Mount, Route

from seed_oauth.http.paths import FALLBACKS, VERIFY_OF_PATH
from seed_oauth.http.routes_by_url import RoutesByUrl
from seed_oauth.outcomes import RegistrationOutcome, TokenOutcome
from tests.harness import ISSUER, FrontDoor, json_of
from tests.issued_tokens import CALLER_SECRET, EC_PEM

pytestmark = pytest.mark.anyio

DOORS: Mapping[str, Mapping[str, Any]] = {
    "broker": {},
    "relay": {"flow": "relay"},
    "relay without revocation or documents": {
        "flow": "relay",
        "idp_revocation_url": None,
        "client_id_metadata_documents": False,
    },
    "an issuer with a path": {"issuer": f"{ISSUER}/tenant"},
    "tokens that others can check": {
        "access_tokens": "jwt",
        "signing_keys": EC_PEM,
        "introspection_clients": [{"client_id": "files", "client_secret": CALLER_SECRET}],
    },
    "a server behind it": {
        "mcp_server": "http://127.0.0.1:9000/mcp",
        "idp_issuer": "https://idp.example",
        "required_scopes": "mail",
    },
}

doors = pytest.mark.parametrize("settings", DOORS.values(), ids=DOORS.keys())


async def document_of(door: FrontDoor) -> dict[str, Any]:
    return json_of(await door.http.get("/openapi.json"))


@doors
async def test_it_is_a_valid_openapi_document(settings: Mapping[str, Any]) -> None:
    async with FrontDoor(settings=settings) as door:
        OPENAPI_31_VALIDATOR.validate(await document_of(door))


@doors
async def test_every_schema_is_valid(settings: Mapping[str, Any]) -> None:
    async with FrontDoor(settings=settings) as door:
        for schema in (await document_of(door))["components"]["schemas"].values():
            jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def paths_of(routes: list[BaseRoute], issuer_path: str) -> set[str]:
    """The paths of the route table, below the issuer; a trailing slash makes no difference."""
    tables = (route.routes for route in routes if isinstance(route, RoutesByUrl))
    routes = [*routes, *chain.from_iterable(tables)]
    paths = {route.path.rstrip("/") for route in routes if isinstance(route, Route)}
    for mount in (route for route in routes if isinstance(route, Mount)):
        assert mount.path == issuer_path
        assert paths_of(list(mount.routes), issuer_path) <= paths
    return paths


@doors
async def test_it_has_exactly_the_served_paths(settings: Mapping[str, Any]) -> None:
    async with FrontDoor(settings=settings) as door:
        document = await document_of(door)
        # The fallbacks are the same endpoints, for clients that read no document; and Envoy reads none, either.
        undocumented = {*FALLBACKS.values(), VERIFY_OF_PATH}
        assert set(document["paths"]) == paths_of(door.app.routes, "/tenant") - undocumented


@doors
async def test_it_has_exactly_the_served_methods(settings: Mapping[str, Any]) -> None:
    """Other methods get a 405 with `Allow`."""
    async with FrontDoor(settings=settings) as door:
        for path, item in (await document_of(door))["paths"].items():
            methods = {method.upper() for method in item if method != "servers"}
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                response = await door.http.request(method, path)
                assert (response.status_code not in {404, 405}) == (method in methods), (method, path)
                if response.status_code == 405:
                    allowed = {allow.strip() for allow in response.headers["allow"].split(",")}
                    assert allowed - {"HEAD", "OPTIONS"} == methods


async def test_its_responses_match_the_outcome_table() -> None:
    async with FrontDoor(settings=DOORS["broker"]) as door:
        paths = (await document_of(door))["paths"]
    told = paths["/oauth/register"]["post"]["responses"]
    assert set(told) == {str(row.status) for row in RegistrationOutcome if row.status != 405}
    (_, errors) = told["400"]["content"]["application/json"]["schema"]["allOf"]
    assert errors["properties"]["error"]["enum"] == ["invalid_client_metadata", "invalid_redirect_uri"]
    for row in TokenOutcome:
        if row.status == 502:
            assert row.reason in paths["/oauth/token"]["post"]["responses"]["502"]["description"]


async def test_it_says_where_the_endpoints_are() -> None:
    async with FrontDoor(settings={"issuer": f"{ISSUER}/tenant"}) as door:
        document = await document_of(door)
    assert document["servers"] == [{"url": f"{ISSUER}/tenant"}]
    assert document["paths"]["/.well-known/oauth-authorization-server/tenant"]["servers"] == [{"url": ISSUER}]


async def test_it_may_be_read_across_origins_and_cached() -> None:
    async with FrontDoor() as door:
        response: httpx.Response = await door.http.get("/openapi.json", headers={"Origin": "https://app.example"})
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["cache-control"] == "public, max-age=300"
