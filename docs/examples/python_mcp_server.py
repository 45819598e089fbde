"""An MCP server in Python that checks its own tokens.

Install `seed_oauth` from its folder and the SDK, then start this program:

    pip install -e . mcp
    python docs/examples/python_mcp_server.py

The authorization server runs elsewhere (`seed-oauth serve`). This server needs its issuer, its own URL, and what the
tokens are checked with:

    export SEED_OAUTH_ISSUER=https://login.example.com
    export SEED_OAUTH_RESOURCES=https://mcp.example.com/mcp
    export SEED_OAUTH_IDP_ISSUER=https://idp.example.com     # whose JWTs are accepted
    export SEED_OAUTH_SECRET_KEYS=the-keys-of-that-server    # which open the tokens that it issues

The authorization server must have the same SEED_OAUTH_RESOURCES. The SDK accepts requests for a loopback host only.
Behind a reverse proxy that keeps the public host, name it with `streamable_http_app(host="mcp.example.com")`.
"""

import os

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from seed_oauth import protect

server = MCPServer("who")


@server.tool()
def who_am_i(context: Context) -> str:
    """Return the name by which the identity provider knows the user."""
    return str(context.request_context.request.user.display_name)


app = protect(server.streamable_http_app())

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "9000")))
