"""Reads settings from the environment."""

from contextlib import suppress
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource


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


class _Environment(EnvSettingsSource):
    """Leaves JSON that cannot be parsed to the validation, whose errors name the setting."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - JSON
        with suppress(ValueError):
            return super().decode_complex_value(field_name, field, value)
        return value
