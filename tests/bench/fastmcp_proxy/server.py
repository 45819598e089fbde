"""FastMCP's OAuthProxy before the stand-in identity provider; without its consent page, as only logins are compared."""

import sys

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.auth import AccessToken, TokenVerifier
from fastmcp.server.auth.oauth_proxy import OAuthProxy


class Trusting(TokenVerifier):
    """Takes every upstream token for good, as none is to be verified here."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="bench", scopes=[], expires_at=None)


port, identity_provider = int(sys.argv[1]), sys.argv[2]
proxy = OAuthProxy(
    upstream_authorization_endpoint=f"{identity_provider}/authorize",
    upstream_token_endpoint=f"{identity_provider}/token",
    upstream_client_id="bench",
    upstream_client_secret="bench-secret",
    token_verifier=Trusting(),
    base_url=f"http://127.0.0.1:{port}",
    redirect_path="/oauth/callback",
    valid_scopes=["openid", "profile"],
    require_authorization_consent=False,
    jwt_signing_key="a signing key for the benchmark alone",
)
app = FastMCP("bench", auth=proxy).http_app()
uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")
