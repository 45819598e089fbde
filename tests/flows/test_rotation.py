"""How long one request waits for another with the same refresh token, and what becomes of its answer."""

from collections.abc import Awaitable, Callable

import pytest

from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import TokenMembers
from seed_oauth.flows.grants import RefreshLease
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.transaction import Grant
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.outcomes import TokenOutcome
from seed_oauth.outcomes.errors import OAuthError
from tests.broker import Clock, PlayedGrants

pytestmark = pytest.mark.anyio

SEALER = Sealer(["the key that seals, of random characters"], "https://door.example")
GRANT = Grant("grant", 0, "client", None, "https://door.example/mcp", None, 0, "idp refresh token")
EXCHANGE_TIMEOUT = 10.0


class Passing(Clock):
    """A clock by which some seconds pass whenever somebody looks."""

    def __call__(self) -> float:
        self.seconds += 2
        return self.seconds


def giving(**members: object) -> Callable[[], Awaitable[TokenMembers]]:
    async def exchange() -> TokenMembers:
        return members

    return exchange


async def never() -> TokenMembers:
    raise AssertionError("there was a turn to be had")


def rotation(grants: PlayedGrants, clock: Clock) -> Rotation:
    return Rotation(grants, SEALER, clock, exchange_timeout=EXCHANGE_TIMEOUT, lifetime=1000, login_lifetime=100_000)


async def take(grants: PlayedGrants, now: float, until: float) -> RefreshLease | str:
    return await grants.take_lease("grant", 0, now=now, until=until, expires_at=now + 1000)


async def test_who_has_the_turn_exchanges_and_everybody_gets_what_came_of_it() -> None:
    grants, clock = PlayedGrants(), Clock()
    for exchange in (giving(access_token="at", expires_in=7), never):
        members = await rotation(grants, clock).once(GRANT, exchange)
        assert members == {"access_token": "at", "expires_in": 7}


async def test_who_waits_too_long_is_told_to_try_again_and_keeps_the_refresh_token() -> None:
    """Temporary trouble is never invalid_grant."""
    grants, clock = PlayedGrants(), Passing()
    await take(grants, clock.seconds, until=clock.seconds + 1000)
    with pytest.raises(IdentityProviderError) as raised:
        await rotation(grants, clock).once(GRANT, never)
    assert raised.value.failure is IdentityProviderFailure.TIMEOUT


async def test_who_waits_for_one_that_died_has_the_turn_in_time() -> None:
    """A worker that was killed in the middle of an exchange holds its turn for the time of one exchange."""
    grants, clock = PlayedGrants(), Passing()
    await take(grants, clock.seconds, until=clock.seconds + EXCHANGE_TIMEOUT)
    assert await rotation(grants, clock).once(GRANT, giving(access_token="at")) == {"access_token": "at"}


async def test_an_exchange_that_fails_leaves_the_turn_to_the_next_request() -> None:
    async def fails() -> TokenMembers:
        raise IdentityProviderError(IdentityProviderFailure.UNREACHABLE)

    grants, clock = PlayedGrants(), Clock()
    with pytest.raises(IdentityProviderError):
        await rotation(grants, clock).once(GRANT, fails)
    assert await take(grants, clock.seconds, until=clock.seconds + 1) is RefreshLease.YOURS


async def test_a_reuse_says_what_to_do() -> None:
    grants, clock = PlayedGrants(), Clock()
    await rotation(grants, clock).once(GRANT, giving(access_token="at"))
    clock.seconds += 31
    with pytest.raises(OAuthError) as raised:
        await rotation(grants, clock).once(GRANT, never)
    assert raised.value.outcome is TokenOutcome.REFRESH_TOKEN_REUSED
    assert "start a new authorization" in raised.value.description


async def test_an_answer_is_given_again_though_the_clock_was_set_back() -> None:
    grants, clock = PlayedGrants(), Clock()
    await rotation(grants, clock).once(GRANT, giving(access_token="at"))
    clock.seconds -= 3600
    assert await rotation(grants, clock).once(GRANT, never) == {"access_token": "at"}
