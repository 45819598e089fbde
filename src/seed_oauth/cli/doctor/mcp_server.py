"""The doctor's check of the MCP server."""

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped
from seed_oauth.outcomes.errors import in_words
from seed_oauth.resource_server.reachability import status_of
from seed_oauth.settings import PREFIX, Settings

_CHECK = "MCP server"


async def check_mcp_server(settings: Settings) -> Finding:
    """Whether the MCP server answers at its URL. The request has no token and asks for nothing."""
    url = settings.mcp_server
    if url is None:
        return skipped(_CHECK, f"{PREFIX}MCP_SERVER is not set, so nothing is forwarded")
    try:
        status = await status_of(url)
    except OSError as failure:
        return failed(
            _CHECK, f"{url} cannot be reached: {in_words(failure)}", f"start it, or correct {PREFIX}MCP_SERVER"
        )
    # Others refuse a GET without a session, which proves that there is an MCP server.
    if status == 404 or 300 <= status < 400 or status >= 500:  # noqa: PLR2004 - statuses that an MCP server has not
        return failed(_CHECK, f"{url} responds with {status}", f"set {PREFIX}MCP_SERVER to the URL of its endpoint")
    return ok(_CHECK, f"{url} responds")
