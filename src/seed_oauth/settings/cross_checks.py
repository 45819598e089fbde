"""Checks across several settings. Checks of a single setting are in `validators`."""

from typing import TYPE_CHECKING

from seed_oauth.settings import mcp_server, preregistered, store_url
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
    if settings.client_documents_on_loopback and settings.issuer.startswith("https://"):
        # Otherwise any client_id could make this server send requests to its own machine (SSRF).
        raise ValueError(f"{PREFIX}CLIENT_DOCUMENTS_ON_LOOPBACK is for development only: remove it")
    try:
        preregistered.check_together(settings.clients, settings.private_use_schemes)
    except ValueError as invalid:
        raise ValueError(f"{PREFIX}CLIENTS {invalid}") from None
    if settings.flow == "broker" and not settings.secret_keys:
        # With a random key per process, a login that began in one would fail in another.
        raise ValueError(
            f"{PREFIX}SECRET_KEYS is missing: the broker flow encrypts codes and tokens with it; "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
        )
    if settings.idp_audiences and len(settings.protected_resources) > 1:
        # A token for one resource would be accepted by all of them.
        raise ValueError(f"{PREFIX}IDP_AUDIENCES allows only one resource: set a single one in {PREFIX}RESOURCES")
    if settings.mcp_server:
        mcp_server.check(settings.mcp_server, settings.port, settings.issuer, settings.protected_resources)
        if not settings.can_check_tokens:
            raise ValueError(
                f"{PREFIX}IDP_ISSUER is missing: {PREFIX}MCP_SERVER needs it to validate the access tokens of the "
                f"identity provider; or set {PREFIX}ACCESS_TOKENS=own in the broker flow"
            )
