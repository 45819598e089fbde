"""Settings as environment variables: read from them, written for another process, and named where one is missing."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from seed_oauth.settings.access import AccessSettings
from seed_oauth.settings.errors import PREFIX

if TYPE_CHECKING:
    from seed_oauth.settings import Settings


class FromEnvironment(BaseSettings):
    """Settings from keyword arguments, then from environment variables."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the first one first."""
        return init_settings, _Environment(settings_cls)

    def as_environment(self) -> dict[str, str]:
        """The environment variables that give another process the same settings."""
        return variables(self)


class _Environment(EnvSettingsSource):
    """Leaves JSON that cannot be parsed to the validation, whose errors name the setting."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - JSON
        with suppress(ValueError):
            return super().decode_complex_value(field_name, field, value)
        return value


def variables(settings: BaseSettings) -> dict[str, str]:
    """The environment variables that give another process the same settings."""
    found = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, dict):
            value = json.dumps(value)
        elif name == "clients":
            value = json.dumps([client.revealed() for client in value])
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
    return [PREFIX + name.upper() for name in unset]
