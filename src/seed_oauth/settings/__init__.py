"""The settings of the operator, validated once at startup. Every error says what to set instead."""

import os
from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from seed_oauth.settings import cross_checks, defaults, environment, presets, rate_limits, tools, validators
from seed_oauth.settings.access import AccessSettings
from seed_oauth.settings.audit import AuditSettings
from seed_oauth.settings.environment import FromEnvironment
from seed_oauth.settings.errors import PREFIX, SettingsError, readable, refuse_unknown_variables
from seed_oauth.settings.issued_tokens import TokenSettings, token_policy
from seed_oauth.settings.mcp_server import McpServer, McpServerSettings, ScopeRules
from seed_oauth.settings.preset import Preset
from seed_oauth.settings.store_url import StoreUrl
from seed_oauth.settings.tools import McpMetricsSettings

__all__ = ["PREFIX", "Settings", "SettingsError"]


class Settings(
    AccessSettings, FromEnvironment, McpServerSettings, TokenSettings, AuditSettings, McpMetricsSettings, BaseSettings
):
    """All settings, from keyword arguments, `SEED_OAUTH_*` environment variables or the file in `SEED_OAUTH_CONFIG`.

    Raises:
        pydantic.ValidationError: a value is invalid or unsafe. `Settings.load` raises a readable error instead.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: Annotated[str, AfterValidator(validators.issuer)] = ""
    """The issuer identifier (RFC 8414 §2): the public URL of this server, without a trailing slash. Required unless
    `host` is a loopback address; then the default is `http://{host}:{port}`."""
    host: str = "127.0.0.1"
    """Address on which the front door listens."""
    port: validators.Port = 8000
    """TCP port of the front door; 0 picks a free one."""
    metrics_host: str = "127.0.0.1"
    """Address on which the metrics listener listens. Keep it private."""
    metrics_port: validators.Port = 9464
    """TCP port of the metrics listener; 0 picks a free one."""
    metrics_page: bool = True
    """Whether the metrics listener has [a page for people](../how-to/metrics-page.md) at `/`."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of worker processes. The metrics cover all of them."""
    flow: Literal["broker", "relay"] = "broker"
    """`broker`: one redirect URI, `{issuer}/oauth/callback`, is registered at the identity provider. `relay`: the
    redirect URI of every client is."""

    idp_issuer: validators.IdpIssuer = None
    """Issuer identifier of the identity provider. Its metadata is read from there; URLs that are set below override
    the metadata."""
    idp_issuer_claim: validators.OptionalText = None
    """The issuer that the metadata and the tokens name, if it differs from `idp_issuer`. With this, the URLs below and
    no `idp_issuer`, nothing is read."""
    idp_preset: presets.Name = "auto"
    """Defaults for a known identity provider; `auto` recognizes it by `idp_issuer`, `none` uses no preset."""
    idp_authorization_url: validators.AuthorizationUrl = None
    """Authorization endpoint of the identity provider; by default from its metadata."""
    idp_token_url: validators.OptionalUrl = None
    """Token endpoint of the identity provider; by default from its metadata."""
    idp_revocation_url: validators.OptionalUrl = None
    """Revocation endpoint of the identity provider (RFC 7009); by default from its metadata."""
    idp_jwks_url: validators.OptionalUrl = None
    """JWK Set of the identity provider (RFC 7517); by default from its metadata."""
    idp_introspection_url: validators.OptionalUrl = None
    """Introspection endpoint of the identity provider (RFC 7662); by default from its metadata."""
    idp_client_id: str | None = None
    """The `client_id` that the identity provider issued to this server."""
    idp_client_secret: SecretStr | None = None
    """The `client_secret` that belongs to it. Without one, this server is a public client."""
    idp_token_auth_method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"  # noqa: S105 - a method's name
    """How the client secret is sent to the identity provider (RFC 6749 §2.3.1)."""
    idp_authorization_parameters: validators.Parameters = {}
    """Extra parameters of every authorization request, as JSON: `{"access_type": "offline"}`. The value
    `{resource}` is replaced by the requested resource."""
    idp_token_parameters: validators.Parameters = {}
    """Extra parameters of every token request, as JSON: `{"audience": "https://api"}`."""
    idp_send_resource: bool = True
    """Whether `resource` (RFC 8707) is passed on to the identity provider. Set `false` if it refuses the parameter."""
    idp_scopes: validators.Scopes = ()
    """Scopes that are requested from the identity provider in addition to those of the client; broker flow only."""
    idp_dropped_scopes: validators.Scopes = ()
    """Scopes that are never passed on, because the identity provider refuses them; broker flow only."""
    idp_connect_timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds allowed for connecting to the identity provider."""
    idp_timeout: Annotated[float, Field(gt=0, le=120)] = 10.0
    """Seconds allowed for a whole request to the identity provider."""

    idp_audiences: validators.Names = ()
    """Values of `aud` that are accepted besides the resource, such as Entra's `api://…`."""
    idp_introspection: bool = True
    """Whether access tokens that are not JWTs are checked by introspection (RFC 7662), if there is an endpoint."""

    resources: validators.Urls = ()
    """URLs of the MCP servers behind this server (RFC 8707 resource indicators), separated by commas; by default
    `{issuer}/mcp`."""
    scopes: validators.AdvertisedScopes = ()
    """Scopes listed in the metadata of the authorization server and of the resources, separated by spaces or commas."""
    required_scopes: validators.AdvertisedScopes = ()
    """Scopes that an access token must have, all of them, to reach `mcp_server` or pass `/oauth/verify`."""
    scope_hierarchy: validators.ScopeHierarchy = {}
    """Scopes that include others, for example `{"files:write": ["files:read"]}` (JSON)."""
    tool_scopes: tools.ToolScopes = {}
    """Scopes that calling a tool needs, for example `{"files:write": ["write_file", "delete_*"]}` (JSON). A tool needs
    every scope that lists it; one that no scope lists needs only `required_scopes`."""
    method_scopes: tools.MethodScopes = {}
    """Scopes that other methods of MCP need, for example `{"files:read": ["resources/read"]}` (JSON)."""
    scope_descriptions: dict[str, str] = {}
    """What the consent page says for scopes, for example `{"files:read": "see your files"}` (JSON)."""
    server_name: Annotated[str, Field(max_length=60)] = ""
    """The name of the MCP server on the consent page; by default the host of the resource."""
    server_logo: validators.Logo = ""
    """The logo on the consent page: a `data:` URL of a PNG, JPEG, WebP or SVG image."""
    private_use_schemes: validators.PrivateUseSchemes = ()
    """Additional private-use URI schemes that clients may register (RFC 8252 §7.1)."""

    registration: Literal["open", "token", "off"] = "open"
    """Who may register clients (RFC 7591): `open` to all, `token` for those with an initial access token, `off` for
    nobody."""
    registration_tokens: validators.SecretKeys = ()
    """Initial access tokens (RFC 7591 §3): at least 32 random characters each, separated by commas."""
    contact: str | None = None
    """Whom users ask to allow a client, or themselves: an e-mail address, a name, or the https URL of a page. Error
    pages show it."""
    redirect_hosts: validators.HostPatterns = ()
    """Hosts of allowed https redirect URIs, separated by commas: `app.example.com`, or `*.example.com` for every host
    below a domain; empty allows all. Trusted clients and loopback redirect URIs are not restricted."""
    client_document_hosts: validators.HostPatterns = ()
    """Hosts of allowed Client ID Metadata Documents, written like `redirect_hosts`; empty allows all."""
    denied_client_document_hosts: validators.HostPatterns = ()
    """Hosts of Client ID Metadata Documents that are refused, written like `redirect_hosts`."""
    clients: validators.PreregisteredClients = ()
    """Pre-registered clients, as a JSON list. Users of a client with a secret or keys are not asked for consent."""
    client_days: validators.Days = 90
    """Days until an unused registered client is removed. A client that never received a token is removed after one."""
    client_quota: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of registered clients."""
    clients_per_subject: Annotated[int, Field(ge=1)] = 50
    """Maximum number of registered clients of one user, and never more than half of `client_quota`. The one that was
    used longest ago is removed first."""
    client_id_metadata_documents: bool = True
    """Whether a `client_id` may be the URL of a Client ID Metadata Document."""
    client_documents_on_loopback: bool = False
    """Whether such documents may be fetched from loopback addresses, on any port. For development only."""

    consent_days: Annotated[float, Field(ge=0, le=365)] = 30
    """Days for which a browser remembers a consent, if its user chose so; 0 asks every time."""
    refresh_token_days: validators.Days = 90
    """Days until an unused refresh token of the broker flow expires; the identity provider may end it earlier."""
    login_days: validators.Days = 365
    """Days after a login of the broker flow until its user has to log in again, however often the client refreshes."""
    revoke_before: validators.PastTime = None
    """Whatever was issued before this time is refused: codes, refresh tokens, access tokens. In ISO 8601 with a time
    zone: `2027-01-31T12:00:00Z`."""

    secret_keys: validators.SecretKeys = ()
    """Keys that encrypt codes, tokens and cookies: at least 32 random characters each, separated by commas. The first
    one encrypts, all of them decrypt. With a loopback issuer the default is a random key, lost at restart."""

    rate_limit_authorize: rate_limits.RateLimit = "600/minute"
    """Requests per client address to the authorization endpoint, the consent page and the callback. Several limits are
    separated by semicolons, `60/minute;1000/hour`; empty means no limit."""
    rate_limit_register: rate_limits.RateLimit = "300/minute;3000/hour"
    """Registrations per client address. A vendor may register for many users from one address."""
    rate_limit_token: rate_limits.RateLimit = "20/minute"  # noqa: S105 - a limit
    """Uses of one code or token per client address at the token and revocation endpoints."""
    rate_limit_token_address: rate_limits.RateLimit = "6000/minute"  # noqa: S105 - a limit
    """Requests per client address to the token and revocation endpoints, for all users of a vendor together; and to
    the back-channel logout endpoint."""
    trusted_proxies: rate_limits.Networks = ()
    """Addresses and networks of the reverse proxies that may send X-Forwarded-For and ask `/oauth/verify`."""

    store_url: StoreUrl = ""
    """Where clients and grants are stored: a SQLite file, Redis, Redis Sentinel or Redis Cluster. The default is
    `clients.db` in `/var/lib/seed-oauth` if that folder is writable, otherwise in `$XDG_STATE_HOME/seed-oauth`, which
    is usually `~/.local/state/seed-oauth`."""
    log_format: Literal["json", "console"] = "json"
    """`json` writes one JSON object per line, `console` writes text for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Log records below this level are not written."""

    @classmethod
    def load(cls, **given: object) -> Self:
        """Read the settings from the environment and the settings file; `given` values override them.

        Raises:
            SettingsError: a value is invalid or unsafe, or a `SEED_OAUTH_` variable or a key of the file is unknown.
        """
        try:
            refuse_unknown_variables(cls.known_variables(), os.environ)
            return cls(**given)  # type: ignore[arg-type]  # pydantic checks the values
        except ValidationError as invalid:
            places = {name: place for name, place in cls.origins().items() if name not in given}
            raise SettingsError(readable(invalid, places)) from None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        defaults.fill_in(values)
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
        """`resources` and those of `mcp_servers`, or the default."""
        served = (server.resource for server in self.mcp_servers)
        return tuple(dict.fromkeys((*self.resources, *served))) or (f"{self.issuer}/mcp",)

    @cached_property
    def forwarded(self) -> tuple[McpServer, ...]:
        """The MCP servers that requests are forwarded to."""
        if self.mcp_server:
            return (McpServer(resource=self.protected_resources[0], url=self.mcp_server),)
        return self.mcp_servers

    def scope_rules(self, resource: str) -> ScopeRules:
        """What is needed at a protected resource."""
        common = ScopeRules(self.required_scopes, self.tool_scopes, self.method_scopes)
        own = next((server for server in self.mcp_servers if server.resource == resource), None)
        return common if own is None else own.scope_rules(common)

    def scopes_at(self, resource: str) -> tuple[str, ...]:
        """The scopes listed in the metadata of a protected resource: required ones first."""
        return tuple(dict.fromkeys((*self.scope_rules(resource).required, *self.scopes)))

    @cached_property
    def advertised_scopes(self) -> tuple[str, ...]:
        """The scopes listed in the metadata of the authorization server: required ones first."""
        required = (self.scope_rules(resource).required for resource in self.protected_resources)
        return tuple(dict.fromkeys((*(scope for scopes in required for scope in scopes), *self.scopes)))

    @cached_property
    def preset(self) -> Preset | None:
        """The preset of this identity provider, if there is one."""
        return presets.find(self.idp_preset, self.idp_issuer)

    @cached_property
    def reads_metadata(self) -> bool:
        """Whether the endpoints are read from the metadata of the identity provider."""
        return self.idp_issuer is not None and (self.preset is None or self.preset.has_metadata)

    @cached_property
    def idp_resource_parameters(self) -> tuple[str, ...]:
        """The names of the authorization parameters whose value is the requested resource."""
        return tuple(name for name, value in self.idp_authorization_parameters.items() if value == presets.RESOURCE)

    @cached_property
    def can_authorize(self) -> bool:
        """Whether the authorization endpoint of the identity provider is set or can be discovered."""
        is_known = self.idp_authorization_url is not None or self.reads_metadata
        return is_known and self.idp_client_id is not None and self.can_issue

    @cached_property
    def can_exchange(self) -> bool:
        """Whether the token endpoint of the identity provider is set or can be discovered."""
        is_known = self.idp_token_url is not None or self.reads_metadata
        return is_known and self.idp_client_id is not None and self.can_issue

    @cached_property
    def can_revoke(self) -> bool:
        """Whether tokens can be revoked: here in the broker flow, otherwise only at the identity provider."""
        return self.flow == "broker" or self.idp_revocation_url is not None

    @cached_property
    def introspects(self) -> bool:
        """Whether opaque access tokens are checked by introspection, for which credentials are needed (RFC 7662 §2.1).

        An endpoint in the settings is asked without them, too: it may be protected otherwise.
        """
        return self.idp_introspection and (self.idp_client_id is not None or self.idp_introspection_url is not None)

    @cached_property
    def can_check_tokens(self) -> bool:
        """Whether this server can validate the access tokens of its clients."""
        issues_them = self.flow == "broker" and token_policy(self) in {"own", "jwt"}
        asks = self.idp_introspection and self.idp_introspection_url is not None
        verifies = self.idp_issuer or (self.idp_issuer_claim and self.idp_jwks_url)
        return issues_them or asks or bool(verifies)

    def missing(self) -> list[str]:
        """The names of the unset variables that every login needs; `/readyz` and the log show them."""
        return environment.missing(self)
