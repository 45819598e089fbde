"""The doctor's checks from the clients' side: the public URL and the resources."""

from urllib.parse import urlsplit

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.local import local_url
from seed_oauth.identity_provider.client import IdentityProviderError, json_object, send
from seed_oauth.settings import PREFIX, Settings

_CHECK = "server metadata"


async def check_public_metadata(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether the issuer serves the authorization server metadata, with the identical issuer (RFC 8414 §3.3)."""
    url = f"{_origin(settings.issuer)}/.well-known/oauth-authorization-server{settings.issuer_path}"
    try:
        status, _, body = await send(transport, httpx.Request("GET", url))
    except IdentityProviderError as failure:
        return await _not_there(settings, transport, f"{url} does not respond ({failure})")
    document = json_object(body) if status == httpx.codes.OK else None
    if document is None or "issuer" not in document:
        return await _not_there(settings, transport, f"{url} responds with {status} and no metadata")
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
        await send(transport, httpx.Request("GET", f"{local}/healthz"))
    except IdentityProviderError:
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
    if _origin(resource) == _origin(settings.issuer):
        return ok("resource", f"{resource} has the same origin as the issuer")
    path = urlsplit(resource).path.rstrip("/")
    return warning(
        "resource",
        f"{resource} has a different origin than the issuer (RFC 9728 §3.1)",
        f"forward {_origin(resource)}/.well-known/oauth-protected-resource{path} to this server, "
        f"or set {PREFIX}RESOURCES to a URL below {_origin(settings.issuer)}",
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
