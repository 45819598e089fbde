"""Which of the identity provider's tokens is inside a token of ours that a client revokes (RFC 7009 §2.1)."""

from typing import NamedTuple

from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError


class IdpToken(NamedTuple):
    """A token to be revoked at the identity provider."""

    token: str
    token_type_hint: str | None

    def parameters(self) -> dict[str, str]:
        """Those of the revocation request (RFC 7009 §2.1)."""
        return {"token": self.token} | ({"token_type_hint": self.token_type_hint} if self.token_type_hint else {})


def idp_token_in(access_token: IdpToken, client_id: str, sealer: Sealer, now: float) -> IdpToken | None:
    """The identity provider's token to revoke for what may be an access token of ours.

    None when it has expired or belongs to another client. A token that is not sealed here may be the identity
    provider's own, and is passed on as it is.
    """
    try:
        opened = AccessToken.opened(sealer, access_token.token, now)
    except ExpiredError:
        return None
    except SealError:
        return access_token
    return IdpToken(opened.idp_access_token, "access_token") if opened.client_id == client_id else None
