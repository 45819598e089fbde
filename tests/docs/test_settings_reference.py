"""docs/reference/settings.md is generated from the fields of `Settings` and their docstrings."""

from typing import Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from seed_oauth.cli.config import descriptions
from seed_oauth.settings import Settings
from seed_oauth.settings.sources import SECRETS
from tests.docs.pages import DOCS, code, expect, table

INTRODUCTION = """\
# Settings

This page is generated from `src/seed_oauth/settings/`.

Settings are environment variables with the prefix `SEED_OAUTH_`, keys of the [settings
file](../how-to/settings-file.md) in lower case, or keyword arguments of `Settings` in lower case. A setting with the
mark ⁺ may be [in a file of its own](../how-to/settings-file.md#secrets-in-files-of-their-own): its variable ends with
`_FILE`, its key with `_file`. An unsafe value or an unknown name stops the start with a message that says what to
change. A [preset](../how-to/identity-providers/index.md#presets) changes the defaults of some `IDP_` settings.
"""

# By the first field of each section.
SECTIONS = {
    "issuer": "Server",
    "idp_issuer": "Identity provider",
    "idp_audiences": "Tokens of the identity provider",
    "resources": "Resources and scopes",
    "clients": "Clients",
    "mcp_server": "MCP server",
    "consent_days": "Consent and tokens",
    "access_tokens": "Access tokens",
    "secret_keys": "Secret keys",
    "rate_limit_authorize": "Rate limits",
    "store_url": "Store and log",
    "allow_everybody": "Who may come in",
    "audit_log": "Audit trail",
}

DERIVED = {
    "issuer": "`http://HOST:PORT`, if `HOST` is a loopback address",
    "resources": "`ISSUER/mcp`",
    "secret_keys": "random, if `ISSUER` is on loopback",
}


def setting(name: str) -> str:
    return code(name.upper()) + " ⁺" * (name in SECRETS)


def default(name: str) -> str:
    value = Settings.model_fields[name].default
    if name in DERIVED:
        return DERIVED[name]
    if value in (None, (), "", PydanticUndefined):
        return "-"
    return code(str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0"))


def meaning(name: str, text: str) -> str:
    annotation = Settings.model_fields[name].annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f"{text} One of {', '.join(map(code, values))}." if values else text


def test_the_settings_reference_is_what_settings_are() -> None:
    told = descriptions()
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for name, text in told.items():
        title = SECTIONS.get(name) or next(reversed(rows))
        rows.setdefault(title, []).append((setting(name), default(name), meaning(name, text)))
    parts = [f"## {title}\n\n{table(('setting', 'default', 'meaning'), *part)}" for title, part in rows.items()]
    expect(DOCS / "reference/settings.md", "\n".join([INTRODUCTION, *parts]))


def test_every_setting_has_a_docstring() -> None:
    assert not Settings.model_fields.keys() - descriptions().keys()
