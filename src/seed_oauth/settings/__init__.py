"""What the operator decides, validated once at start. Every message says what to change."""

import json
import os
import secrets
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from seed_oauth.protocol.redirect_uri import LOOPBACK_HOSTS
from seed_oauth.settings import cross_checks, presets, rate_limits, validators
from seed_oauth.settings.errors import PREFIX, SettingsError, readable, refuse_unknown_variables
from seed_oauth.settings.mcp_server import McpServerUrl, path_of
from seed_oauth.settings.presets import Preset
from seed_oauth.settings.store_url import StoreUrl

__all__ = ["PREFIX", "Settings", "SettingsError"]


class Settings(BaseSettings):
    """All settings, from keyword arguments or from `SEED_OAUTH_*` environment variables.

    Raises:
        pydantic.ValidationError: a value is wrong or unsafe. `Settings.load` gives the readable form.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: Annotated[str, AfterValidator(validators.issuer)] = ""
    """Our issuer identifier (RFC 8414 §2), the public URL of this server without a trailing slash."""
    host: str = "127.0.0.1"
    port: validators.Port = 8000
    metrics_host: str = "127.0.0.1"
    metrics_port: validators.Port = 9464
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer requests; the metrics are those of all of them."""
    flow: Literal["broker", "relay"] = "broker"
    """`broker`: the identity provider knows one redirect URI, ours. `relay`: it knows those of the clients."""

    idp_issuer: validators.IdpIssuer = None
    """The identity provider's issuer identifier: its metadata is read there, and URLs that are set here go before."""
    idp_preset: Literal["auto", "none", "entra", "google", "okta", "auth0", "keycloak", "github"] = "auto"
    """What is known of the identity provider, as defaults of the settings below; `auto` goes by `idp_issuer`."""
    idp_authorization_url: validators.AuthorizationUrl = None
    idp_token_url: validators.OptionalUrl = None
    idp_revocation_url: validators.OptionalUrl = None
    idp_jwks_url: validators.OptionalUrl = None
    idp_introspection_url: validators.OptionalUrl = None
    idp_client_id: str | None = None
    idp_client_secret: SecretStr | None = None
    idp_token_auth_method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"  # noqa: S105 - a method's name
    idp_authorization_parameters: validators.Parameters = {}
    """Sent with every authorization request, for example `{"access_type": "offline"}` (JSON). The value
    `{resource}` stands for the resource that the client asks for."""
    idp_token_parameters: validators.Parameters = {}
    """Sent with every token request, for example `{"audience": "https://api"}` (JSON)."""
    idp_send_resource: bool = True
    """Pass `resource` (RFC 8707) on. Entra ID refuses it: switch it off there."""
    idp_scopes: validators.Scopes = ()
    """Asked for at the identity provider besides what the client asks for; broker flow only."""
    idp_dropped_scopes: validators.Scopes = ()
    """Never passed on, because the identity provider refuses them; broker flow only."""
    idp_connect_timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds to connect to the identity provider."""
    idp_timeout: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Seconds for one whole request to the identity provider."""

    idp_audiences: validators.Names = ()
    """What `aud` of the identity provider's access tokens may be besides the resource, such as Entra's `api://…`."""
    idp_introspection: bool = True
    """Ask the identity provider about access tokens that are no JWT, where it has an endpoint for that (RFC 7662)."""

    resources: validators.Urls = ()
    """The MCP servers behind this door (RFC 8707 resource indicators), separated by commas.
    By default the one at `{issuer}/mcp`."""
    scopes: validators.AdvertisedScopes = ()
    """The scopes that metadata advertises, separated by spaces or commas."""
    required_scopes: validators.AdvertisedScopes = ()
    """The scopes that an access token must have, all of them, where this door protects the MCP server itself."""
    private_use_schemes: validators.PrivateUseSchemes = ()
    """Further private-use URI schemes that clients may register (RFC 8252 §7.1)."""

    clients: validators.PreregisteredClients = ()
    """Clients that need not register (JSON list). You vouch for them: their users are not asked for consent."""
    client_days: validators.Days = 90
    """Days after which a registered client that is not used is forgotten; one that never got a token after one."""
    client_quota: Annotated[int, Field(ge=1)] = 100_000
    """Registered clients that are kept at most."""
    client_id_metadata_documents: bool = True
    """Take the URL of a document for a client_id (Client ID Metadata Documents)."""
    client_documents_on_loopback: bool = False
    """For development: fetch such documents from this machine too, on any port."""

    mcp_server: McpServerUrl = None
    """The MCP server itself: requests to the protected resource that have a good access token are passed on to it."""
    mcp_server_timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds until its answer must have begun. An answer that has begun may take as long as it takes."""
    mcp_server_body_limit: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Bytes of a request's body that are passed on."""
    mcp_server_send_token: bool = True
    """Tell the MCP server the identity provider's access token that is inside an access token of ours."""

    consent_days: Annotated[float, Field(ge=0, le=365)] = 30
    """Days that a browser remembers a consent its user wants remembered; 0 asks every time."""
    refresh_token_days: validators.Days = 90
    """Days that a refresh token of the broker flow lasts unused, if the identity provider's lasts as long."""
    access_tokens: Literal["auto", "idp", "own"] = "auto"
    """What clients of the broker flow get. `idp`: the identity provider's access token. `own`: one of ours, that
    only this door can read. `auto`: the identity provider's if it is a JWT for the resource, ours otherwise."""
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3600
    """Seconds that an access token of ours lasts, if the identity provider's lasts as long."""

    secret_keys: validators.SecretKeys = ()
    """What seals envelopes, at least 32 random characters each, separated by commas: the first one seals, all
    of them open. With a loopback issuer a random one by default, which a restart forgets."""

    rate_limit_authorize: rate_limits.RateLimit = "600/minute"
    """Requests of one browser's address to the authorization endpoint, to that of consent, and to the callback.
    Limits are written as the `limits` library reads them, `60/minute;1000/hour`; empty means none."""
    rate_limit_register: rate_limits.RateLimit = "300/minute;3000/hour"
    """Registrations by one address, where a vendor may register for many users."""
    rate_limit_token: rate_limits.RateLimit = "20/minute"  # noqa: S105 - a limit
    """Uses of one code or token by one address at the token and revocation endpoints."""
    rate_limit_token_address: rate_limits.RateLimit = "6000/minute"  # noqa: S105 - a limit
    """Requests of one address there, those of all users of a vendor."""
    trusted_proxies: rate_limits.Networks = ()
    """Addresses and networks of the reverse proxies whose X-Forwarded-For is believed."""

    store_url: StoreUrl = "sqlite:///seed-oauth.db"
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def load(cls, **given: object) -> Self:
        """Read the environment, `given` values first.

        Raises:
            SettingsError: a value is wrong or unsafe, or a `SEED_OAUTH_` variable is none of ours.
        """
        try:
            refuse_unknown_variables(cls.model_fields, os.environ)
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks the values
        except ValidationError as invalid:
            raise SettingsError(readable(invalid)) from None

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
        if preset := presets.find(values.get("idp_preset"), values.get("idp_issuer")):
            preset.fill_in(values)
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        cross_checks.check(self)
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
    def advertised_scopes(self) -> tuple[str, ...]:
        """The scopes that metadata names: those that are required are among them."""
        return tuple(dict.fromkeys((*self.required_scopes, *self.scopes)))

    @cached_property
    def preset(self) -> Preset | None:
        """What is known of this identity provider."""
        return presets.find(self.idp_preset, self.idp_issuer)

    @cached_property
    def reads_metadata(self) -> bool:
        """Whether the identity provider says itself where its endpoints are."""
        return self.idp_issuer is not None and (self.preset is None or self.preset.has_metadata)

    @cached_property
    def idp_resource_parameters(self) -> tuple[str, ...]:
        """The authorization parameters whose value is the resource that a client asks for."""
        return tuple(name for name, value in self.idp_authorization_parameters.items() if value == presets.RESOURCE)

    @cached_property
    def can_authorize(self) -> bool:
        """Whether it is known where to send a browser, or where to find that out."""
        return (self.idp_authorization_url is not None or self.reads_metadata) and self.idp_client_id is not None

    @cached_property
    def can_exchange(self) -> bool:
        """Whether it is known where to exchange a code, or where to find that out."""
        return (self.idp_token_url is not None or self.reads_metadata) and self.idp_client_id is not None

    @cached_property
    def can_revoke(self) -> bool:
        """Whether tokens can be revoked: refresh tokens of the broker flow here, all others at the IdP alone."""
        return self.flow == "broker" or self.idp_revocation_url is not None

    @cached_property
    def can_check_tokens(self) -> bool:
        """Whether the access tokens that clients get can be checked here."""
        seals_them = self.flow == "broker" and self.access_tokens == "own"
        asks = self.idp_introspection and self.idp_introspection_url is not None
        return seals_them or asks or self.idp_issuer is not None

    @cached_property
    def mcp_server_path(self) -> str:
        """Where below the issuer the one protected resource is, starting with a slash."""
        return path_of(self.protected_resources[0], self.issuer)

    def as_environment(self) -> dict[str, str]:
        """The environment variables from which another process reads the same settings."""
        variables = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, dict):
                value = json.dumps(value)
            elif name == "clients":
                value = json.dumps([client.revealed() for client in value])
            elif isinstance(value, tuple):
                value = " ".join(one.get_secret_value() if isinstance(one, SecretStr) else one for one in value)
            if value is not None:
                variables[PREFIX + name.upper()] = str(value)
        return variables

    def missing(self) -> list[str]:
        """The settings without which no login can succeed; `/readyz` and the log name them."""
        urls = [name for name in ("idp_authorization_url", "idp_token_url") if getattr(self, name) is None]
        if self.reads_metadata:
            urls = []
        elif len(urls) > 1:
            urls = ["idp_issuer"]
        unset = [*urls, "idp_client_id"] if self.idp_client_id is None else urls
        return [PREFIX + name.upper() for name in unset]
