"""What settings must be beside each other. What one alone must be is in `checks`."""

from typing import TYPE_CHECKING

from seed_oauth.settings import mcp_server, preregistered, store_url
from seed_oauth.settings.errors import PREFIX

if TYPE_CHECKING:
    from seed_oauth.settings import Settings


def check(settings: "Settings") -> None:
    """Refuse what is wrong or unsafe together.

    Raises:
        ValueError: names the setting to change.
    """
    if settings.port == settings.metrics_port != 0 and settings.host == settings.metrics_host:
        raise ValueError(f"{PREFIX}METRICS_PORT must differ from {PREFIX}PORT: metrics are not public")
    if settings.workers > 1 and settings.store_url == store_url.IN_MEMORY:
        raise ValueError(f"{PREFIX}STORE_URL must be a file or Redis: {PREFIX}WORKERS cannot share memory")
    if settings.idp_client_secret and not settings.idp_client_id:
        raise ValueError(f"{PREFIX}IDP_CLIENT_ID is missing beside {PREFIX}IDP_CLIENT_SECRET")
    if settings.client_documents_on_loopback and settings.issuer.startswith("https://"):
        # Whoever names a client_id would have this server send requests to its own machine.
        raise ValueError(f"{PREFIX}CLIENT_DOCUMENTS_ON_LOOPBACK is for development: remove it")
    try:
        preregistered.check_together(settings.clients, settings.private_use_schemes)
    except ValueError as invalid:
        raise ValueError(f"{PREFIX}CLIENTS {invalid}") from None
    if settings.flow == "broker" and not settings.secret_keys:
        # A key of its own for each process would fail every login that another process began.
        raise ValueError(
            f"{PREFIX}SECRET_KEYS is missing: the broker flow seals with it what it hands out; "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
        )
    if settings.idp_audiences and len(settings.protected_resources) > 1:
        # A token for one of them would be good for all of them.
        raise ValueError(f"{PREFIX}IDP_AUDIENCES stands for one resource: name one in {PREFIX}RESOURCES")
    if settings.mcp_server:
        mcp_server.check(settings.mcp_server, settings.port, settings.issuer, settings.protected_resources)
        if not settings.can_check_tokens:
            raise ValueError(
                f"{PREFIX}IDP_ISSUER is missing beside {PREFIX}MCP_SERVER: without it no access token of the "
                f"identity provider can be checked; in the broker flow {PREFIX}ACCESS_TOKENS=own needs none"
            )
