"""The options with which a command finds its settings."""

import os
from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values

from seed_oauth.settings import SettingsError
from seed_oauth.settings.sources import CONFIG


def _use_file(path: Path | None) -> Path | None:
    if path is not None:
        os.environ[CONFIG] = str(path)
    named = os.environ.get(CONFIG)
    return Path(named) if named else None


_from_file: dict[str, str] = {}  # the variables that a file has set


def use_variables(path: Path | None) -> Path | None:
    """Set the variables in the file, apart from those that are set otherwise; those that it had before are unset.

    Raises:
        SettingsError: the file cannot be read.
    """
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8") as file:
            values = dotenv_values(stream=file, interpolate=False)
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingsError(f"--env-file {path} cannot be read: {failure}") from None
    for name, value in _from_file.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    new = {name: value for name, value in values.items() if value is not None and name not in os.environ}
    os.environ.update(new)
    _from_file.clear()
    _from_file.update(new)
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", callback=_use_file, help=f"The settings file ({CONFIG})."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        callback=use_variables,
        help="File with environment variables, one NAME=value per line. Those that are set already take precedence.",
    ),
]
