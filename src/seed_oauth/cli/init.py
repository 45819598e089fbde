"""`seed-oauth init`: asks for what every deployment needs, and writes the settings file."""

import json
import secrets
import textwrap
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from pydantic import TypeAdapter, ValidationError

from seed_oauth.http import paths
from seed_oauth.settings import Settings, SettingsError, presets
from seed_oauth.settings.errors import readable

ISSUERS: Mapping[str, str] = MappingProxyType(
    {
        "entra": "https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0",
        "google": "https://accounts.google.com",
        "okta": "https://YOUR-DOMAIN.okta.com/oauth2/default",
        "auth0": "https://YOUR-TENANT.YOUR-REGION.auth0.com/",
        "keycloak": "https://sso.example.com/realms/YOUR-REALM",
        "github": "https://github.com/login/oauth",
        "cognito": "https://cognito-idp.YOUR-REGION.amazonaws.com/YOUR-USER-POOL-ID",
        "authentik": "https://YOUR-HOST/application/o/YOUR-SLUG/",
        "zitadel": "https://YOUR-INSTANCE.zitadel.cloud",
        "b2c": "https://YOUR-TENANT.b2clogin.com/YOUR-TENANT.onmicrosoft.com/b2c_1_sign_in/v2.0",
    }
)
"""The issuers of known identity providers; `YOUR-` marks what differs."""

_EVERYBODY = "everybody"


def ask_for_settings(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings that every deployment needs: those given, and the answers to questions for the others."""
    issuer = _ask("issuer", given, "1. URL at which clients reach this server", default="http://127.0.0.1:8000")
    idp_issuer = _ask("idp_issuer", given, f"2. Identity provider ({', '.join(ISSUERS)}, or the URL of its issuer)")
    while "YOUR-" in idp_issuer:
        idp_issuer = _ask("idp_issuer", {}, f"   Its issuer, such as {idp_issuer}")
    typer.echo(f"   Register this redirect URI there: {paths.url(issuer, paths.CALLBACK)}")
    values: dict[str, Any] = {
        "issuer": issuer,
        "secret_keys": [secrets.token_urlsafe(32)],
        "idp_issuer": idp_issuer,
        "idp_client_id": _ask("idp_client_id", given, "3. client_id that you got there"),
        "idp_client_secret": _ask(
            "idp_client_secret", given, "4. client_secret (not shown; empty if there is none)", default="", hide=True
        ),
        **_who_may_come_in(given.get("allow"), idp_issuer),
        "mcp_server": _ask("mcp_server", given, "5. URL of the MCP server (empty: forward nothing)", default=""),
    }
    url = urlsplit(issuer)
    if url.scheme == "http":  # on loopback, where nothing is in front
        values["port"] = url.port or 80
    return {name: value for name, value in values.items() if value != ""}


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write the settings file, which only its owner can read.

    Raises:
        SettingsError: the file cannot be written.
    """
    text = "# Settings of seed-oauth. `seed-oauth config check --config` explains what is set.\n"
    for comment, names in _SECTIONS.items():
        lines = [f"{name} = {json.dumps(values[name], ensure_ascii=False)}" for name in names if name in values]
        if lines:
            text += "\n".join(
                ["", *textwrap.wrap(comment, 100, initial_indent="# ", subsequent_indent="# "), *lines, ""]
            )
    try:
        # Nothing is left of a file that cannot be written.
        with TemporaryDirectory(dir=path.parent, prefix=path.name) as folder:
            file = Path(folder) / path.name
            file.touch(mode=0o600)  # readable by its owner only, from the first moment on
            file.write_text(text, encoding="utf-8")
            file.replace(path)
    except OSError as failure:
        raise SettingsError(f"{path} cannot be written ({failure.strerror})") from None


_SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "The URL at which clients reach this server. Behind a reverse proxy, list its addresses in trusted_proxies.": (
            "issuer",
            "port",
        ),
        "Encrypts codes, tokens and cookies. Keep it: with another one, everybody has to log in again.": (
            "secret_keys",
        ),
        "The identity provider, and the client that is registered there.": (
            "idp_issuer",
            "idp_client_id",
            "idp_client_secret",
        ),
        "Who may come in, of all who have an account there.": (
            "allow_everybody",
            "allowed_emails",
            "allowed_email_domains",
        ),
        "The MCP server. Requests with a valid access token are forwarded to it.": ("mcp_server",),
    }
)
"""The settings in the file, by the comment above them."""


def _who_may_come_in(given: str | None, idp_issuer: str) -> dict[str, Any]:
    preset = presets.find("auto", idp_issuer)
    if given is not None:
        return _rules(given)
    if preset is None or not preset.is_open_at(idp_issuer):
        return {}
    answer: dict[str, Any] = typer.prompt(
        "   Everybody can have an account there. Who may come in: domains or addresses of e-mail, separated by "
        f"commas, or {_EVERYBODY}",
        value_proc=_rules,
    )
    return answer


def _rules(answer: str) -> dict[str, Any]:
    listed = [one.strip() for one in answer.split(",") if one.strip()]
    if not listed:
        raise typer.BadParameter(f"this must name somebody, or be {_EVERYBODY}")
    if listed == [_EVERYBODY]:
        return {"allow_everybody": True}
    rules = {
        "allowed_emails": [one for one in listed if "@" in one],
        "allowed_email_domains": [one for one in listed if "@" not in one],
    }
    return {name: _valid(name, rule) for name, rule in rules.items() if rule}


def _valid(name: str, value: Any) -> Any:  # noqa: ANN401 - of any setting
    """The value, as it is written in the file."""
    if not all(one.isprintable() for one in value):
        # Neither a control character nor a byte that is not UTF-8 can be in a TOML file.
        raise typer.BadParameter("this must have printable characters only")
    field = Settings.model_fields[name]
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)  # type: ignore[arg-type]  # built at run time
    except ValidationError as invalid:
        raise typer.BadParameter(f"this {readable(invalid, {})}") from None
    return value


def _ask(
    name: str, given: Mapping[str, str | None], question: str, *, default: str | None = None, hide: bool = False
) -> str:
    """The value that is given for a setting, or the answer to the question, which is asked until it is valid."""

    def valid(answer: str) -> str:
        answer = answer if hide else answer.strip()  # a secret may end with a space
        value: str = _valid(name, ISSUERS.get(answer, answer) if name == "idp_issuer" else answer)
        return value

    value = given.get(name)
    if value is not None:
        return valid(value)
    answer: str = typer.prompt(question, default, hide_input=hide, show_default=bool(default), value_proc=valid)
    return answer
