"""Error messages for invalid settings: the name of each, and what to set instead."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

PREFIX = "SEED_OAUTH_"

_WORDS = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_type": "must be text in quotation marks",
    "string_unicode": "must be UTF-8 text",
    "string_too_long": "must have at most {max_length} characters",
    "dict_type": 'must be a JSON object: {{"name": "value"}}',
    "model_type": 'must be a JSON object: {{"name": "value"}}',
    "list_type": 'must be a JSON list: ["value"]',
    "tuple_type": 'must be a JSON list: ["value"]',
    "too_short": "must have at least {min_length} entry",
    "too_long": "must have at most {max_length} entries",
    "missing": "is missing",
    "extra_forbidden": "is not known here: remove it",
}
"""What to write instead, by pydantic's type of the error; in braces the limits that it names."""


class SettingsError(ValueError):
    """The settings are invalid; the message names each one and says what to set instead."""


def refuse_unknown_variables(known: Collection[str], environment: Iterable[str]) -> None:
    """Raise `SettingsError` for a variable that has the prefix but is not known."""
    # Otherwise a misspelt setting would be ignored silently.
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"{variable} is not a setting: {hint(variable, known)}")


def hint(name: str, known: Collection[str]) -> str:
    """What to do about a name that is not known."""
    bare = {one.removeprefix(PREFIX): one for one in known}
    close = get_close_matches(name.removeprefix(PREFIX), bare, n=1)
    return f"did you mean {bare[close[0]]}?" if close else "remove it"


def readable(invalid: ValidationError, origins: Mapping[str, str]) -> str:
    """One line per invalid value. The value itself is not repeated: it may be a secret.

    Args:
        invalid: what the validation found.
        origins: for settings that are set, the variable that has them or the path of the settings file.
    """
    # Each once: several entries of a list may have the same error.
    return "\n".join(dict.fromkeys(_place(error["loc"], origins) + _text(error) for error in invalid.errors()))


def _text(error: ErrorDetails) -> str:
    words = _WORDS.get(error["type"])
    return error["msg"].removeprefix("Value error, ") if words is None else words.format(**error.get("ctx", {}))


def _place(location: tuple[int | str, ...], origins: Mapping[str, str]) -> str:
    """The location of a value, such as `SEED_OAUTH_CLIENTS[0] client_id `; empty for a check across settings."""
    if not location:
        return ""
    setting, *within = location
    origin = origins.get(str(setting), f"{PREFIX}{str(setting).upper()}")
    name = origin if origin.startswith(PREFIX) else f"{origin}: {setting}"
    if setting == "clients" or any(isinstance(part, str) for part in within):
        name += "".join(f"[{part}]" if isinstance(part, int) else f" {part}" for part in within)
    return f"{name} "
