"""An MCP server of the Python SDK, as a program: what stands behind the front door.

Its arguments are a port and, when it is to check tokens by itself, JSON with `resource` (its own URL), the `scope` that
it asks for, `authorization_server` (the front door), and the `issuer` and `jwks_uri` of who issues the tokens.
"""

import json
import sys
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer


class TokenVerifier:
    """Knows the JWTs that an identity provider issued for a resource."""

    def __init__(self, *, issuer: str, jwks_uri: str, resource: str) -> None:
        self._jwks_uri = jwks_uri
        self._resource = resource
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": resource},
            exp={"essential": True},
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        async with httpx.AsyncClient(trust_env=False) as http:
            keys = KeySet.import_key_set((await http.get(self._jwks_uri)).json())
        try:
            claims = jwt.decode(token, keys).claims
            self._claims.validate(claims)
        except (JoseError, ValueError):
            return None
        scopes = claims["scope"].split()
        return AccessToken(token=token, client_id=claims["sub"], scopes=scopes, resource=self._resource)


def server(protection: dict[str, str] | None) -> MCPServer[Any]:
    """The server, with a bearer check of its own or none."""
    if protection is None:
        options: dict[str, Any] = {}
    else:
        # As text: pydantic's type of URL would add a slash to the issuer.
        settings = AuthSettings.model_validate(
            {
                "issuer_url": protection.pop("authorization_server"),
                "resource_server_url": protection["resource"],
                "required_scopes": [protection.pop("scope")],
                "validate_token_resource": True,
            }
        )
        options = {"auth": settings, "token_verifier": TokenVerifier(**protection)}
    mcp: MCPServer[Any] = MCPServer("adder", **options)

    @mcp.tool()
    def add(a: int, b: int) -> int:
        """The sum of two numbers."""
        return a + b

    @mcp.tool()
    def received_headers(context: Context) -> dict[str, str]:
        """The headers that came with the call."""
        return dict(context.headers or {})

    return mcp


if __name__ == "__main__":
    server(json.loads(sys.argv[2]) if len(sys.argv) > 2 else None).run("streamable-http", port=int(sys.argv[1]))
