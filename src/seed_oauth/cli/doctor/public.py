"""The doctor's checks from the clients' side: the public URL and the resources."""

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.local import local_url
from seed_oauth.http import paths
from seed_oauth.http_client.fetch import fetch
from seed_oauth.settings import PREFIX, Settings

_CHECK = "server metadata"
_LONGEST_DOCUMENT = 64 * 1024  # bytes


async def check_public_metadata(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether the issuer serves the authorization server metadata, with the identical issuer (RFC 8414 §3.3)."""
    url = paths.server_metadata_url(settings.issuer)
    try:
        response = await fetch(transport, url, limit=_LONGEST_DOCUMENT)
    except httpx.TransportError as failure:
        return await _not_there(settings, transport, f"{url} does not respond ({failure})")
    document = response.json_object()
    if document is None or "issuer" not in document:
        return await _not_there(settings, transport, f"{url} responds with {response.status} and no metadata")
    if document["issuer"] != settings.issuer:
        return failed(
            _CHECK,
            f"the metadata at {url} has a different issuer",
            f"set {PREFIX}ISSUER to the same value here and at the running server: clients compare it byte for byte",
        )
    return ok(_CHECK, f"{url} has the issuer {settings.issuer}")


async def _not_there(settings: Settings, transport: httpx.AsyncBaseTransport, problem: str) -> Finding:
    local = local_url(settings.host, settings.port)
    try:
        await fetch(transport, paths.url(local, paths.HEALTH), limit=_LONGEST_DOCUMENT)
    except httpx.TransportError:
        return skipped(_CHECK, f"no server is running at {local}: start it and run this again")
    return failed(
        _CHECK,
        f"the server is running at {local}, but {problem}",
        f"forward /.well-known/ and /oauth/ at the reverse proxy to {local}, or correct {PREFIX}ISSUER",
    )


def check_resources(settings: Settings) -> list[Finding]:
    """Whether clients find the metadata of each resource at the resource's own origin (RFC 9728 §3.1)."""
    return [_resource(settings, resource) for resource in settings.protected_resources]


def _resource(settings: Settings, resource: str) -> Finding:
    if paths.origin(resource) == paths.origin(settings.issuer):
        return ok("resource", f"{resource} has the same origin as the issuer")
    return warning(
        "resource",
        f"{resource} has a different origin than the issuer (RFC 9728 §3.1)",
        f"forward {paths.resource_metadata_url(resource)} to this server, "
        f"or set {PREFIX}RESOURCES to a URL below {paths.origin(settings.issuer)}",
    )
