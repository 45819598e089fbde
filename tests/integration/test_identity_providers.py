"""The real identity providers by themselves: what the tests that run against them rely on."""

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.harness import CODE_CHALLENGE, CODE_VERIFIER, json_of, query_of
from tests.integration.conftest import Register
from tests.integration.identity_providers import SCOPE, Registration
from tests.integration.person import Person

pytestmark = pytest.mark.anyio

RESOURCE = "http://127.0.0.1:8000/mcp"
REDIRECT_URI = "http://127.0.0.1:8000/oauth/callback"


def authorization_request(door: Registration, **changes: str) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": door.client_id,
        "redirect_uri": REDIRECT_URI,
        "state": "state of the door",
        "scope": SCOPE,
        "resource": RESOURCE,
        "code_challenge": CODE_CHALLENGE,
        "code_challenge_method": "S256",
    } | changes


async def test_a_registered_door_gets_tokens_for_its_resource_and_refreshes_them(register: Register) -> None:
    async with (
        register(redirect_uris=[REDIRECT_URI], resource=RESOURCE) as door,
        Person(door.user) as person,
        httpx.AsyncClient(trust_env=False, auth=(door.client_id, door.client_secret)) as http,
    ):
        metadata = await door.metadata()
        asked = httpx.URL(metadata["authorization_endpoint"], params=authorization_request(door))
        returned = query_of(await person.authorize(str(asked)))
        assert returned["state"] == "state of the door"
        assert returned["iss"] == door.issuer

        form = {"grant_type": "authorization_code", "code": returned["code"], "redirect_uri": REDIRECT_URI}
        answer = await http.post(metadata["token_endpoint"], data={**form, "code_verifier": CODE_VERIFIER})
        tokens = json_of(answer)
        assert answer.status_code == 200, tokens
        published = (await http.get(metadata["jwks_uri"])).json()
        keys = KeySet.import_key_set(published)
        claims = jwt.decode(tokens["access_token"], keys).claims
        assert RESOURCE in (claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]])
        assert claims["iss"] == door.issuer
        assert SCOPE in claims["scope"].split()

        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        refreshed = json_of(await http.post(metadata["token_endpoint"], data=form))
        assert refreshed["refresh_token"] != tokens["refresh_token"]
        again = await http.post(metadata["token_endpoint"], data=form)
        assert json_of(again)["error"] == "invalid_grant"  # rotated: the old one is spent


async def test_a_login_without_pkce_is_refused(register: Register) -> None:
    async with register(redirect_uris=[REDIRECT_URI], resource=RESOURCE) as door, Person(door.user) as person:
        request = authorization_request(door)
        del request["code_challenge"], request["code_challenge_method"]
        asked = httpx.URL((await door.metadata())["authorization_endpoint"], params=request)
        assert query_of(await person.authorize(str(asked)))["error"] == "invalid_request"


async def test_a_redirect_uri_of_somebody_else_is_refused(register: Register) -> None:
    async with register(redirect_uris=[REDIRECT_URI], resource=RESOURCE) as door, Person(door.user) as person:
        request = authorization_request(door, redirect_uri="https://attacker.example/callback")
        asked = httpx.URL((await door.metadata())["authorization_endpoint"], params=request)
        assert (await person.open(str(asked))).status_code == 400
