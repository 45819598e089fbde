"""Envelopes: only what we sealed, for one purpose, for a while, and unreadable to everybody else."""

import string
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.envelopes.seal import ExpiredError, Purpose, Sealer, SealError, open_once, seal_once

KEY, OLD_KEY = "the key that seals, of random characters", "the key before it, of random characters"
ISSUER = "https://door.example"
SEALER = Sealer([KEY], ISSUER)
NOW = 1_800_000_000.0
LIFETIME = 600

contents = st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.text(max_size=50), max_size=5)
purposes = st.sampled_from(Purpose)


@given(purposes, contents)
def test_what_was_sealed_is_what_is_opened_and_needs_no_escaping_in_a_url(
    purpose: Purpose, content: dict[str, object]
) -> None:
    envelope = SEALER.seal(purpose, content, NOW)
    assert set(envelope) <= set(string.ascii_letters + string.digits + "-_")
    assert SEALER.open(purpose, envelope, lifetime=LIFETIME, now=NOW + LIFETIME) == content


@given(purposes, purposes, contents)
def test_an_envelope_is_good_for_its_own_purpose_only(
    purpose: Purpose, other: Purpose, content: dict[str, object]
) -> None:
    envelope = SEALER.seal(purpose, content, NOW)
    if other is not purpose:
        with pytest.raises(SealError):
            SEALER.open(other, envelope, lifetime=LIFETIME, now=NOW)


@pytest.mark.parametrize("later", [LIFETIME + 1, 365 * 86_400])
def test_an_envelope_expires_and_who_comes_too_late_is_told_so(later: int) -> None:
    envelope = SEALER.seal(Purpose.STATE, {}, NOW)
    with pytest.raises(ExpiredError):
        SEALER.open(Purpose.STATE, envelope, lifetime=LIFETIME, now=NOW + later)


@pytest.mark.parametrize("earlier", [1, 59, 61, 3600])
def test_a_clock_that_was_set_back_spoils_no_envelope(earlier: int) -> None:
    """Nobody but us can seal, so there is nothing to fear from an envelope of the future."""
    envelope = SEALER.seal(Purpose.REFRESH_TOKEN, {"kept": True}, NOW)
    assert SEALER.open(Purpose.REFRESH_TOKEN, envelope, lifetime=LIFETIME, now=NOW - earlier) == {"kept": True}
    forged = Sealer([OLD_KEY], ISSUER).seal(Purpose.REFRESH_TOKEN, {}, NOW)
    with pytest.raises(SealError):
        SEALER.open(Purpose.REFRESH_TOKEN, forged, lifetime=LIFETIME, now=NOW - earlier)


@given(st.data(), contents)
def test_an_envelope_that_was_changed_or_cut_cannot_be_opened(data: st.DataObject, content: dict[str, object]) -> None:
    """THREATS 13: wherever it differs there is one answer; the cryptography library compares in constant time."""
    envelope = SEALER.seal(Purpose.CODE, content, NOW)
    place = data.draw(st.integers(0, len(envelope) - 1))
    character = data.draw(
        st.sampled_from(string.ascii_letters + "-_+/=.%\x00é").filter(lambda one: one != envelope[place])
    )
    for broken in (envelope[:place] + character + envelope[place + 1 :], envelope[:place], f"{envelope}="):
        with pytest.raises(SealError):
            SEALER.open(Purpose.CODE, broken, lifetime=LIFETIME, now=NOW)


@given(purposes, contents)
def test_an_envelope_is_spelt_in_one_way_only(purpose: Purpose, content: dict[str, object]) -> None:
    """THREATS 10, 17: a limit on how often one token may be sent goes by its text."""
    envelope = SEALER.seal(purpose, content, NOW)
    sealed = urlsafe_b64decode(envelope + "=" * (-len(envelope) % 4))
    others = {b64encode(sealed).decode(), b64encode(sealed).decode().rstrip("="), urlsafe_b64encode(sealed).decode()}
    for other in others - {envelope}:
        with pytest.raises(SealError):
            SEALER.open(purpose, other, lifetime=LIFETIME, now=NOW)


@given(st.text())
def test_anything_else_is_no_envelope(text: str) -> None:
    with pytest.raises(SealError):
        SEALER.open(Purpose.CODE, text, lifetime=LIFETIME, now=NOW)


@pytest.mark.parametrize("issuer", ["https://another.example", "https://door.example/tenant", "https://door.exampl"])
@pytest.mark.parametrize("purpose", Purpose)
def test_two_doors_with_the_same_keys_do_not_open_each_others_envelopes(issuer: str, purpose: Purpose) -> None:
    """THREATS 29."""
    sealed = Sealer([KEY], issuer).seal(purpose, {}, NOW)
    with pytest.raises(SealError):
        SEALER.open(purpose, sealed, lifetime=LIFETIME, now=NOW)


def test_keys_rotate_without_anybody_being_logged_out() -> None:
    of_the_old_key = Sealer([OLD_KEY], ISSUER).seal(Purpose.REFRESH_TOKEN, {"kept": True}, NOW)
    rotated = Sealer([KEY, OLD_KEY], ISSUER)
    assert rotated.open(Purpose.REFRESH_TOKEN, of_the_old_key, lifetime=LIFETIME, now=NOW) == {"kept": True}
    of_the_new_key = rotated.seal(Purpose.REFRESH_TOKEN, {}, NOW)
    assert SEALER.open(Purpose.REFRESH_TOKEN, of_the_new_key, lifetime=LIFETIME, now=NOW) == {}
    with pytest.raises(SealError):
        SEALER.open(Purpose.REFRESH_TOKEN, of_the_old_key, lifetime=LIFETIME, now=NOW)


@given(contents)
def test_what_is_sealed_with_a_secret_is_opened_by_whoever_has_it(content: dict[str, object]) -> None:
    assert open_once("a secret", seal_once("a secret", content)) == content
    with pytest.raises(SealError):
        open_once("another secret", seal_once("a secret", content))


@pytest.mark.parametrize("broken", [b"", b"a", bytes(64), seal_once("a secret", {})[:-2]])
def test_what_was_not_sealed_with_the_secret_cannot_be_opened(broken: bytes) -> None:
    with pytest.raises(SealError):
        open_once("a secret", broken)
