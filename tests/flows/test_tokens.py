"""What is read of the identity provider's tokens: whatever they are, nothing breaks."""

from hypothesis import example, given
from hypothesis import strategies as st

from seed_oauth.flows.tokens import claims_of
from tests.broker import jwt_of

RESOURCE = "https://door.example/mcp"

text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | text | st.just(RESOURCE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
segments = st.sampled_from(["", "e30", "bnVsbA", "W10", "eyJhbGciOiJub25lIn0", "eyJhbGciOjd9", "_w", "!", "é", "a"])


@given(json_values)
def test_the_claims_of_a_jwt_are_its_members(claims: object) -> None:
    assert claims_of(jwt_of(claims)) == (claims if isinstance(claims, dict) else {})


@given(json_values | st.binary() | st.text() | st.lists(segments, min_size=2, max_size=5).map(".".join))
@example("..")
@example("bnVsbA.e30.")
@example("W10.e30.e30")
@example("e30." + "W" * 100_000 + ".x")
def test_anything_else_breaks_nothing(token: object) -> None:
    assert isinstance(claims_of(token), dict)
