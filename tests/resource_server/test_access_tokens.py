"""Which access tokens are good for a resource (PROTOCOL M5, THREATS 16), with real RSA and EC keys."""

import hashlib
import hmac
import json
from typing import Any

import anyio
import httpx
import pytest
from joserfc import jws, jwt
from joserfc.util import urlsafe_b64encode

from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.resource_server import AccessTokenError, VerifiedToken
from seed_oauth.resource_server.introspection import MOST_REMEMBERED, REMEMBERED_FOR
from seed_oauth.resource_server.verified_tokens import MOST, VerifiedTokens
from tests.broker import PlayedMetadata
from tests.resource_server.issuing import (
    IDP,
    NOW,
    RESOURCE,
    Checker,
    Idp,
    claims,
    down,
    ec_key,
    own_token,
    rsa_key,
    signed,
)

pytestmark = pytest.mark.anyio

TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
ENTRA = ProviderMetadata(issuer="https://login.microsoftonline.com/{tenantid}/v2.0", jwks_uri=f"{IDP}/keys")


async def refusal(checker: Checker, token: str) -> ResourceOutcome:
    """The row in which the check of a token ends; what is told repeats nothing of it."""
    with pytest.raises(AccessTokenError) as refused:
        await checker.tokens.verify(token, RESOURCE)
    assert token not in refused.value.description
    return refused.value.outcome


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["RS256", "ES256"])
async def test_a_jwt_of_the_identity_provider_for_this_resource_is_good(key: Any) -> None:
    """PROTOCOL M5."""
    checker = Checker()
    token = await checker.tokens.verify(signed(claims(), key), RESOURCE)
    assert (token.subject, token.client_id, token.issuer) == ("alice", "proxy", IDP)
    assert token.scopes == {"files:read", "files:write"}
    assert token.expires_at == NOW + 300
    assert token.claims["aud"] == RESOURCE
    assert token.idp_token is None
    (asked,) = checker.idp.requests
    assert str(asked.url) == f"{IDP}/keys"
    assert "authorization" not in asked.headers
    assert b"secret" not in asked.content


async def test_a_token_of_ours_carries_the_identity_providers_token_and_needs_no_request() -> None:
    checker = Checker()
    token = await checker.tokens.verify(own_token(checker.all_settings), RESOURCE)
    assert (token.subject, token.client_id) == ("alice", "https://app.example/client.json")
    assert token.issuer == "https://door.example"
    assert token.scopes == {"files:read", "files:write"}
    assert token.idp_token == "the token of the identity provider"
    assert "the token of the identity provider" not in repr(token)
    assert checker.idp.requests == []


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"resource": "https://door.example/other"}, ResourceOutcome.WRONG_AUDIENCE),
        ({"expires_at": int(NOW)}, ResourceOutcome.EXPIRED_TOKEN),
    ],
)
async def test_a_token_of_ours_is_good_for_its_resource_until_it_expires(
    changes: dict[str, Any], row: ResourceOutcome
) -> None:
    """THREATS 16: another audience; expired."""
    checker = Checker()
    assert await refusal(checker, own_token(checker.all_settings, **changes)) is row


async def test_a_token_of_ours_from_the_day_before_is_expired_and_one_of_another_door_is_bad() -> None:
    settings = Checker().all_settings
    later = Checker(now=NOW + 90_000)
    assert await refusal(later, own_token(settings)) is ResourceOutcome.EXPIRED_TOKEN
    other = Checker(settings={"secret_keys": "another-key-that-seals-random-too-0123", "idp_introspection": False})
    assert await refusal(other, own_token(settings)) is ResourceOutcome.BAD_TOKEN


@pytest.mark.parametrize(
    "audience",
    [
        RESOURCE,
        "HTTPS://DOOR.example/mcp",
        "https://door.example/mcp/",
        "https://door.example:443/mcp",
        "https://door.example/mcp?utm_source=chatgpt",
        ["https://elsewhere.example", RESOURCE],
        "api://mcp",
    ],
)
async def test_the_audience_may_be_this_resource_in_any_spelling_or_a_name_that_is_set(audience: Any) -> None:
    """PROTOCOL M5 and A9."""
    checker = Checker(settings={"idp_audiences": "api://mcp"})
    assert (await checker.tokens.verify(signed(claims(aud=audience)), RESOURCE)).subject == "alice"


@pytest.mark.parametrize(
    "audience",
    [
        "https://door.example/other",
        "https://door.example",
        "http://door.example/mcp",
        "https://door.example:8443/mcp",
        "https://door.example/mcp/sub",
        "https://door.example.evil.example/mcp",
        "https://door.example@evil.example/mcp",
        "api://another",
        ["https://elsewhere.example"],
        [],
        {"https://door.example/mcp": True},
        [None, 1],
        "",
        None,
    ],
)
async def test_a_token_for_another_audience_is_refused(audience: Any) -> None:
    """THREATS 16: token for another audience."""
    checker = Checker(settings={"idp_audiences": "api://mcp"})
    assert await refusal(checker, signed(claims(aud=audience))) is ResourceOutcome.WRONG_AUDIENCE


@pytest.mark.parametrize("issuer", ["https://evil.example", f"{IDP}/", IDP.upper(), "", None, [IDP], {IDP: 1}])
async def test_a_token_of_another_issuer_is_refused_without_asking_for_keys(issuer: Any) -> None:
    """THREATS 16: other issuer."""
    checker = Checker()
    assert await refusal(checker, signed(claims(iss=issuer))) is ResourceOutcome.WRONG_ISSUER
    assert checker.idp.requests == []


async def test_of_entras_template_the_tenant_that_the_token_names_is_the_issuer() -> None:
    checker = Checker(metadata=PlayedMetadata(ENTRA))
    issuer, tenant = f"https://login.microsoftonline.com/{TENANT}/v2.0", TENANT
    assert (await checker.tokens.verify(signed(claims(iss=issuer, tid=tenant)), RESOURCE)).subject == "alice"
    other = tenant.replace("9", "8")
    assert await refusal(checker, signed(claims(iss=issuer, tid=other))) is ResourceOutcome.WRONG_ISSUER
    assert await refusal(checker, signed(claims(iss=issuer))) is ResourceOutcome.WRONG_ISSUER


@pytest.mark.parametrize("tenant", [None, "None", "common", ""])
async def test_of_entras_template_no_token_is_accepted_whose_tenant_is_not_a_guid(tenant: str | None) -> None:
    checker = Checker(metadata=PlayedMetadata(ENTRA))
    token = signed(claims(iss=f"https://login.microsoftonline.com/{tenant}/v2.0", tid=tenant))
    assert await refusal(checker, token) is ResourceOutcome.WRONG_ISSUER


def unsigned(said: dict[str, Any], algorithm: str = "none") -> str:
    header = urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "rsa", "typ": "at+jwt"}).encode())
    return f"{header.decode()}.{urlsafe_b64encode(json.dumps(said).encode()).decode()}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_a_token_that_nobody_signed_is_refused(algorithm: str) -> None:
    """THREATS 16: alg=none."""
    assert await refusal(Checker(), unsigned(claims(), algorithm)) is ResourceOutcome.BAD_TOKEN


@pytest.mark.parametrize("digest", [hashlib.sha256, hashlib.sha512])
@pytest.mark.parametrize("spelling", ["PEM", "JWK"])
async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(digest: Any, spelling: str) -> None:
    """THREATS 16: HS256 signed with the public key."""
    public = json.dumps(rsa_key().as_dict(private=False)).encode()
    secret = rsa_key().as_pem(private=False) if spelling == "PEM" else public
    signing_input = unsigned(claims(), f"HS{digest().digest_size * 8}").removesuffix(".")
    mac = hmac.new(secret, signing_input.encode(), digest).digest()
    forged = f"{signing_input}.{urlsafe_b64encode(mac).decode()}"
    assert await refusal(Checker(), forged) is ResourceOutcome.BAD_TOKEN


async def test_a_token_signed_by_somebody_else_in_the_name_of_a_known_key_is_refused_without_asking_again() -> None:
    checker = Checker()
    await checker.tokens.verify(signed(claims()), RESOURCE)
    checker.clock.now += 100
    forged = signed(claims(sub="admin"), rsa_key("of somebody else"), kid="rsa")
    assert await refusal(checker, forged) is ResourceOutcome.BAD_TOKEN
    assert len(checker.idp.requests) == 1


async def test_the_key_of_one_algorithm_is_not_good_for_another() -> None:
    token = signed(claims(), ec_key(), kid="rsa")
    assert await refusal(Checker(), token) is ResourceOutcome.BAD_TOKEN


async def test_a_key_that_the_token_brings_along_is_not_looked_at() -> None:
    """THREATS 16: `jwk`, `jku` and `x5u` in the header are an attacker's own keys."""
    attacker = ec_key("of somebody else")
    brought = {
        "jwk": attacker.as_dict(private=False),
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example",
    }
    header = {"alg": "ES256", "kid": "of somebody else", "typ": "at+jwt", **brought}
    forged = jwt.encode(header, claims(), attacker, registry=jws.JWSRegistry(strict_check_header=False))
    checker = Checker()
    assert await refusal(checker, forged) is ResourceOutcome.UNKNOWN_KEY
    assert [str(request.url) for request in checker.idp.requests] == [f"{IDP}/keys"]


@pytest.mark.parametrize("critical", [["kid"], []])
async def test_a_token_with_anything_critical_is_refused_however_well_signed(critical: list[str]) -> None:
    """THREATS 16; RFC 7515 §4.1.11."""
    header = {"alg": "RS256", "kid": "rsa", "typ": "at+jwt", "crit": critical}
    token = jwt.encode(header, claims(), rsa_key(), registry=jws.JWSRegistry(strict_check_header=False))
    assert await refusal(Checker(), token) is ResourceOutcome.BAD_TOKEN


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"exp": NOW - 59}, None),
        ({"exp": NOW - 60}, ResourceOutcome.EXPIRED_TOKEN),
        ({"nbf": NOW + 60}, None),
        ({"nbf": NOW + 61}, ResourceOutcome.TOKEN_NOT_YET_VALID),
        ({"iat": NOW + 60}, None),
        ({"iat": NOW + 61}, ResourceOutcome.TOKEN_NOT_YET_VALID),
        ({"exp": None}, ResourceOutcome.BAD_TOKEN),
        ({"exp": "tomorrow"}, ResourceOutcome.BAD_TOKEN),
        ({"exp": True}, ResourceOutcome.BAD_TOKEN),
        ({"exp": float("nan")}, ResourceOutcome.BAD_TOKEN),
    ],
)
async def test_clocks_may_differ_by_a_minute(changes: dict[str, Any], row: ResourceOutcome | None) -> None:
    """THREATS 16: expired, not yet valid, clock skew ± 60 s."""
    checker = Checker()
    token = signed(claims(**changes))
    if row is None:
        await checker.tokens.verify(token, RESOURCE)
    else:
        assert await refusal(checker, token) is row


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "JWT"}, {"nonce": "n"}),
        ({"typ": None}, {"at_hash": "h"}),
        ({"typ": "JWT"}, {"c_hash": "h"}),
        ({"typ": "JWT"}, {"typ": "ID"}),
        ({"typ": "JWT"}, {"token_use": "id"}),
        ({"typ": "JWT"}, {"aud": "proxy", "scope": None}),
        ({"typ": "logout+jwt"}, {}),
        ({"typ": "dpop+jwt"}, {}),
    ],
)
async def test_what_is_no_access_token_is_refused(header: dict[str, Any], changes: dict[str, Any]) -> None:
    """An ID token has the same issuer and keys; RFC 9068 §4 asks for a type, which not all have."""
    checker = Checker(settings={"idp_audiences": "proxy"})
    assert await refusal(checker, signed(claims(**changes), **header)) is ResourceOutcome.NOT_AN_ACCESS_TOKEN


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "at+jwt"}, {"nonce": "n"}),
        ({"typ": "application/AT+jwt"}, {}),
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"typ": "JWT"}, {"typ": "Bearer", "nonce": "of Keycloak before 25"}),
        ({"typ": "JWT"}, {"token_use": "access"}),
        ({"typ": "JWT"}, {"aud": "proxy", "scope": None, "scp": "files:read"}),  # Entra, an API that is its own client
    ],
)
async def test_access_tokens_of_every_make_are_good(header: dict[str, Any], changes: dict[str, Any]) -> None:
    checker = Checker(settings={"idp_audiences": "proxy"})
    assert (await checker.tokens.verify(signed(claims(**changes), **header), RESOURCE)).subject == "alice"


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": ["a", "b"]}, {"a", "b"}),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b"]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": None}, set()),
        ({"scope": {"a": 1}}, set()),
        ({"scope": [1, None]}, set()),
    ],
)
async def test_scopes_are_read_as_identity_providers_write_them(changes: dict[str, Any], scopes: set[str]) -> None:
    assert (await Checker().tokens.verify(signed(claims(**changes)), RESOURCE)).scopes == scopes


async def test_names_that_are_no_strings_are_no_names() -> None:
    token = await Checker().tokens.verify(signed(claims(sub=None, client_id=["a"], azp="app")), RESOURCE)
    assert (token.subject, token.client_id) == (None, "app")


@pytest.mark.parametrize("token", ["a.b.c", "..", "e30.e30.", "W10.W10.AAAA", f"{'A' * 9000}.{'A' * 9000}.A", "é.é.é"])
async def test_what_is_no_jwt_is_refused(token: str) -> None:
    checker = Checker()
    assert await refusal(checker, token) in {ResourceOutcome.BAD_TOKEN, ResourceOutcome.WRONG_ISSUER}
    assert checker.idp.requests == []


async def test_a_jwt_cannot_be_checked_without_the_issuers_name() -> None:
    checker = Checker(settings={"idp_issuer": None})
    assert await refusal(checker, signed(claims())) is ResourceOutcome.NOT_CONFIGURED


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ({"active": False}, ResourceOutcome.INACTIVE_TOKEN),
        ({}, ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        ({"active": "true"}, ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        ({"active": True}, ResourceOutcome.WRONG_AUDIENCE),
        (claims(active=True, aud="https://other.example"), ResourceOutcome.WRONG_AUDIENCE),
        (claims(active=True, iss="https://evil.example"), ResourceOutcome.WRONG_ISSUER),
        (claims(active=True, exp=NOW - 60), ResourceOutcome.EXPIRED_TOKEN),
        (claims(active=True), None),
        (claims(active=True, iss=None, exp=None, iat=None), None),
    ],
)
async def test_of_an_opaque_token_the_identity_provider_is_asked(
    answer: dict[str, Any], row: ResourceOutcome | None
) -> None:
    """RFC 7662; the audience must be this resource all the same (PROTOCOL M5)."""
    checker = Checker(Idp(tokens={"opaque": answer}))
    if row is None:
        token = await checker.tokens.verify("opaque", RESOURCE)
        assert token.subject == "alice"
        assert token.scopes == {"files:read", "files:write"}
    else:
        assert await refusal(checker, "opaque") is row
    (asked,) = checker.idp.requests
    assert str(asked.url) == f"{IDP}/introspect"
    assert asked.headers["authorization"].startswith("Basic ")
    assert asked.content == b"token=opaque&token_type_hint=access_token"


async def test_an_answer_about_an_opaque_token_holds_for_a_minute_and_for_that_token_alone() -> None:
    """RFC 7662 §4: a token that was revoked is accepted that long."""
    checker = Checker(Idp(tokens={"one": claims(active=True), "two": claims(active=True, sub="bob")}))
    subjects = [(await checker.tokens.verify(token, RESOURCE)).subject for token in ("one", "two", "one")]
    assert subjects == ["alice", "bob", "alice"]
    assert len(checker.idp.requests) == 2
    checker.idp.tokens.clear()
    checker.clock.now += REMEMBERED_FOR - 1
    await checker.tokens.verify("one", RESOURCE)
    checker.clock.now += 1
    assert await refusal(checker, "one") is ResourceOutcome.INACTIVE_TOKEN


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["RS256", "ES256"])
async def test_a_withdrawn_key_is_good_for_another_minute_at_most(key: Any) -> None:
    """THREATS 51."""
    checker = Checker()
    token = signed(claims(exp=NOW + 86_400), key)
    await checker.tokens.verify(token, RESOURCE)
    checker.idp.keys.remove(key)
    checker.clock.now += 86_400
    other_key = ec_key() if key is rsa_key() else rsa_key()
    await checker.tokens.verify(signed(claims(), other_key), RESOURCE)
    while len(checker.idp.requests) < 2:  # the keys are read again, beside requests
        await anyio.lowlevel.checkpoint()
    await checker.tokens.verify(token, RESOURCE)
    checker.now += REMEMBERED_FOR
    assert await refusal(checker, token) is ResourceOutcome.UNKNOWN_KEY


@pytest.mark.parametrize("kind", ["ours", "the identity provider's"])
async def test_a_token_that_was_good_is_refused_when_it_has_expired_and_elsewhere(kind: str) -> None:
    checker = Checker()
    token = own_token(checker.all_settings) if kind == "ours" else signed(claims())
    await checker.tokens.verify(token, RESOURCE)
    with pytest.raises(AccessTokenError) as refused:
        await checker.tokens.verify(token, "https://door.example/other")
    assert refused.value.outcome is ResourceOutcome.WRONG_AUDIENCE
    checker.now += 300 + 61
    assert await refusal(checker, token) is ResourceOutcome.EXPIRED_TOKEN


async def test_only_the_latest_tokens_are_remembered() -> None:
    tokens = VerifiedTokens()
    verified = VerifiedToken(subject="alice", client_id=None, scopes=frozenset(), expires_at=NOW, issuer=IDP)
    for number in range(MOST + 1):
        tokens.add(str(number), RESOURCE, verified, until=NOW)
        tokens.find("0", RESOURCE, NOW - 1)  # it is used all the time
    assert tokens.find("0", RESOURCE, NOW - 1) is verified
    assert tokens.find("1", RESOURCE, NOW - 1) is None
    assert tokens.find("2", RESOURCE, NOW - 1) is verified


async def test_answers_about_many_opaque_tokens_do_not_fill_the_memory() -> None:
    """The one that expires first is dropped first."""
    checker = Checker(Idp(tokens={str(number): claims(active=True) for number in range(MOST_REMEMBERED + 1)}))
    for token in checker.idp.tokens:
        await checker.tokens.verify(token, RESOURCE)
    checker.idp.tokens.clear()
    await checker.tokens.verify("1", RESOURCE)
    assert await refusal(checker, "0") is ResourceOutcome.INACTIVE_TOKEN


async def test_a_jwt_is_asked_about_where_there_are_no_keys() -> None:
    token = signed(claims())
    checker = Checker(Idp(tokens={token: claims(active=True)}), {"idp_jwks_url": None})
    assert (await checker.tokens.verify(token, RESOURCE)).subject == "alice"


@pytest.mark.parametrize("settings", [{"idp_introspection": False}, {"idp_introspection_url": None}])
async def test_nobody_is_asked_where_that_is_switched_off_or_cannot_be(settings: dict[str, Any]) -> None:
    checker = Checker(Idp(tokens={"opaque": claims(active=True)}), settings)
    assert await refusal(checker, "opaque") is ResourceOutcome.BAD_TOKEN
    assert checker.idp.requests == []


async def test_without_keys_that_seal_every_opaque_token_is_the_identity_providers() -> None:
    checker = Checker(Idp(tokens={"opaque": claims(active=True)}), {"secret_keys": "", "flow": "relay"})
    assert (await checker.tokens.verify("opaque", RESOURCE)).subject == "alice"


@pytest.mark.parametrize(
    ("failure", "row"),
    [
        (down, ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        (lambda _: httpx.Response(503), ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        (lambda _: httpx.Response(200, content=b"<html>"), ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        (lambda _: httpx.Response(200, json={"keys": []}), ResourceOutcome.TOKEN_CHECK_UNAVAILABLE),
        (
            lambda _: httpx.Response(200, json={"keys": [rsa_key().as_dict(private=True)]}),
            ResourceOutcome.TOKEN_CHECK_UNAVAILABLE,
        ),
        (lambda _: httpx.Response(401, json={"error": "invalid_client"}), ResourceOutcome.TOKEN_CHECK_REFUSED),
    ],
)
@pytest.mark.parametrize("token", ["opaque", signed(claims())], ids=["opaque", "jwt"])
async def test_what_cannot_be_told_now_is_never_a_bad_token(token: str, failure: Any, row: ResourceOutcome) -> None:
    """Temporary trouble is never a 401: clients throw good tokens away on that."""
    assert await refusal(Checker(Idp(failure=failure)), token) is row


async def test_the_identity_providers_word_on_when_to_come_back_is_passed_on() -> None:
    checker = Checker(Idp(failure=lambda _: httpx.Response(429, headers={"Retry-After": "7"})))
    with pytest.raises(AccessTokenError) as refused:
        await checker.tokens.verify("opaque", RESOURCE)
    assert refused.value.headers == {"Retry-After": "7"}
