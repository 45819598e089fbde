"""The doctor's check of the MCP server."""

import asyncio

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped
from seed_oauth.outcomes.errors import in_words
from seed_oauth.resource_server.reachability import status_of
from seed_oauth.settings import PREFIX, Settings

_CHECK = "MCP server"


async def check_mcp_servers(settings: Settings) -> list[Finding]:
    """Whether each MCP server answers at its URL. The requests have no token and ask for nothing."""
    if not settings.forwarded:
        return [skipped(_CHECK, f"{PREFIX}MCP_SERVER is not set, so nothing is forwarded")]
    return await asyncio.gather(*(_check(server.url) for server in settings.forwarded))


async def _check(url: str) -> Finding:
    try:
        status = await status_of(url)
    except OSError as failure:
        return failed(
            _CHECK, f"{url} cannot be reached: {in_words(failure)}", "start it, or correct its URL in the settings"
        )
    # Others refuse a GET without a session, which proves that there is an MCP server.
    if status == 404 or 300 <= status < 400 or status >= 500:  # noqa: PLR2004 - statuses that an MCP server has not
        return failed(_CHECK, f"{url} responds with {status}", "set its URL in the settings to that of its endpoint")
    return ok(_CHECK, f"{url} responds")
