"""What the operator decides, validated once at start. Every message says what to change."""

import json
import os
import secrets
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from seed_oauth.redirect_uri import LOOPBACK_HOSTS
from seed_oauth.seal import MINIMUM_KEY_LENGTH, Sealer

PREFIX = "SEED_OAUTH_"

_DISTINCT = 12  # different characters that a random key has at the very least; a repeated word has fewer

_PROTOCOL_PARAMETERS = frozenset(
    {
        "response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "resource",
        "code_challenge", "code_challenge_method", "grant_type", "code", "code_verifier", "refresh_token",
    }
)  # fmt: skip


class SettingsError(ValueError):
    """The settings cannot be used; the message names each one and says what to change."""


def _absolute_url(value: str) -> str:
    """The URL itself if it is https, or http on loopback, without userinfo or fragment.

    Plain http elsewhere would show codes, tokens and the client secret to the network.
    """
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL: write https://host/path") from None
    if not host or url.scheme not in {"https", "http"}:
        raise ValueError("must be an absolute URL: write https://host/path")
    if url.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise ValueError("must use https (http is for loopback addresses only)")
    if url.fragment or "#" in value or "@" in url.netloc:
        raise ValueError("must have neither a fragment nor user:password@")
    return value


class Settings(BaseSettings):
    """All settings, from keyword arguments or from `SEED_OAUTH_*` environment variables.

    Raises:
        pydantic.ValidationError: a value is wrong or unsafe. `Settings.load` gives the readable form.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str = ""
    """Our issuer identifier (RFC 8414 §2), the public URL of this server without a trailing slash."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer requests; the metrics are those of all of them."""
    flow: Literal["relay"] = "relay"

    idp_authorization_url: str | None = None
    idp_token_url: str | None = None
    idp_revocation_url: str | None = None
    idp_client_id: str | None = None
    idp_client_secret: SecretStr | None = None
    idp_token_auth_method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"  # noqa: S105 - a method's name
    idp_authorization_parameters: dict[str, str] = {}
    """Sent with every authorization request, for example `{"access_type": "offline"}` (JSON)."""
    idp_token_parameters: dict[str, str] = {}
    """Sent with every token request, for example `{"audience": "https://api"}` (JSON)."""
    idp_send_resource: bool = True
    """Pass `resource` (RFC 8707) on. Entra ID refuses it: switch it off there."""
    idp_connect_timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds to connect to the identity provider."""
    idp_timeout: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Seconds for one whole request to the identity provider."""

    resources: Annotated[tuple[str, ...], NoDecode] = ()
    """The MCP servers behind this door (RFC 8707 resource indicators), separated by commas.
    By default the one at `{issuer}/mcp`."""
    scopes: Annotated[tuple[str, ...], NoDecode] = ()
    """The scopes that metadata advertises, separated by spaces or commas."""
    private_use_schemes: Annotated[tuple[str, ...], NoDecode] = ()
    """Further private-use URI schemes that clients may register (RFC 8252 §7.1)."""

    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """What seals envelopes, at least 32 random characters each, separated by commas: the first one seals, all
    of them open. With a loopback issuer a random one by default, which a restart forgets."""

    store_url: str = "sqlite:///seed-oauth.db"
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls, **given: object) -> Self:
        """Read the environment, `given` values first.

        Raises:
            SettingsError: a value is wrong or unsafe, or a `SEED_OAUTH_` variable is none of ours.
        """
        try:
            _refuse_unknown_variables(os.environ)
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks the values
        except ValidationError as invalid:
            raise SettingsError(_readable(invalid)) from None

    @field_validator("resources", "scopes", "private_use_schemes", "secret_keys", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("idp_authorization_url", "idp_token_url", "idp_revocation_url")
    @classmethod
    def _check_idp_url(cls, value: str | None) -> str | None:
        return _absolute_url(value) if value else None

    @field_validator("idp_authorization_url", "idp_authorization_parameters", "idp_token_parameters")
    @classmethod
    def _check_no_protocol_parameters(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        names = dict(parse_qsl(urlsplit(value).query)) if isinstance(value, str) else value or {}
        # They are set for each request; sent twice, the IdP must refuse them (RFC 6749 §3.1).
        if taken := sorted(names.keys() & _PROTOCOL_PARAMETERS):
            raise ValueError(f"must not set {', '.join(taken)}: the protocol sets it")
        return value

    @field_validator("resources")
    @classmethod
    def _check_resources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_absolute_url(resource) for resource in value)

    @field_validator("scopes")
    @classmethod
    def _check_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "offline_access" in value:
            # MCP clients ask for every scope advertised; a refresh token is the client's own wish (M4).
            raise ValueError("must not list offline_access: clients ask for it by themselves")
        return value

    @field_validator("private_use_schemes")
    @classmethod
    def _check_private_use_schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scheme in value:
            if scheme.lower() in {"http", "https", "javascript", "data", "file", "vbscript", "blob", "about"}:
                raise ValueError(f"must not list {scheme}: it is not a private-use scheme")
        return tuple(scheme.lower() for scheme in value)

    @field_validator("secret_keys")
    @classmethod
    def _check_secret_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            if len(key.get_secret_value()) < MINIMUM_KEY_LENGTH or len(set(key.get_secret_value())) < _DISTINCT:
                raise ValueError(
                    f"must be at least {MINIMUM_KEY_LENGTH} random characters each: "
                    'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
                )
        return value

    @field_validator("store_url")
    @classmethod
    def _check_store_url(cls, value: str) -> str:
        if not value.startswith("sqlite:///") or value == "sqlite:///":
            raise ValueError("must be sqlite:///file, sqlite:////absolute/file or sqlite:///:memory:")
        return value

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        if not values.get("issuer"):
            host = values.get("host") or "127.0.0.1"
            if host not in LOOPBACK_HOSTS:
                raise ValueError(
                    f"{PREFIX}ISSUER is missing: set it to the public https URL of this server, "
                    f"because {PREFIX}HOST is not a loopback address"
                )
            host = f"[{host}]" if host == "::1" else host
            values["issuer"] = f"http://{host}:{values.get('port') or 8000}"
        if not values.get("secret_keys") and str(values["issuer"]).startswith("http://"):
            # Plain http is for loopback: nobody but this machine's user is logged out by a restart.
            values["secret_keys"] = secrets.token_urlsafe(32)
        return values

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        _absolute_url(value)
        if "?" in value:
            raise ValueError("must not have a query (RFC 8414 §2)")
        if value.endswith("/"):
            # Clients compare the issuer byte for byte (RFC 8414 §3.3), so there is one spelling of it.
            raise ValueError("must not end with a slash")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.port == self.metrics_port != 0 and self.host == self.metrics_host:
            raise ValueError(f"{PREFIX}METRICS_PORT must differ from {PREFIX}PORT: metrics are not public")
        if self.workers > 1 and self.store_url == "sqlite:///:memory:":
            raise ValueError(f"{PREFIX}STORE_URL must be a file: {PREFIX}WORKERS cannot share memory")
        if self.idp_client_secret and not self.idp_client_id:
            raise ValueError(f"{PREFIX}IDP_CLIENT_ID is missing beside {PREFIX}IDP_CLIENT_SECRET")
        return self

    @cached_property
    def issuer_path(self) -> str:
        """The path of the issuer, empty or starting with a slash."""
        return urlsplit(self.issuer).path

    @cached_property
    def protected_resources(self) -> tuple[str, ...]:
        """The resources behind this door, the default filled in."""
        return self.resources or (f"{self.issuer}/mcp",)

    @cached_property
    def sealer(self) -> Sealer:
        """What seals and opens envelopes with `secret_keys`."""
        return Sealer([key.get_secret_value() for key in self.secret_keys])

    def as_environment(self) -> dict[str, str]:
        """The environment variables from which another process reads the same settings."""
        variables = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, dict):
                value = json.dumps(value)
            elif isinstance(value, tuple):
                value = " ".join(one.get_secret_value() if isinstance(one, SecretStr) else one for one in value)
            if value is not None:
                variables[PREFIX + name.upper()] = str(value)
        return variables

    def missing(self) -> list[str]:
        """The settings without which no login can succeed; `/readyz` and the log name them."""
        needed = ("idp_authorization_url", "idp_token_url", "idp_client_id")
        return [PREFIX + name.upper() for name in needed if getattr(self, name) is None]


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    # A misspelt setting that is silently ignored is the hardest one to find.
    known = [name.upper() for name in Settings.model_fields]
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "remove it"
            raise SettingsError(f"{variable} is not a setting: {hint}")


def _readable(invalid: ValidationError) -> str:
    lines = []
    for error in invalid.errors():
        name = PREFIX + str(error["loc"][0]).upper() + " " if error["loc"] else ""
        lines.append(name + error["msg"].removeprefix("Value error, "))
    return "\n".join(lines)
