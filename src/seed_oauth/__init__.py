"""An OAuth front door for MCP servers whose flow can be seen."""

from seed_oauth.app import create_app
from seed_oauth.protect import ProtectedApp, protect
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.telemetry import Pipeline, create_metrics_app

__all__ = [
    "Pipeline",
    "ProtectedApp",
    "Settings",
    "SettingsError",
    "VerifiedToken",
    "create_app",
    "create_metrics_app",
    "protect",
]
