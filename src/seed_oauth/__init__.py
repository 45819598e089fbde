"""An OAuth front door for MCP servers, every step of which is counted."""

from seed_oauth.app import create_app
from seed_oauth.clients import Client, ClientStore, QuotaExhaustedError
from seed_oauth.clients.assertion import UsedAssertions
from seed_oauth.flows.grants import GrantStore, RefreshLease
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.metadata import MetadataSource, ProviderMetadata
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.protect import ProtectedApp, protect
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.telemetry import Pipeline, create_metrics_app

__all__ = [
    "Client",
    "ClientStore",
    "GrantStore",
    "IdentityProviderError",
    "IdentityProviderFailure",
    "MetadataSource",
    "Pipeline",
    "ProtectedApp",
    "ProviderMetadata",
    "QuotaExhaustedError",
    "RefreshLease",
    "Settings",
    "SettingsError",
    "StoreError",
    "UsedAssertions",
    "VerifiedToken",
    "create_app",
    "create_metrics_app",
    "protect",
]
