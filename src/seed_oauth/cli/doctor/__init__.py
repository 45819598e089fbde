"""`seed-oauth doctor`: checks the deployment and says what to change."""

import time
from collections.abc import Callable

import httpx

from seed_oauth.cli.doctor.access import check_access
from seed_oauth.cli.doctor.client_documents import check_client_documents
from seed_oauth.cli.doctor.finding import Finding, failed, ok, skipped, warning
from seed_oauth.cli.doctor.identity_provider import check_identity_provider
from seed_oauth.cli.doctor.local import check_metrics_port, check_rate_limits, check_secret_keys, check_store
from seed_oauth.cli.doctor.mcp_server import check_mcp_servers
from seed_oauth.cli.doctor.public import check_public_metadata, check_resources
from seed_oauth.identity_provider.open import open_transport
from seed_oauth.settings import PREFIX, Settings, SettingsError


async def examine(
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    client_documents: httpx.AsyncBaseTransport | None = None,
    now: Callable[[], float] = time.time,
    **given: object,
) -> list[Finding]:
    """All findings, in the order in which to fix them.

    Args:
        transport: sends the requests to the identity provider and to the public URL of this server.
        client_documents: fetches what clients publish.
        now: returns seconds since the epoch.
        given: settings that override the environment.
    """
    try:
        settings = Settings.load(**given)
    except SettingsError as wrong:
        problems = [failed("settings", problem, "change it and run this again") for problem in str(wrong).splitlines()]
        return [*problems, skipped("everything else", "needs valid settings")]
    transport = transport or open_transport(settings)
    try:
        return [
            _settings(settings),
            check_secret_keys(settings),
            *await check_identity_provider(settings, transport, now),
            check_access(settings),
            await check_store(settings),
            *await check_mcp_servers(settings),
            check_rate_limits(settings),
            await check_metrics_port(settings, transport),
            await check_public_metadata(settings, transport),
            *check_resources(settings),
            await check_client_documents(settings, client_documents),
        ]
    finally:
        await transport.aclose()


def _settings(settings: Settings) -> Finding:
    if missing := settings.missing():
        return failed("settings", "logins cannot succeed yet", f"set {' and '.join(missing)}")
    if settings.idp_client_secret is None:
        return warning(
            "settings",
            "there is no client secret, so the identity provider must treat this server as a public client",
            f"set {PREFIX}IDP_CLIENT_SECRET if the identity provider issued one",
        )
    preset = f", preset {settings.preset.name}" if settings.preset else ""
    return ok("settings", f"valid: flow {settings.flow}{preset}")
