"""An MCP server of FastMCP, which checks JWTs or asks about tokens (RFC 7662). Its only argument is JSON."""

import json
import sys
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier


def verifier(
    *, checks: str, issuer: str, jwks_uri: str, introspection_url: str, resource: str, secret: str
) -> JWTVerifier | IntrospectionTokenVerifier:
    if checks == "introspection":
        return IntrospectionTokenVerifier(
            introspection_url=introspection_url, client_id="files", client_secret=secret, audience=resource
        )
    # By default the keys are not fetched twice in half a minute: longer than a test lasts.
    return JWTVerifier(
        jwks_uri=jwks_uri, issuer=issuer, audience=resource, algorithm="ES256", jwks_refresh_interval=0.0
    )


def main(*, port: int, **checked: Any) -> None:
    FastMCP("files", auth=verifier(**checked)).run("http", host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
