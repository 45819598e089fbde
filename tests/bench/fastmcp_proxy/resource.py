"""FastMCP's proxy before an MCP server, with its check of the identity provider's JWTs."""

import sys

import uvicorn
from fastmcp.server import create_proxy
from fastmcp.server.auth.providers.jwt import JWTVerifier

port, mcp_server, jwks_uri, issuer, audience = int(sys.argv[1]), *sys.argv[2:]
verifier = JWTVerifier(jwks_uri=jwks_uri, issuer=issuer, audience=audience, algorithm="RS256")
proxy = create_proxy(mcp_server, name="bench", auth=verifier)
app = proxy.http_app(path="/mcp", stateless_http=True, json_response=True)
uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")
