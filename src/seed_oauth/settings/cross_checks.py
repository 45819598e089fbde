"""Checks across several settings. Checks of a single setting are in `validators`."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from seed_oauth.protocol.redirect_uri import RedirectUriRules
from seed_oauth.protocol.resource import canonical
from seed_oauth.settings import access, issued_tokens, mcp_server, preregistered, store_url, tools
from seed_oauth.settings.errors import PREFIX

if TYPE_CHECKING:
    from seed_oauth.settings import Settings


def check(settings: "Settings") -> None:
    """Refuse combinations that are invalid or unsafe.

    Raises:
        ValueError: names the setting to change.
    """
    if settings.port == settings.metrics_port != 0 and settings.host == settings.metrics_host:
        raise ValueError(f"{PREFIX}METRICS_PORT must differ from {PREFIX}PORT: metrics must not be public")
    if settings.workers > 1 and settings.store_url == store_url.IN_MEMORY:
        raise ValueError(f"{PREFIX}STORE_URL must be a file or Redis: {PREFIX}WORKERS cannot share a store in memory")
    if settings.idp_client_secret and not settings.idp_client_id:
        raise ValueError(f"{PREFIX}IDP_CLIENT_ID is missing: set it together with {PREFIX}IDP_CLIENT_SECRET")
    _check_identity_provider(settings)
    access.check(settings)
    _check_clients(settings)
    if settings.flow == "broker" and not settings.secret_keys:
        # With a random key per process, a login that began in one would fail in another.
        raise ValueError(
            f"{PREFIX}SECRET_KEYS is missing: the broker flow encrypts codes and tokens with it; "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
        )
    _check_resources(settings)
    tools.check(settings)
    issued_tokens.check(settings)


def _check_resources(settings: "Settings") -> None:
    if len(set(map(canonical, settings.protected_resources))) < len(settings.protected_resources):
        # Clients and tokens name a resource by this form, which ignores the query.
        raise ValueError(f"{PREFIX}RESOURCES names one resource twice: they must differ in more than case or query")
    if settings.idp_audiences and len(settings.protected_resources) > 1:
        # A token for one resource would be accepted by all of them.
        raise ValueError(f"{PREFIX}IDP_AUDIENCES allows only one resource: set a single one in {PREFIX}RESOURCES")
    if settings.verify_send_token and not settings.trusted_proxies:
        raise ValueError(f"{PREFIX}TRUSTED_PROXIES is missing: {PREFIX}VERIFY_SEND_TOKEN is for those alone")
    if settings.mcp_server and settings.mcp_servers:
        raise ValueError(f"{PREFIX}MCP_SERVER and {PREFIX}MCP_SERVERS are both set: remove one")
    if settings.mcp_server and len(settings.protected_resources) > 1:
        raise ValueError(
            f"{PREFIX}MCP_SERVER allows only one resource: set a single one in {PREFIX}RESOURCES, or use "
            f"{PREFIX}MCP_SERVERS"
        )
    if settings.forwarded:
        mcp_server.check(settings)
        if not settings.can_check_tokens:
            raise ValueError(
                f"{PREFIX}IDP_ISSUER is missing: an MCP server needs it to validate the access tokens of the "
                f"identity provider; or set {PREFIX}ACCESS_TOKENS=own in the broker flow"
            )


def _check_identity_provider(settings: "Settings") -> None:
    if settings.idp_issuer and canonical(settings.idp_issuer) == canonical(settings.issuer):
        raise ValueError(f"{PREFIX}IDP_ISSUER is the URL of this server: set the issuer of the identity provider")
    in_url = parse_qs(urlsplit(settings.idp_authorization_url or "").query)
    if twice := sorted(in_url.keys() & settings.idp_authorization_parameters.keys()):
        # The identity provider must refuse a parameter that is sent twice (RFC 6749 §3.1).
        raise ValueError(
            f"{PREFIX}IDP_AUTHORIZATION_PARAMETERS and the query of {PREFIX}IDP_AUTHORIZATION_URL both set "
            f"{', '.join(twice)}: remove it from one of them"
        )
    required = {one for resource in settings.protected_resources for one in settings.scope_rules(resource).required}
    if dropped := sorted(required & {*settings.idp_dropped_scopes}):
        raise ValueError(
            f"{PREFIX}REQUIRED_SCOPES lists {', '.join(dropped)}, which {PREFIX}IDP_DROPPED_SCOPES or the preset never "
            "requests: no access token would have it"
        )


def _check_clients(settings: "Settings") -> None:
    try:
        preregistered.check_together(settings.clients, RedirectUriRules(settings.issuer, settings.private_use_schemes))
    except ValueError as invalid:
        raise ValueError(f"{PREFIX}CLIENTS {invalid}") from None
    if settings.client_documents_on_loopback and settings.issuer.startswith("https://"):
        # Otherwise any client_id could make this server send requests to its own machine (SSRF).
        raise ValueError(f"{PREFIX}CLIENT_DOCUMENTS_ON_LOOPBACK is for development only: remove it")
    if (settings.registration == "token") != bool(settings.registration_tokens):
        raise ValueError(f"{PREFIX}REGISTRATION=token and {PREFIX}REGISTRATION_TOKENS only work together")
    if settings.registration == "off" and not settings.client_id_metadata_documents and not settings.clients:
        raise ValueError(f"{PREFIX}REGISTRATION=off leaves no client: add some to {PREFIX}CLIENTS")
