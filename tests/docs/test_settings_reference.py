"""docs/reference/settings.md is generated from the fields of `Settings` and their docstrings."""

import ast
import inspect
import textwrap
from typing import Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from seed_oauth.settings import Settings
from tests.docs.pages import DOCS, code, expect, table

INTRODUCTION = """\
# Settings

This page is generated from `src/seed_oauth/settings/`.

Settings are environment variables with the prefix `SEED_OAUTH_`, or keyword arguments of `Settings` in lower case. An
unsafe value or an unknown name stops the start with a message that says what to change. A
[preset](../how-to/identity-providers/index.md#presets) changes the defaults of some `IDP_` settings.
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


def docstrings() -> dict[str, str]:
    """The docstring under each field, those of `Settings` itself first."""
    found = {}
    for part in (each for each in Settings.__mro__ if each.__module__.startswith("seed_oauth.")):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(definition, ast.ClassDef)
        for field, after in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                assert isinstance(after.value, ast.Constant)
                found[field.target.id] = " ".join(str(after.value.value).split())
    return found


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
    told = docstrings()
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for name, text in told.items():
        title = SECTIONS.get(name) or next(reversed(rows))
        rows.setdefault(title, []).append((code(name.upper()), default(name), meaning(name, text)))
    parts = [f"## {title}\n\n{table(('setting', 'default', 'meaning'), *part)}" for title, part in rows.items()]
    expect(DOCS / "reference/settings.md", "\n".join([INTRODUCTION, *parts]))


def test_every_setting_has_a_docstring() -> None:
    assert not Settings.model_fields.keys() - docstrings().keys()
