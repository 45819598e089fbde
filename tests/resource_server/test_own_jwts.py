"""Our own access tokens as JWTs (RFC 9068, PROTOCOL J1): what they say, which are accepted, and rotation."""

from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from seed_oauth.envelopes.seal import SealError
from seed_oauth.flows.access_tokens import open_access_tokens
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import Revoked
from seed_oauth.outcomes import ResourceOutcome as Row
from seed_oauth.protocol.jwk import unverified
from seed_oauth.resource_server import AccessTokenError
from tests.broker import BrokerDoor, Clock
from tests.harness import ISSUER, PUBLIC, json_of, refresh_request, sealer_of
from tests.issued_tokens import CALLER_SECRET, CHECKED, EC_PEM, RESOURCE, SIGNED, by_hand, ec_pem, rsa_pem, signed_with
from tests.resource_server.issuing import IDP, NOW, Checker, Idp, claims, down, signed
from tests.resource_server.test_protect import Protected, good_token

pytestmark = pytest.mark.anyio

OTHER = ec_pem("other")
GOOD: Mapping[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": RESOURCE,
    "exp": int(NOW) + 300,
    "iat": int(NOW),
    "jti": "x",
    "client_id": "https://app.example/client.json",
    "scope": "files:read files:write",
    "grant_id": "grant",
    "issued_at": NOW,
}


def checker(**settings: Any) -> Checker:
    return Checker(settings={**SIGNED, **settings})


async def refusal(who: Checker, token: str) -> Row:
    with pytest.raises(AccessTokenError) as refused:
        await who.tokens.verify(token, RESOURCE)
    with pytest.raises(AccessTokenError):
        await who.tokens.verify_own(token, RESOURCE)
    assert token not in refused.value.description
    return refused.value.outcome


async def test_a_client_gets_a_jwt_that_says_what_it_is_for_and_nothing_of_the_user() -> None:
    """RFC 9068 §2."""
    clock = Clock(NOW + 0.25)
    async with BrokerDoor(settings=SIGNED, now=clock) as door:
        tokens = await door.login(scope="mail files")
        jwks = await door.http.get("/oauth/jwks", headers={"Origin": "https://app.example"})
    header, said = unverified(tokens["access_token"])
    (key,) = json_of(jwks)["keys"]
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key["kid"]}
    assert said.pop("jti")
    assert said.pop("grant_id")
    assert said == {
        "iss": ISSUER,
        "aud": RESOURCE,
        "exp": int(NOW) + tokens["expires_in"],
        "iat": int(NOW),
        "issued_at": NOW + 0.25,
        "client_id": PUBLIC.client_id,
        "scope": tokens["scope"],
    }
    assert jwks.headers["cache-control"] == "public, max-age=300"
    assert jwks.headers["access-control-allow-origin"] == "*"
    assert "d" not in key


async def test_each_jwt_has_a_name_of_its_own_and_a_refresh_brings_another_one_of_the_same_grant() -> None:
    async with BrokerDoor(settings=SIGNED) as door:
        tokens = await door.login()
        again = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
    (_, first), (_, second) = unverified(tokens["access_token"]), unverified(again["access_token"])
    assert first["jti"] != second["jti"]
    assert first["grant_id"] == second["grant_id"]


async def test_a_group_that_brings_scopes_changes_nothing_about_the_form() -> None:
    async with BrokerDoor(settings={**SIGNED, "scopes": "admin", "group_scopes": {"staff": ["admin"]}}) as door:
        assert (await door.login())["access_token"].count(".") == 2


async def test_the_guard_accepts_it_without_asking_anybody() -> None:
    who = checker()
    token = await who.tokens.verify(signed_with(EC_PEM, GOOD), RESOURCE)
    assert (token.subject, token.client_id, token.issuer) == ("alice", GOOD["client_id"], ISSUER)
    assert token.scopes == {"files:read", "files:write"}
    assert (token.expires_at, token.issued_at, token.grant_id) == (NOW + 300, NOW, "grant")
    assert (token.idp_token, token.email, token.name, token.groups, token.tenant) == (None, None, None, (), None)
    assert who.idp.requests == []


async def test_it_tells_of_the_user_what_the_operator_has_chosen() -> None:
    user = {"email": "ann@example.com", "name": "Ann", "groups": ["a", "b"], "tenant": "t"}
    token = await checker().tokens.verify(signed_with(EC_PEM, {**GOOD, **user}), RESOURCE)
    assert (token.email, token.name, token.groups, token.tenant) == ("ann@example.com", "Ann", ("a", "b"), "t")


PUBLIC_PEM = ECKey.import_key(EC_PEM).as_pem(private=False)

REFUSED: Mapping[str, tuple[str, Row]] = {
    "alg none": (by_hand(GOOD, "none", None), Row.BAD_TOKEN),
    "HS256 with the public key": (by_hand(GOOD, "HS256", PUBLIC_PEM), Row.BAD_TOKEN),
    "signed by somebody else": (
        signed_with(OTHER, GOOD, kid=ECKey.import_key(EC_PEM).thumbprint()),
        Row.BAD_TOKEN,
    ),
    "an unknown kid": (signed_with(OTHER, GOOD), Row.UNKNOWN_KEY),
    "no kid": (signed_with(EC_PEM, GOOD, kid=None), Row.UNKNOWN_KEY),
    "typ JWT": (signed_with(EC_PEM, GOOD, typ="JWT"), Row.BAD_TOKEN),
    "no typ": (signed_with(EC_PEM, GOOD, typ=None), Row.BAD_TOKEN),
    "a logout token": (signed_with(EC_PEM, GOOD, typ="logout+jwt"), Row.BAD_TOKEN),
    "aud is a list": (signed_with(EC_PEM, {**GOOD, "aud": [RESOURCE]}), Row.BAD_TOKEN),
    "no aud": (signed_with(EC_PEM, {name: GOOD[name] for name in GOOD if name != "aud"}), Row.BAD_TOKEN),
    "another resource": (signed_with(EC_PEM, {**GOOD, "aud": f"{ISSUER}/mail"}), Row.WRONG_AUDIENCE),
    "expired": (signed_with(EC_PEM, {**GOOD, "exp": int(NOW)}), Row.EXPIRED_TOKEN),
    "another issuer": (signed_with(EC_PEM, {**GOOD, "iss": "https://evil.example"}), Row.WRONG_ISSUER),
    "not a JWT": ("a.b.c", Row.BAD_TOKEN),
}


@pytest.mark.parametrize(("token", "row"), REFUSED.values(), ids=REFUSED.keys())
async def test_any_other_jwt_in_our_name_is_refused(token: str, row: Row) -> None:
    """THREATS 16 and 48."""
    who = checker()
    assert await refusal(who, token) is row
    assert who.idp.requests == []


async def test_a_critical_extension_is_refused() -> None:
    """RFC 7515 §4.1.11."""
    token = signed_with(EC_PEM, GOOD, crit=["b64"], b64=True)
    assert await refusal(checker(), token) is Row.BAD_TOKEN


async def test_application_at_jwt_is_the_same_type() -> None:
    """RFC 9068 §4: with and without the prefix, in any case."""
    token = signed_with(EC_PEM, GOOD, typ="application/AT+JWT")
    assert (await checker().tokens.verify(token, RESOURCE)).subject == "alice"


async def test_where_there_are_no_keys_our_name_in_a_jwt_means_nothing() -> None:
    assert await refusal(Checker(), signed_with(EC_PEM, GOOD)) is Row.WRONG_ISSUER


async def test_a_jwt_of_the_identity_provider_is_still_checked_with_its_keys() -> None:
    who = checker()
    assert (await who.tokens.verify(signed(claims()), RESOURCE)).issuer == "https://idp.example"
    with pytest.raises(AccessTokenError) as refused:
        await who.tokens.verify_own(signed(claims()), RESOURCE)
    assert refused.value.outcome is Row.BAD_TOKEN


async def test_a_jwt_is_revoked_with_its_grant_its_client_or_its_user() -> None:
    for of, name in ((Revoked.GRANT, "grant"), (Revoked.CLIENT, GOOD["client_id"])):
        revocations = Revocations(None, lambda: NOW)
        who = Checker(settings=SIGNED, revocations=revocations)
        token = signed_with(EC_PEM, GOOD)
        await who.tokens.verify(token, RESOURCE)
        await revocations.revoke(of, name, before=NOW - 0.001)
        await who.tokens.verify(token, RESOURCE)
        await revocations.revoke(of, name, before=NOW)
        assert await refusal(who, token) is Row.REVOKED_TOKEN


async def test_its_client_can_revoke_it_and_no_other_client() -> None:
    """RFC 7009 §2.1. There is nothing in it for the identity provider to revoke."""
    async with BrokerDoor(settings={**SIGNED, **CHECKED}) as door:
        token = (await door.login())["access_token"]
        by_another = {"token": token, "client_id": "post", "client_secret": "secret of post"}
        for form, is_active in ((by_another, True), ({"token": token, "client_id": "public"}, False)):
            assert (await door.http.post("/oauth/revoke", data=form)).status_code == 200
            asked = await door.http.post("/oauth/introspect", data={"token": token}, auth=("files", CALLER_SECRET))
            assert json_of(asked)["active"] is is_active
        made_up = {"token": signed_with(OTHER, GOOD), "client_id": "public"}
        assert (await door.http.post("/oauth/revoke", data=made_up)).status_code == 200
        assert "/revoke" not in [request.url.path for request in door.idp_requests]


@pytest.mark.parametrize("new", [OTHER, rsa_pem()], ids=["ES256", "RS256"])
async def test_during_a_rotation_no_token_is_refused(new: str) -> None:
    """The new key is published, then it signs, then the old one is removed; replicas take each step at their time."""
    issued = []
    for keys in (EC_PEM, EC_PEM + new, new + EC_PEM, new):
        async with BrokerDoor(settings={**SIGNED, "signing_keys": keys}, now=Clock()) as door:
            token = (await door.login())["access_token"]
            issued.append((token, Checker(settings={**SIGNED, "signing_keys": keys})))
    for before, after in pairwise(issued):
        for (token, _), (_, replica) in product((before, after), repeat=2):
            assert (await replica.tokens.verify(token, RESOURCE)).client_id == PUBLIC.client_id
    signers = [unverified(token)[0]["kid"] for token, _ in issued]
    assert signers[0] == signers[1] != signers[2] == signers[3]


async def test_jwts_are_good_until_they_expire_after_new_ones_are_sealed_again() -> None:
    who = Checker(settings={"access_tokens": "own", "signing_keys": EC_PEM})
    assert (await who.tokens.verify(signed_with(EC_PEM, GOOD), RESOURCE)).subject == "alice"
    tokens = open_access_tokens(who.all_settings, sealer_of(who.all_settings))
    with pytest.raises(SealError):
        await tokens.opened(signed_with(EC_PEM, {"iss": ISSUER}), NOW)
    async with BrokerDoor(settings={**CHECKED, "access_tokens": "own", "signing_keys": EC_PEM}) as door:
        assert "." not in (await door.login())["access_token"]


class Door(Idp):
    """The authorization server, whose keys `protect` reads."""

    published: Mapping[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if str(request.url) == f"{ISSUER}/oauth/jwks":
            self.requests.append(request)
            return httpx.Response(200, json=self.published)
        return super().__call__(request)


async def test_protect_reads_the_keys_from_the_authorization_server_once() -> None:
    """Also where the identity provider's own JWTs come in between."""
    door = Door()
    async with Protected(idp=door, settings={"access_tokens": "jwt"}, scopes=()) as server:
        async with BrokerDoor(settings=SIGNED) as issuing:
            token = (await issuing.login())["access_token"]
            door.published = json_of(await issuing.http.get("/oauth/jwks"))
        for good in (token, good_token(), token, good_token()):
            assert json_of(await server.get(f"Bearer {good}"))["idp_token"] is None
        refused = await server.get(f"Bearer {signed_with(OTHER, GOOD)}")
    assert refused.status_code == 401
    assert [str(asked.url) for asked in door.requests] == [f"{ISSUER}/oauth/jwks", f"{IDP}/keys"]
    assert "authorization" not in door.requests[0].headers


async def test_protect_refuses_nothing_while_the_authorization_server_cannot_be_asked() -> None:
    """Never a 401, on which clients discard good tokens."""
    async with Protected(idp=Idp(failure=down), settings={"access_tokens": "jwt"}, scopes=()) as server:
        answer = await server.get(f"Bearer {signed_with(EC_PEM, GOOD)}")
    assert answer.status_code == 503
