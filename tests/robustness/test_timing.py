"""What somebody could guess is compared in constant time (THREATS 13); of envelopes test_seal.py tells."""

import hmac
from typing import Any

import pytest

from seed_oauth.outcomes import CallbackOutcome, TokenOutcome
from tests.broker import BrokerDoor
from tests.harness import RelayDoor, code_request, query_of

pytestmark = pytest.mark.anyio

Compared = list[tuple[Any, Any]]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    """What the standard library was asked to compare in constant time; it is called equal, whatever it is."""
    pairs: Compared = []

    def compare_digest(first: Any, second: Any) -> bool:
        pairs.append((first, second))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    return pairs


@pytest.mark.parametrize("secret", ["s", "secret of pos", "secret of posT", "secret of post and more", "x" * 9000])
async def test_a_client_secret_is_compared_by_its_digest_and_in_no_other_way(secret: str, compared: Compared) -> None:
    """THREATS 13, PROTOCOL T3: digests are of one length, so not even that is told."""
    async with RelayDoor() as door:
        response = await door.token(code_request(client_id="post", client_secret=secret))
        # Where everything is called equal no other comparison is left that refuses.
        assert response.status_code == 200
        ((given, known),) = compared
        assert given != known
        assert (len(given), len(known)) == (32, 32)


async def test_a_code_verifier_is_compared_by_its_digest_and_in_no_other_way(compared: Compared) -> None:
    """THREATS 13, PROTOCOL T4."""
    async with BrokerDoor() as door:
        form = code_request(code=await door.person.goes_through(), code_verifier="x" * 43)
        compared.clear()
        assert (await door.token(form)).status_code == 200
        ((given, known), *_) = compared
        assert given != known
        assert len(given) == len(known)


async def test_a_browser_is_recognised_in_constant_time_and_in_no_other_way(compared: Compared) -> None:
    """THREATS 13, PROTOCOL A12."""
    async with BrokerDoor() as door:
        other = door.somebody()
        await other.opens()
        state = query_of(await door.person.reaches_idp())["state"]
        compared.clear()
        assert (await other.returns(state=state, code="x")).status_code == 302
        ((given, known), *_) = compared
        assert given != known
        assert len(given) == len(known)


async def test_with_the_real_comparison_all_three_are_refused() -> None:
    async with BrokerDoor() as door:
        other = door.somebody()
        await other.opens()
        state = query_of(await door.person.reaches_idp())["state"]
        await other.returns(state=state, code="x")
        await door.token(code_request(code=await door.person.goes_through(), code_verifier="x" * 43))
        await door.token(code_request(client_id="post", client_secret="secret of posT"))
        assert await door.error_count(CallbackOutcome.OTHER_BROWSER) == 1
        assert await door.error_count(TokenOutcome.BAD_CODE_VERIFIER) == 1
        assert await door.error_count(TokenOutcome.BAD_CLIENT_AUTHENTICATION) == 1
