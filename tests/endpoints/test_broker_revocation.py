"""`/oauth/revoke` in the broker flow: our refresh tokens here, the identity provider's tokens there (PROTOCOL V1)."""

from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest

from seed_oauth import Settings
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import RevocationOutcome as Row
from tests.broker import IDP, METADATA, BrokerDoor, Clock, PlayedGrants, PlayedMetadata
from tests.harness import SETTINGS, form_of, increases, json_of, refresh_request, sealer_of

pytestmark = pytest.mark.anyio

POST = {"client_id": "post", "client_secret": "secret of post"}


async def revoke(door: BrokerDoor, token: str, credentials: Mapping[str, str] | None = None) -> httpx.Response:
    form = {"token": token, **(credentials or {"client_id": "public"})}
    return await door.http.post("/oauth/revoke", data=form)


def of_ours(door: BrokerDoor, expires_at: int) -> str:
    token = AccessToken(
        client_id="public",
        resource="https://door.example/mcp",
        scope="",
        expires_at=expires_at,
        subject=None,
        idp_access_token="the idp token",
    )
    return token.sealed(sealer_of(Settings(**{**SETTINGS, **door.settings})), door.now())


async def refreshes(door: BrokerDoor, refresh_token: str) -> int:
    return (await door.token(refresh_request(refresh_token=refresh_token))).status_code


async def test_a_refresh_token_is_void_here_and_the_one_within_it_there() -> None:
    async with BrokerDoor() as door:
        tokens = await door.login()
        response = await revoke(door, tokens["refresh_token"])
        assert (response.status_code, response.content) == (200, b"")
        sent = door.idp_requests[-1]
        assert str(sent.url) == f"{IDP}/revoke"
        form = form_of(sent)
        assert form == {"token": form["token"], "token_type_hint": "refresh_token"}
        assert form["token"] != tokens["refresh_token"]
        assert await refreshes(door, tokens["refresh_token"]) == 400
        assert await door.value("oauth_idp_requests_total", operation="revocation", outcome="ok") == 1


async def test_a_refresh_token_that_was_used_voids_its_successor_as_well() -> None:
    async with BrokerDoor() as door:
        tokens = await door.login()
        renewed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
        await revoke(door, tokens["refresh_token"])
        assert await refreshes(door, renewed["refresh_token"]) == 400


async def test_a_client_that_forgets_that_it_revoked_its_token_is_no_sign_of_a_theft() -> None:
    async with BrokerDoor() as door:
        token = (await door.login())["refresh_token"]
        await revoke(door, token)
        asked, before = len(door.idp_requests), await door.samples()
        response = await door.token(refresh_request(refresh_token=token))
        assert (response.status_code, json_of(response)["error"]) == (400, "invalid_grant")
        assert increases(before, await door.samples()) == {
            'oauth_errors_total{cause="client",endpoint="token",reason="refresh_token_revoked"}': 1
        }
        assert len(door.idp_requests) == asked


async def test_nobody_revokes_the_token_of_another_client() -> None:
    """RFC 7009 §2.1; the answer does not tell whether there is such a token."""
    async with BrokerDoor() as door:
        tokens = await door.login()
        for token in (tokens["refresh_token"], of_ours(door, 2**40)):
            asked = len(door.idp_requests)
            assert (await revoke(door, token, POST)).status_code == 200
            assert len(door.idp_requests) == asked
        assert await refreshes(door, tokens["refresh_token"]) == 200


async def test_an_access_token_of_ours_has_the_one_within_it_revoked() -> None:
    async with BrokerDoor() as door:
        assert (await revoke(door, of_ours(door, 2**40))).status_code == 200
        form = form_of(door.idp_requests[-1])
        assert form == {"token": "the idp token", "token_type_hint": "access_token"}


async def test_any_other_token_is_for_the_identity_provider_to_know() -> None:
    async with BrokerDoor() as door:
        form = {"token": "of the identity provider", "token_type_hint": "access_token", "client_id": "public"}
        assert (await door.http.post("/oauth/revoke", data=form)).status_code == 200
        assert form_of(door.idp_requests[-1]) == {
            "token": "of the identity provider",
            "token_type_hint": "access_token",
        }


async def test_what_has_expired_is_as_good_as_revoked_and_goes_nowhere() -> None:
    clock = Clock()
    async with BrokerDoor(now=clock) as door:
        refresh_token, access_token = (await door.login())["refresh_token"], of_ours(door, 0)
        asked = len(door.idp_requests)
        clock.seconds += 91 * 86_400
        for token in (refresh_token, access_token):
            assert (await revoke(door, token)).status_code == 200
        assert len(door.idp_requests) == asked


async def test_a_refresh_token_is_revoked_here_where_the_identity_provider_cannot() -> None:
    metadata = PlayedMetadata(replace(METADATA, revocation_endpoint=None))
    async with BrokerDoor(metadata=metadata, settings={"idp_revocation_url": None}) as door:
        assert "revocation_endpoint" in json_of(await door.http.get("/.well-known/oauth-authorization-server"))
        token = (await door.login())["refresh_token"]
        asked = len(door.idp_requests)
        assert (await revoke(door, token)).status_code == 200
        assert len(door.idp_requests) == asked
        assert await refreshes(door, token) == 400


async def test_a_store_that_is_down_is_told_and_the_revocation_can_be_tried_again() -> None:
    grants = PlayedGrants()
    async with BrokerDoor(grants=grants) as door:
        token = (await door.login())["refresh_token"]
        grants.failing = {"revoke"}
        asked, before = len(door.idp_requests), await door.samples()
        response = await revoke(door, token)
        assert (response.status_code, json_of(response)["error"]) == (503, "temporarily_unavailable")
        assert response.headers["retry-after"]
        reason = Row.STORE_FAILED.reason
        assert increases(before, await door.samples()) == {
            f'oauth_errors_total{{cause="server",endpoint="revoke",reason="{reason}"}}': 1
        }
        assert len(door.idp_requests) == asked
        grants.failing = set()
        assert (await revoke(door, token)).status_code == 200
        assert await refreshes(door, token) == 400


async def test_an_identity_provider_that_is_down_is_told_and_the_token_is_void_here_already() -> None:
    async with BrokerDoor() as door:
        token = (await door.login())["refresh_token"]
        provider, door.idp = door.idp, lambda _: httpx.Response(503)
        assert (await revoke(door, token)).status_code == 503
        assert await door.error_count(Row.IDP_FAILED) == 1
        door.idp = provider
        assert await refreshes(door, token) == 400
        assert (await revoke(door, token)).status_code == 200


async def test_metadata_that_is_gone_is_told_too() -> None:
    metadata = PlayedMetadata()
    async with BrokerDoor(metadata=metadata) as door:
        token = (await door.login())["refresh_token"]
        metadata.failure = IdentityProviderError(IdentityProviderFailure.TIMEOUT)
        assert (await revoke(door, token)).status_code == 503
        assert await refreshes(door, token) == 503
