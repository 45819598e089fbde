"""The options with which a command finds its settings."""

import os
from pathlib import Path
from typing import Annotated

import typer
from dotenv import load_dotenv

from seed_oauth.settings import SettingsError
from seed_oauth.settings.sources import CONFIG


def _use_file(path: Path | None) -> None:
    if path is not None:
        os.environ[CONFIG] = str(path)


def _use_variables(path: Path | None) -> None:
    if path is None:
        return
    try:
        with path.open(encoding="utf-8") as file:
            load_dotenv(stream=file, interpolate=False)
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingsError(f"--env-file {path} cannot be read: {failure}") from None


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", callback=_use_file, help=f"The settings file ({CONFIG})."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        callback=_use_variables,
        help="File with environment variables, one NAME=value per line. Those that are set already take precedence.",
    ),
]
