"""The issuer's keys: rotation, floods of unknown keys, and an identity provider that is gone (THREATS 16)."""

import asyncio
import gc
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from seed_oauth.identity_provider.jwks import FRESH, REFETCH_AFTER, IssuerKeys, UnknownKeyError
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.jwk import BadSignatureError
from seed_oauth.resource_server import AccessTokenError
from seed_oauth.resource_server.introspection import MOST_REMEMBERED, REMEMBERED_FOR
from tests.harness import FrontDoor
from tests.resource_server.issuing import (
    IDP,
    RESOURCE,
    Checker,
    Clock,
    Idp,
    claims,
    down,
    ec_key,
    rsa_key,
    signed,
)

pytestmark = pytest.mark.anyio

JWKS = f"{IDP}/keys"


async def background() -> None:
    """Let the fetch in the background come to its end."""
    for _ in range(50):
        await asyncio.sleep(0)


async def idp_requests(checker: Checker, **labels: str) -> float:
    return await FrontDoor(pipeline=checker.pipeline).value("oauth_idp_requests_total", **labels)


async def test_keys_are_fetched_once_and_the_fetch_is_recorded() -> None:
    checker = Checker()
    for _ in range(3):
        await checker.keys.verify(JWKS, signed(claims()), "rsa")
    assert len(checker.idp.requests) == 1
    assert await idp_requests(checker, operation="jwks", outcome="ok") == 1


async def test_a_token_signed_with_a_new_key_is_good_at_once() -> None:
    """THREATS 16: rotation."""
    checker = Checker()
    await checker.keys.verify(JWKS, signed(claims()), "rsa")
    checker.idp.keys = [rsa_key("new")]
    checker.clock.now += REFETCH_AFTER
    await checker.keys.verify(JWKS, signed(claims(), rsa_key("new")), "new")
    with pytest.raises(UnknownKeyError):
        await checker.keys.verify(JWKS, signed(claims()), "rsa")


async def test_a_storm_of_unknown_keys_makes_one_fetch_in_half_a_minute() -> None:
    """THREATS 16: unknown `kid` storm."""
    checker = Checker()
    token = signed(claims(), rsa_key("of somebody else"), kid="made up")

    async def knock(number: int) -> None:
        with pytest.raises(UnknownKeyError):
            await checker.keys.verify(JWKS, token, f"made up {number}")

    await asyncio.gather(*(knock(number) for number in range(200)))
    assert len(checker.idp.requests) == 1
    checker.clock.now += REFETCH_AFTER - 1
    await asyncio.gather(*(knock(number) for number in range(200)))
    assert len(checker.idp.requests) == 1
    checker.clock.now += 1
    await asyncio.gather(*(knock(number) for number in range(200)))
    assert len(checker.idp.requests) == 2


async def test_whoever_gives_up_waiting_does_not_take_the_fetch_away_from_the_others() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        return httpx.Response(200, json={"keys": [rsa_key().as_dict(private=False)]})

    keys = IssuerKeys(httpx.MockTransport(slow), Checker().pipeline.telemetry, Clock())
    first = asyncio.create_task(keys.verify(JWKS, signed(claims()), "rsa"))
    second = asyncio.create_task(keys.verify(JWKS, signed(claims()), "rsa"))
    await asked.wait()
    first.cancel()
    answer.set()
    assert (await second)["sub"] == "alice"


async def test_keys_that_are_known_outlive_an_identity_provider_that_is_down() -> None:
    checker = Checker()
    await checker.keys.verify(JWKS, signed(claims()), "rsa")
    checker.idp.failure = down
    for _ in range(5):
        checker.clock.now += FRESH
        assert (await checker.keys.verify(JWKS, signed(claims()), "rsa"))["sub"] == "alice"
        await background()
    # A token with a key that is not known may be good or not: nobody can tell now.
    unknown = signed(claims(), rsa_key("new"))
    row, retry_after = await refusal(checker, unknown)
    assert row is ResourceOutcome.TOKEN_CHECK_UNAVAILABLE
    assert 0 < int(retry_after) <= REFETCH_AFTER
    checker.idp.failure = None
    checker.idp.keys.append(rsa_key("new"))
    checker.clock.now += REFETCH_AFTER
    assert (await checker.keys.verify(JWKS, unknown, "new"))["sub"] == "alice"


async def refusal(checker: Checker, token: str) -> tuple[Any, str]:
    with pytest.raises(AccessTokenError) as refused:
        await checker.tokens.verify(token, RESOURCE)
    return refused.value.outcome, refused.value.headers["Retry-After"]


async def test_keys_are_read_again_in_the_background_so_that_one_that_is_withdrawn_ends() -> None:
    checker = Checker()
    await checker.keys.verify(JWKS, signed(claims()), "rsa")
    checker.idp.keys = [ec_key()]
    checker.clock.now += FRESH
    await checker.keys.verify(JWKS, signed(claims()), "rsa")
    await checker.keys.verify(JWKS, signed(claims(), ec_key()), "ec")
    await background()
    with pytest.raises(UnknownKeyError):
        await checker.keys.verify(JWKS, signed(claims()), "rsa")
    assert len(checker.idp.requests) == 2


async def test_as_long_as_no_key_is_known_it_is_tried_again_soon() -> None:
    checker = Checker(Idp(failure=down))
    for _ in range(10):
        assert await refusal(checker, signed(claims())) == (ResourceOutcome.TOKEN_CHECK_UNAVAILABLE, "5")
    assert len(checker.idp.requests) == 1
    checker.idp.failure = None
    checker.clock.now += 5
    assert (await checker.tokens.verify(signed(claims()), RESOURCE)).subject == "alice"
    assert await idp_requests(checker, operation="jwks", outcome="connect_error") == 1


async def test_a_token_without_a_key_id_is_tried_with_every_key_and_with_new_ones() -> None:
    checker = Checker()
    nameless = signed(claims(), ec_key(), kid=None)
    assert (await checker.keys.verify(JWKS, nameless, None))["sub"] == "alice"
    rotated = signed(claims(), rsa_key("new"), kid=None)
    with pytest.raises(BadSignatureError):
        await checker.keys.verify(JWKS, rotated, None)
    checker.idp.keys = [rsa_key("new")]
    checker.clock.now += REFETCH_AFTER
    assert (await checker.keys.verify(JWKS, rotated, None))["sub"] == "alice"


async def test_an_unforeseen_failure_is_told_to_all_who_wait_and_recovered_from() -> None:
    def fails(_: httpx.Request) -> httpx.Response:
        raise RuntimeError("unforeseen")

    checker = Checker(Idp(failure=fails))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="unforeseen"):
            await checker.tokens.verify(signed(claims()), RESOURCE)
    checker.idp.failure = None
    checker.clock.now += 5
    assert (await checker.tokens.verify(signed(claims()), RESOURCE)).subject == "alice"


async def test_a_fetch_under_way_is_given_up_at_the_end() -> None:
    async def hangs(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    checker = Checker()
    keys = IssuerKeys(httpx.MockTransport(hangs), checker.pipeline.telemetry, Clock())
    waiting = asyncio.create_task(keys.verify(JWKS, signed(claims()), "rsa"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await keys.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await checker.keys.aclose()


async def test_an_answer_about_an_opaque_token_is_remembered_for_a_minute() -> None:
    checker = Checker(Idp(tokens={"opaque": claims(active=True)}))
    await checker.tokens.verify("opaque", RESOURCE)
    checker.idp.tokens["opaque"] = {"active": False}
    checker.clock.now += REMEMBERED_FOR - 1
    await checker.tokens.verify("opaque", RESOURCE)
    assert len(checker.idp.requests) == 1
    assert await idp_requests(checker, operation="introspection", outcome="ok") == 1
    checker.clock.now += 1
    with pytest.raises(AccessTokenError) as refused:
        await checker.tokens.verify("opaque", RESOURCE)
    assert refused.value.outcome is ResourceOutcome.INACTIVE_TOKEN


async def test_answers_are_remembered_by_a_hash_and_not_without_end() -> None:
    checker = Checker()
    tokens = [f"opaque{number}" for number in range(MOST_REMEMBERED + 1)]
    for token in tokens:
        with pytest.raises(AccessTokenError):
            await checker.tokens.verify(token, RESOURCE)
    for token, asked_again in ((tokens[-1], 0), (tokens[1], 0), (tokens[0], 1)):
        checker.idp.requests.clear()
        with pytest.raises(AccessTokenError):
            await checker.tokens.verify(token, RESOURCE)
        assert len(checker.idp.requests) == asked_again
    assert not any(tokens[-1] in kept for kept in gc.get_objects() if isinstance(kept, dict))


PUBLISHED: dict[str, tuple[object, str]] = {
    "null": (None, "not an object"),
    "text": ("key", "not an object"),
    "symmetric": ({"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, "a private or symmetric key"),
    "private": (ec_key("private").as_dict(private=True), "a private or symmetric key"),
    "for encryption": ({**rsa_key("enc").as_dict(private=False), "use": "enc"}, "not for signatures"),
    "unheard of": ({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, "not a valid key"),
    "incomplete": ({"kty": "RSA", "e": "AQAB"}, "not a valid key"),
    "weak": ({"kty": "RSA", "e": "AQAB", "n": "sXchDaQebHnPiGvyDOAT4saGEUetSyo9"}, "an RSA key of less than 2048"),
    "empty": ({}, "not a valid key"),
}


@pytest.mark.parametrize("name", PUBLISHED)
async def test_one_key_that_cannot_be_used_spoils_no_other_and_is_told_once(name: str) -> None:
    """RFC 7517 §5."""
    bad, reason = PUBLISHED[name]
    good = rsa_key().as_dict(private=False)
    checker = Checker(Idp(failure=lambda _: httpx.Response(200, json={"keys": [bad, good]})))
    with capture_logs() as lines:
        for _ in range(2):
            assert (await checker.keys.verify(JWKS, signed(claims()), "rsa"))["sub"] == "alice"
            checker.clock.now += FRESH
            await background()
    (line,) = [line for line in lines if line["event"] == "signing keys of the identity provider skipped"]
    assert [(reason in told, count) for told, count in line["skipped"].items()] == [(True, 1)]
    if name == "private":
        with pytest.raises(UnknownKeyError):
            await checker.keys.verify(JWKS, signed(claims(), ec_key("private")), "private")


async def test_many_keys_are_normal() -> None:
    keys = [ec_key(f"key {number}") for number in range(40)]
    checker = Checker(Idp(keys=[*keys, rsa_key()]))
    for kid, key in (("rsa", rsa_key()), ("key 39", keys[39])):
        assert (await checker.keys.verify(JWKS, signed(claims(), key), kid))["sub"] == "alice"


@pytest.mark.parametrize("published", [{"keys": [None]}, {"keys": []}, {"keys": None}, {}])
async def test_without_a_key_that_can_be_used_nobody_can_tell_whether_a_token_is_good(published: object) -> None:
    checker = Checker(Idp(failure=lambda _: httpx.Response(200, json=published)))
    assert (await refusal(checker, signed(claims())))[0] is ResourceOutcome.TOKEN_CHECK_UNAVAILABLE
