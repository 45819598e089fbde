"""Access tokens of ours: what is in them, and who can read it."""

import pytest

from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import ExpiredError, Purpose, Sealer, SealError

KEY, OTHER_KEY = "the key that seals, of random characters", "another key, of other random characters"
ISSUER = "https://door.example"
SEALER = Sealer([KEY], ISSUER)
NOW = 1_800_000_000.0
TOKEN = AccessToken(
    client_id="client",
    resource="https://door.example/mcp",
    scope="mail files",
    expires_at=int(NOW) + 3600,
    subject="somebody",
    idp_access_token="the token of the identity provider",
    grant_id="grant",
    issued_at=NOW,
)


@pytest.mark.parametrize("subject", ["somebody", None])
def test_what_was_sealed_is_what_the_door_reads(subject: str | None) -> None:
    token = AccessToken(**{**{name: getattr(TOKEN, name) for name in TOKEN.__slots__}, "subject": subject})
    assert AccessToken.opened(SEALER, token.sealed(SEALER, NOW), NOW) == token


def test_what_is_known_of_the_user_goes_with_it_and_a_token_of_an_earlier_version_has_nothing() -> None:
    told = {"email": "ann@example.com", "name": "Ann", "groups": ("a", "b"), "tenant": "t"}
    token = AccessToken(**{**{name: getattr(TOKEN, name) for name in TOKEN.__slots__}, **told})
    assert AccessToken.opened(SEALER, token.sealed(SEALER, NOW), NOW) == token
    earlier = [getattr(TOKEN, name) for name in TOKEN.__slots__[:8]]
    assert AccessToken.opened(SEALER, SEALER.seal(Purpose.ACCESS_TOKEN, earlier, NOW), NOW) == TOKEN


def test_nobody_else_reads_or_makes_one() -> None:
    """THREATS 16."""
    sealed = TOKEN.sealed(SEALER, NOW)
    assert "identity provider" not in sealed
    with pytest.raises(SealError):
        AccessToken.opened(Sealer([OTHER_KEY], ISSUER), sealed, NOW)


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.ACCESS_TOKEN])
def test_no_other_envelope_is_an_access_token(purpose: Purpose) -> None:
    content = ["client", "https://door.example/mcp", "mail", int(NOW) + 3600, None, "idp", "grant", NOW]
    with pytest.raises(SealError):
        AccessToken.opened(SEALER, SEALER.seal(purpose, content, NOW), NOW)


def test_whether_it_has_expired_is_for_the_reader_to_judge_until_it_is_a_day_old() -> None:
    sealed = TOKEN.sealed(SEALER, NOW)
    assert AccessToken.opened(SEALER, sealed, NOW + 86_400).expires_at < NOW + 86_400
    with pytest.raises(ExpiredError):
        AccessToken.opened(SEALER, sealed, NOW + 86_401)


def test_a_token_of_the_key_before_goes_on_to_be_read() -> None:
    sealed = TOKEN.sealed(SEALER, NOW)
    assert AccessToken.opened(Sealer([OTHER_KEY, KEY], ISSUER), sealed, NOW) == TOKEN
