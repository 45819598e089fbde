"""Settings as environment variables: read from them, written for another process, and named where one is missing."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from seed_oauth.settings.access import AccessSettings
from seed_oauth.settings.errors import PREFIX
from seed_oauth.settings.sources import CONFIG, sources, with_secret_files

if TYPE_CHECKING:
    from seed_oauth.settings import Settings


class FromEnvironment(BaseSettings):
    """Settings from keyword arguments, then from environment variables, then from the settings file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the first one first."""
        return init_settings, *sources(settings_cls)

    @classmethod
    def known_variables(cls) -> set[str]:
        """The names of all environment variables with the prefix."""
        return {CONFIG, *(PREFIX + name.upper() for name in with_secret_files(cls.model_fields))}

    @classmethod
    def origins(cls) -> dict[str, str]:
        """Where the settings that are set come from: a variable, or the path of the settings file.

        Raises:
            SettingsError: the settings file, or a file with a secret, cannot be used.
        """
        return {name: source.origin(name) for source in reversed(sources(cls)) for name in source()}

    def as_environment(self) -> dict[str, str]:
        """The environment variables that give another process the same settings."""
        return variables(self)


def variables(settings: BaseSettings) -> dict[str, str]:
    """The environment variables that give another process the same settings."""
    found = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, dict):
            value = json.dumps(value)
        elif name == "revoke_before" and value is not None:
            value = datetime.fromtimestamp(value, UTC).isoformat()
        elif name == "clients":
            value = json.dumps([client.revealed() for client in value])
        elif name == "introspection_clients":
            value = json.dumps([caller.revealed() for caller in value])
        elif name == "mcp_servers":
            value = json.dumps([server.model_dump(mode="json", exclude_none=True) for server in value])
        elif isinstance(value, tuple):
            listed = [one.get_secret_value() if isinstance(one, SecretStr) else one for one in value]
            # Names of groups may have spaces and commas.
            value = json.dumps(listed) if name in AccessSettings.model_fields else " ".join(listed)
        if value is not None:
            found[PREFIX + name.upper()] = str(value)
    return found


def missing(settings: "Settings") -> list[str]:
    """The names of the unset variables that every login needs."""
    urls = [name for name in ("idp_authorization_url", "idp_token_url") if getattr(settings, name) is None]
    if settings.reads_metadata:
        urls = []
    elif len(urls) > 1:
        urls = ["idp_issuer"]
    unset = [*urls, "idp_client_id"] if settings.idp_client_id is None else urls
    unset += [] if settings.can_issue else ["signing_keys"]
    return [PREFIX + name.upper() for name in unset]
