"""The settings of the access tokens that this server issues, and of those who check them elsewhere."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from seed_oauth.protocol.resource import canonical
from seed_oauth.protocol.signing_keys import algorithm_of, pem_blocks
from seed_oauth.settings import validators
from seed_oauth.settings.access import differs_by_server
from seed_oauth.settings.errors import PREFIX
from seed_oauth.settings.preregistered import check_secret

if TYPE_CHECKING:
    from seed_oauth.settings import Settings

_CLAIMS = ("email", "name", "groups", "tenant")

_NEW_KEY = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"


def _keys(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for number, key in enumerate(value, 1):
        try:
            algorithm_of(key.get_secret_value())
        except ValueError as bad:
            raise ValueError(f"must be private keys in PEM, but number {number} {bad}: {_NEW_KEY} prints one") from None
    return value


def _claims(value: tuple[str, ...]) -> tuple[str, ...]:
    if not set(_CLAIMS).issuperset(value):
        raise ValueError(f"must list some of {', '.join(_CLAIMS)}")
    return value


def _secret(value: SecretStr) -> SecretStr:
    check_secret(value.get_secret_value())
    return value


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value) if value else ()
    except orjson.JSONDecodeError:
        raise ValueError('must be a JSON list: [{"client_id": "...", "client_secret": "..."}]') from None


class IntrospectionClient(BaseModel):
    """A resource server that may ask about the access tokens for its own resource."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    client_id: Annotated[str, Field(pattern=r"^[!-~]{1,256}$")]
    client_secret: Annotated[SecretStr, AfterValidator(_secret)]
    """At least 32 random characters."""
    resource: validators.Url | None = None
    """The protected resource; may be left out if there is only one."""

    def revealed(self) -> Mapping[str, object]:
        """All members as they are written in the settings, including the secret."""
        return {**self.model_dump(exclude_none=True), "client_secret": self.client_secret.get_secret_value()}


SigningKeys = Annotated[
    tuple[SecretStr, ...],
    NoDecode,
    BeforeValidator(lambda value: pem_blocks(value) if isinstance(value, str) else value),
    AfterValidator(_keys),
]
IntrospectionClients = Annotated[tuple[IntrospectionClient, ...], NoDecode, BeforeValidator(_from_json)]


class TokenSettings(BaseSettings):
    """Which access tokens clients receive, and who else may check them."""

    access_tokens: Literal["auto", "idp", "own", "jwt"] = "auto"
    """Access tokens that clients of the broker flow receive. `idp`: those of the identity provider. `own`: those of
    this server, which only it can read. `auto`: `idp` if that token is a JWT for the resource, `own` otherwise, and
    where one of `mcp_servers` has access rules. `jwt`: those of this server, which
    [others can check](../how-to/tokens-others-can-check.md)."""
    access_token_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3600
    """Seconds until an `own` or `jwt` access token expires; it never outlives the identity provider's."""
    signing_keys: SigningKeys = ()
    """Private keys that sign `jwt` access tokens, in PEM: P-256, or RSA of 2048 to 4096 bits. The first one signs, the
    public parts of all are at `/oauth/jwks`."""
    access_token_claims: Annotated[validators.Names, AfterValidator(_claims)] = ()
    """What `jwt` access tokens and introspection say of users besides `sub`: `email`, `name`, `groups`, `tenant`,
    separated by commas. Clients can read a JWT."""
    introspection_clients: IntrospectionClients = ()
    """Resource servers that may ask about access tokens at `/oauth/introspect` (RFC 7662), as a JSON list of
    `client_id`, `client_secret` and, if there are several resources, `resource`."""

    @property
    def can_issue(self) -> bool:
        """Whether there is a key to sign `jwt` access tokens with; `protect` needs none."""
        return self.access_tokens != "jwt" or bool(self.signing_keys)


def token_policy(settings: "Settings") -> Literal["auto", "idp", "own", "jwt"]:
    """The setting `access_tokens`; never `auto` where that could be a way around what is decided here.

    A token of the identity provider does not have the scopes that groups bring, and may be for several MCP servers.
    """
    if settings.access_tokens == "auto" and (settings.group_scopes or differs_by_server(settings)):
        return "own"
    return settings.access_tokens


def check(settings: "Settings") -> None:
    """Refuse callers of introspection that are ambiguous.

    Raises:
        ValueError: says what to change.
    """
    setting, callers = f"{PREFIX}INTROSPECTION_CLIENTS", settings.introspection_clients
    if callers and settings.flow != "broker":
        raise ValueError(f"{setting} needs {PREFIX}FLOW=broker: in the relay flow this server issues no access tokens")
    if len({caller.client_id for caller in callers}) < len(callers):
        raise ValueError(f"{setting} must not have two entries with the same client_id")
    known = {canonical(resource) for resource in settings.protected_resources}
    for caller in callers:
        if caller.resource is None and len(known) > 1:
            raise ValueError(f"{setting}: add the resource to {caller.client_id}, because there are several")
        if caller.resource is not None and canonical(caller.resource) not in known:
            raise ValueError(f"{setting}: the resource of {caller.client_id} is not one of {PREFIX}RESOURCES")
