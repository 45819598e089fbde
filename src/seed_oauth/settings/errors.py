"""Error messages for invalid settings: the name of each, and what to set instead."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

PREFIX = "SEED_OAUTH_"


class SettingsError(ValueError):
    """The settings are invalid; the message names each one and says what to set instead."""


def refuse_unknown_variables(settings: Collection[str], environment: Mapping[str, str]) -> None:
    """Raise `SettingsError` for a variable that has the prefix but is not a setting."""
    # Otherwise a misspelt setting would be ignored silently.
    known = [name.upper() for name in settings]
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "remove it"
            raise SettingsError(f"{variable} is not a setting: {hint}")


def readable(invalid: ValidationError) -> str:
    """One line per invalid value. The value itself is not repeated: it may be a secret."""
    errors = invalid.errors()
    return "\n".join(_place(error["loc"]) + error["msg"].removeprefix("Value error, ") for error in errors)


def _place(location: tuple[int | str, ...]) -> str:
    """The location of a value, such as `SEED_OAUTH_CLIENTS[0] client_id `; empty for a check across settings."""
    if not location:
        return ""
    setting, *within = location
    name = f"{PREFIX}{str(setting).upper()}"
    if setting == "clients":
        name += "".join(f"[{part}]" if isinstance(part, int) else f" {part}" for part in within)
    return f"{name} "
