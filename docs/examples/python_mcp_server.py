"""An MCP server in Python that protects itself: `pip install mcp seed-oauth`, then `python python_mcp_server.py`.

The door that its users log in at runs elsewhere (`seed-oauth serve`). This server needs to know the door and its own
URL, and how the door's access tokens are checked:

    export SEED_OAUTH_ISSUER=https://login.example.com
    export SEED_OAUTH_RESOURCES=https://mcp.example.com/mcp
    export SEED_OAUTH_IDP_ISSUER=https://idp.example.com     # whose JWTs are good here, and
    export SEED_OAUTH_SECRET_KEYS=the-keys-of-the-door       # what opens tokens of the door's own

The door has to have the same SEED_OAUTH_RESOURCES. The SDK answers requests for a loopback host only: behind a reverse
proxy that keeps the public one, name it with `streamable_http_app(host="mcp.example.com")`.
"""

import os

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from seed_oauth import protect

server = MCPServer("who")


@server.tool()
def who_am_i(context: Context) -> str:
    """Tell the user who they are, as the identity provider calls them."""
    return str(context.request_context.request.user.display_name)


app = protect(server.streamable_http_app())

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "9000")))
