"""An MCP server in Python with `protect`: install `mcp` and `seed-oauth`, then run `python python_mcp_server.py`.

The front door for logins runs elsewhere (`seed-oauth serve`). This server needs the issuer, its own URL, and the
settings to validate access tokens:

    export SEED_OAUTH_ISSUER=https://login.example.com
    export SEED_OAUTH_RESOURCES=https://mcp.example.com/mcp
    export SEED_OAUTH_IDP_ISSUER=https://idp.example.com     # validates the identity provider's JWTs
    export SEED_OAUTH_SECRET_KEYS=the-keys-of-the-door       # decrypts the front door's own access tokens

The front door must have the same SEED_OAUTH_RESOURCES. By default, the MCP SDK only accepts requests for a loopback
host. Behind a reverse proxy that keeps the public host, use `streamable_http_app(host="mcp.example.com")`.
"""

import os

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from seed_oauth import protect

server = MCPServer("who")


@server.tool()
def who_am_i(context: Context) -> str:
    """Return the user's name at the identity provider."""
    return str(context.request_context.request.user.display_name)


app = protect(server.streamable_http_app())

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "9000")))
