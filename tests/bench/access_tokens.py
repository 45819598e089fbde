"""Access tokens of the door's own, as clients have them after a login."""

from time import time

from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import Sealer


def own_token(issuer: str, secret_key: str, *, path: str = "/mcp") -> str:
    """One that is good for an hour at the resource there."""
    token = AccessToken(
        client_id="https://app.example/client.json",
        resource=f"{issuer}{path}",
        scope="files:read files:write",
        expires_at=int(time()) + 3600,
        subject="alice",
        idp_access_token="the token of the identity provider",
        grant_id="grant",
        issued_at=time(),
    )
    return token.sealed(Sealer([secret_key], issuer), time())
