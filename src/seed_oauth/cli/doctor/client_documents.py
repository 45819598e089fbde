"""Checks whether the metadata documents of clients can be fetched from here."""

import httpx

from seed_oauth.cli.doctor.finding import Finding, ok, skipped, warning
from seed_oauth.http_client.fetch import fetch
from seed_oauth.http_client.guarded_transport import GuardedTransport
from seed_oauth.settings import PREFIX, Settings

_CHECK = "client documents"

_KNOWN = ("https://claude.ai/oauth/claude-code-client-metadata", "https://vscode.dev/oauth/client-metadata.json")
"""The documents of Claude Code and VS Code, which prefer them to registration."""

_LIMIT = 5 * 1024


async def check_client_documents(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Finding:
    """Whether there is egress to where clients publish: without, their logins end as `client_document_unavailable`."""
    if not settings.client_id_metadata_documents:
        return skipped(_CHECK, "disabled: clients register instead")
    guarded = transport or GuardedTransport()
    try:
        failures = [failure for url in _KNOWN if (failure := await _failure(guarded, url))]
    finally:
        await guarded.aclose()
    if len(failures) < len(_KNOWN):
        return ok(_CHECK, "the metadata documents of clients can be fetched")
    return warning(
        _CHECK,
        f"clients such as Claude Code and VS Code cannot log in: {'; '.join(failures)}",
        "allow DNS and https from this server to the Internet, without a proxy, or set "
        f"{PREFIX}CLIENT_ID_METADATA_DOCUMENTS=false so that clients register",
    )


async def _failure(transport: httpx.AsyncBaseTransport, url: str) -> str | None:
    host = httpx.URL(url).host
    try:
        response = await fetch(transport, url, limit=_LIMIT)
    except httpx.TimeoutException:
        return f"{host} does not answer"
    except httpx.TransportError:
        return f"{host} cannot be reached"
    return None if response.status == httpx.codes.OK else f"{host} answers {response.status}"
