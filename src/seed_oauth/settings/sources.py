"""Where settings come from: environment variables, the settings file, and files that have one secret each."""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource

from seed_oauth.settings.errors import PREFIX, SettingsError, hint

CONFIG = f"{PREFIX}CONFIG"
"""The variable that names the settings file."""

SECRETS: Mapping[str, str] = MappingProxyType(
    {
        "idp_client_secret": "",
        "idp_authorization_parameters": "",
        "idp_token_parameters": "",
        "secret_keys": "",
        "registration_tokens": "",
        "signing_keys": "",
        "clients": "client_secret",
        "introspection_clients": "client_secret",
        "store_url": "@",
    }
)
"""The settings that may contain a secret, and the text by which it is known that they do."""


def sources(settings: type[BaseSettings]) -> "tuple[_Environment, _File]":
    """The sources besides keyword arguments, the first one first.

    Raises:
        SettingsError: the settings file cannot be used.
    """
    return _Environment(settings), _File(settings)


def with_secret_files(names: Iterable[str]) -> Iterator[str]:
    """The names of settings, and those of the files that may have them instead."""
    yield from names
    yield from (f"{name}_file" for name in SECRETS)


def holds_secret(name: str, value: object) -> bool:
    """Whether the value of a setting contains a secret."""
    return name in SECRETS and bool(value) and SECRETS[name] in str(value)


def without_queries(text: str) -> str:
    """The text with `…` for the queries of its URLs: there are identity providers that expect an API key in one."""
    return re.sub(r'(https?://[^\s"?]*\?)[^\s"]+', r"\1…", text)


class _Environment(EnvSettingsSource):
    """Environment variables. JSON that cannot be parsed is left to the validation, whose errors name the setting."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - JSON
        with suppress(ValueError):
            return super().decode_complex_value(field_name, field, value)
        return value

    def __call__(self) -> dict[str, Any]:
        values = _without_empty(super().__call__())
        for name in SECRETS:
            variable = _variable(name)
            if path := os.environ.get(f"{variable}_FILE"):
                if values.get(name):
                    raise SettingsError(f"{variable} and {variable}_FILE are both set: remove one")
                values[name] = _content(Path(path), f"{variable}_FILE")
        return values

    def origin(self, name: str) -> str:
        variable = _variable(name)
        return f"{variable}_FILE" if name in SECRETS and os.environ.get(f"{variable}_FILE") else variable


class _File(InitSettingsSource):
    """The settings file that `SEED_OAUTH_CONFIG` names."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        self._path = os.environ.get(CONFIG, "")
        super().__init__(settings, _read(self._path, settings) if self._path else {})

    def __call__(self) -> dict[str, Any]:
        # A variable replaces a table, although pydantic-settings would merge them.
        values = _without_empty(super().__call__())
        return {name: value for name, value in values.items() if name not in self.current_state}

    def origin(self, name: str) -> str:
        del name
        return self._path


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    # What Compose passes on is empty where it is not set. For other settings, empty is a value: no rate limit.
    return {name: value for name, value in values.items() if value != "" or name not in {"issuer", *SECRETS}}


def _read(path: str, settings: type[BaseSettings]) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except OSError as failure:
        raise SettingsError(f"the settings file {path} cannot be read ({failure.strerror})") from None
    except ValueError as invalid:  # bytes that are not UTF-8, too
        raise SettingsError(f"{path} is not valid TOML: {invalid}") from None
    known = [*with_secret_files(settings.model_fields)]
    if unknown := [name for name in values if name not in known]:
        raise SettingsError("\n".join(f"{path}: {name} is not a setting: {hint(name, known)}" for name in unknown))
    if mode & stat.S_IRWXO and (secret := next((name for name in values if holds_secret(name, values[name])), None)):
        raise SettingsError(
            f"{path}: {secret} is a secret, but every user of this machine can read or change the file: "
            f"chmod o= {path}, or put the secret into a file of its own and name that in {secret}_file"
        )
    for name in SECRETS:
        if (secret_file := values.pop(f"{name}_file", None)) is not None:
            if name in values:
                raise SettingsError(f"{path}: {name} and {name}_file are both set: remove one")
            values[name] = _content(Path(path).parent / str(secret_file), f"{path}: {name}_file")
    return values


def _content(path: Path, setting: str) -> str:
    try:
        content = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as failure:
        raise SettingsError(f"{setting} names a file that cannot be read ({path}: {failure.strerror})") from None
    except ValueError:
        raise SettingsError(f"{setting} names a file that is not UTF-8 text ({path})") from None
    if not content:
        raise SettingsError(f"{setting} names a file that is empty ({path})")
    return content


def _variable(name: str) -> str:
    return PREFIX + name.upper()
