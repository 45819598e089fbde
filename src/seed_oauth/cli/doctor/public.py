"""What the doctor looks at from where clients stand: our public URL and the resources behind it."""

from urllib.parse import urlsplit

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.local import local_url
from seed_oauth.http_client.fetch import fetch
from seed_oauth.settings import PREFIX, Settings

_CHECK = "public metadata"
_LONGEST_DOCUMENT = 64 * 1024  # bytes


async def check_public_metadata(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether clients find our metadata at the issuer, and in it the same issuer, byte for byte (RFC 8414 §3.3)."""
    url = f"{_origin(settings.issuer)}/.well-known/oauth-authorization-server{settings.issuer_path}"
    try:
        response = await fetch(transport, url, limit=_LONGEST_DOCUMENT)
    except httpx.TransportError as failure:
        return await _not_there(settings, transport, f"{url} has no usable response ({failure})")
    document = response.json_object()
    if document is None or "issuer" not in document:
        return await _not_there(settings, transport, f"{url} answers {response.status} without our metadata")
    if document["issuer"] != settings.issuer:
        return failed(
            _CHECK,
            f"the server at {url} has another issuer",
            f"set {PREFIX}ISSUER of the server that runs to {settings.issuer}, or {PREFIX}ISSUER here to its issuer: "
            "clients compare them byte for byte",
        )
    return ok(_CHECK, f"{url} has the issuer {settings.issuer}")


async def _not_there(settings: Settings, transport: httpx.AsyncBaseTransport, problem: str) -> Finding:
    local = local_url(settings.host, settings.port)
    try:
        await fetch(transport, f"{local}/healthz", limit=_LONGEST_DOCUMENT)
    except httpx.TransportError:
        return skipped(_CHECK, f"the server does not run at {local}: start it and run this again")
    return failed(
        _CHECK,
        f"the server runs at {local}, but {problem}",
        f"have the reverse proxy pass /.well-known/ and /oauth/ on to {local}, or set {PREFIX}ISSUER to the public URL",
    )


def check_resources(settings: Settings) -> list[Finding]:
    """Whether clients find the metadata of each resource, which they look for at the resource's own origin."""
    return [_resource(settings, resource) for resource in settings.protected_resources]


def _resource(settings: Settings, resource: str) -> Finding:
    if _origin(resource) == _origin(settings.issuer):
        return ok("resource", f"{resource} has the origin of the issuer")
    path = urlsplit(resource).path.rstrip("/")
    return warning(
        "resource",
        f"{resource} has another origin than the issuer (RFC 9728 §3.1)",
        f"have {_origin(resource)}/.well-known/oauth-protected-resource{path} passed on to this server, "
        f"or set {PREFIX}RESOURCES to a URL below {_origin(settings.issuer)}",
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
