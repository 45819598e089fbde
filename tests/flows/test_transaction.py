"""What travels in envelopes through a login, and how long each of them is good."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seed_oauth.access.identity import Identity
from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError
from seed_oauth.flows import transaction
from seed_oauth.flows.transaction import (
    CODE_LIFETIME,
    DECISION_LIFETIME,
    LOGIN_LIFETIME,
    Code,
    Grant,
    IdpLogin,
    Transaction,
)
from seed_oauth.protocol import pkce
from tests.harness import CODE_CHALLENGE, CODE_VERIFIER

SEALER = Sealer(["the key that seals, of random characters"], "https://door.example")
NOW = 1_800_000_000.0
DAY = 86_400.0

text = st.text(max_size=40)
transactions = st.builds(
    Transaction,
    client_id=st.text(min_size=1, max_size=40),
    client_family=text,
    redirect_uri=text,
    state=st.none() | text,
    code_challenge=text,
    scope=st.none() | text,
    resource=text,
    browser=text,
)
BEGUN = Transaction(
    "client", "other", "https://app.example/", "state", "challenge", "mail", "https://door.example", "b", login=[]
)
LOGIN = IdpLogin.begin(BEGUN, NOW)
SOMEBODY = Identity("https://idp.example", "somebody", "ann@example.com", email_verified=True, groups=("staff",))
GRANT = Grant.by(BEGUN, "mail", SOMEBODY, NOW)._replace(idp_refresh_token="idp refresh token")
CODE = Code.of(GRANT, BEGUN)

# Each envelope: how it is sealed, how it is opened, and how many seconds it is good.
ENVELOPES: dict[str, tuple[Callable[[Sealer, float], str], Callable[[str, float], object], float, object]] = {
    "question":
        (BEGUN.awaiting_decision, lambda it, now: Transaction.decided(SEALER, it, now), DECISION_LIFETIME, BEGUN),
    "state": (LOGIN.state, lambda it, now: IdpLogin.returned(SEALER, it, now), LOGIN_LIFETIME, LOGIN),
    "code": (CODE.sealed, lambda it, now: Code.opened(SEALER, it, now), CODE_LIFETIME, CODE),
    "grant": (GRANT.sealed, lambda it, now: Grant.opened(SEALER, it, lifetime=DAY, now=now), DAY, GRANT),
}  # fmt: skip


@given(transactions.filter(lambda begun: begun.client_id))  # without a client the state has another purpose
def test_a_transaction_is_the_same_after_every_step(begun: Transaction) -> None:
    assert Transaction.decided(SEALER, begun.awaiting_decision(SEALER, NOW), NOW) == begun
    login = IdpLogin.begin(begun, NOW)
    assert IdpLogin.returned(SEALER, login.state(SEALER, NOW), NOW) == login
    code = Code.of(Grant.by(begun, None, None, NOW), begun)
    assert Code.opened(SEALER, code.sealed(SEALER, NOW), NOW) == code


@pytest.mark.parametrize("name", ENVELOPES)
def test_each_envelope_is_good_until_its_time_is_over(name: str) -> None:
    seal, open_, lifetime, content = ENVELOPES[name]
    envelope = seal(SEALER, NOW)
    assert open_(envelope, NOW + lifetime) == content
    with pytest.raises(ExpiredError):
        open_(envelope, NOW + lifetime + 1)


@pytest.mark.parametrize("name", ENVELOPES)
@pytest.mark.parametrize("other", ENVELOPES)
def test_no_envelope_passes_for_another(name: str, other: str) -> None:
    if name == other:
        return
    with pytest.raises(SealError):
        ENVELOPES[other][1](ENVELOPES[name][0](SEALER, NOW), NOW)


def test_what_each_login_needs_is_derived_from_a_secret_of_its_own() -> None:
    secrets = {IdpLogin.begin(BEGUN, NOW).secret for _ in range(100)}
    assert len(secrets) == 100
    derived = [make(secret) for secret in secrets for make in (transaction.code_verifier, transaction.nonce)]
    assert len(set(derived)) == 200
    for value in derived:
        assert pkce.has_valid_length(value)
        assert pkce.has_valid_format(value)


def test_each_code_has_a_secret_of_its_own() -> None:
    assert len({Code.of(GRANT, BEGUN).secret for _ in range(100)}) == 100


def test_a_code_challenge_is_that_of_the_rfc() -> None:
    """RFC 7636 appendix B."""
    assert transaction.code_challenge(CODE_VERIFIER) == CODE_CHALLENGE


def test_each_refresh_is_a_generation_of_the_same_grant() -> None:
    assert GRANT.generation == 0
    assert GRANT.refreshed() == GRANT._replace(generation=1)
    assert GRANT.refreshed().login_at == int(NOW)
    assert Grant.by(BEGUN, None, None, NOW).grant_id != Grant.by(BEGUN, None, None, NOW).grant_id
