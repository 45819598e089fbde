"""Every path that this server answers at, and the URLs made of them: from its issuer, or from a protected resource."""

from urllib.parse import urlsplit

AUTHORIZE = "/oauth/authorize"
CONSENT = "/oauth/consent"
CALLBACK = "/oauth/callback"
ACCOUNT = "/oauth/account"
TOKEN = "/oauth/token"  # noqa: S105 - a path
REGISTER = "/oauth/register"
REVOKE = "/oauth/revoke"
INTROSPECT = "/oauth/introspect"
JWKS = "/oauth/jwks"
VERIFY = "/oauth/verify"
VERIFY_OF_PATH = f"{VERIFY}/{{path:path}}"
"""The same where the path that was asked for comes after it, as Envoy sends it."""
BACKCHANNEL_LOGOUT = "/oauth/backchannel-logout"

FALLBACKS = {AUTHORIZE: "/authorize", TOKEN: "/token", REGISTER: "/register"}
"""Where clients look that read no metadata (MCP 2025-03-26 Authorization, "Fallbacks for Servers without Metadata")."""

SERVER_METADATA = "/.well-known/oauth-authorization-server"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"

HEALTH = "/healthz"
READINESS = "/readyz"
OPENAPI = "/openapi.json"


def url(issuer: str, path: str) -> str:
    """The URL of an endpoint, which is below the issuer."""
    return f"{issuer}{path}"


def server_metadata_paths(issuer: str) -> list[str]:
    """Where on the issuer's host the authorization server metadata is served.

    For an issuer with a path, that path comes after the well-known part (RFC 8414 §3.1). The form without it serves
    a reverse proxy that strips the path. Nothing is at `openid-configuration`: this server issues no ID tokens, so what
    OpenID Connect Discovery §3 requires there would be untrue, and clients that read it stop at what is missing.
    """
    return list(dict.fromkeys([SERVER_METADATA, f"{SERVER_METADATA}{urlsplit(issuer).path}"]))


def server_metadata_url(issuer: str) -> str:
    """The URL at which clients look for the authorization server metadata first (RFC 8414 §3.1)."""
    return f"{origin(issuer)}{SERVER_METADATA}{urlsplit(issuer).path}"


def resource_metadata_path(resource: str) -> str:
    """Where on its host the metadata of a protected resource is served (RFC 9728 §3.1)."""
    return f"{RESOURCE_METADATA}{urlsplit(resource).path.rstrip('/')}"


def resource_metadata_url(resource: str) -> str:
    """The URL of the metadata of a protected resource (RFC 9728 §3.1)."""
    return f"{origin(resource)}{resource_metadata_path(resource)}"


def origin(url: str) -> str:
    """The scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
