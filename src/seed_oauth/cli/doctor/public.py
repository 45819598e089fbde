"""What the doctor looks at from where clients stand: our public URL and the resources behind it."""

import httpx

from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.local import local_url
from seed_oauth.http import paths
from seed_oauth.identity_provider.client import IdentityProviderError, json_object, send
from seed_oauth.settings import PREFIX, Settings

_CHECK = "public metadata"


async def check_public_metadata(settings: Settings, transport: httpx.AsyncBaseTransport) -> Finding:
    """Whether clients find our metadata at the issuer, and in it the same issuer, byte for byte (RFC 8414 §3.3)."""
    url = paths.server_metadata_url(settings.issuer)
    try:
        status, _, body = await send(transport, httpx.Request("GET", url))
    except IdentityProviderError as failure:
        return await _not_there(settings, transport, f"{url} has no answer ({failure})")
    document = json_object(body) if status == httpx.codes.OK else None
    if document is None or "issuer" not in document:
        return await _not_there(settings, transport, f"{url} answers {status} without our metadata")
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
        await send(transport, httpx.Request("GET", paths.url(local, paths.HEALTH)))
    except IdentityProviderError:
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
    if paths.origin(resource) == paths.origin(settings.issuer):
        return ok("resource", f"{resource} has the origin of the issuer")
    return warning(
        "resource",
        f"{resource} has another origin than the issuer (RFC 9728 §3.1)",
        f"have {paths.resource_metadata_url(resource)} passed on to this server, "
        f"or set {PREFIX}RESOURCES to a URL below {paths.origin(settings.issuer)}",
    )
