"""The settings of the audit trail."""

from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_settings import BaseSettings

from seed_oauth.settings.validators import Names

STDOUT = "stdout"
OTLP = "otlp"


def _targets(values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(value in {STDOUT, OTLP} or value.startswith("/") for value in values):
        raise ValueError("must be stdout, otlp or the absolute path of a file, or several of them")
    return tuple(dict.fromkeys(values))


class AuditSettings(BaseSettings):
    """Where the audit trail is written, and how much it says."""

    audit_log: Annotated[Names, AfterValidator(_targets)] = ()
    """Where the [audit trail](audit.md) is written: `stdout`, the absolute path of a file, or `otlp` for OpenTelemetry
    logs to the Collector at `OTEL_EXPORTER_OTLP_ENDPOINT`; several are separated by commas. Empty writes none."""
    audit_subject: Literal["clear", "hashed", "none"] = "clear"
    """How the audit trail names users. `clear`: by the identity provider's identifier. `hashed`: by the keyed hash that
    log lines have, too. `none`: not at all."""
    audit_tool_calls: bool = False
    """Whether the audit trail has a record for each call of a tool, without its arguments. Requests are then read, and
    refused if they are not JSON-RPC, as with `tool_scopes`."""
