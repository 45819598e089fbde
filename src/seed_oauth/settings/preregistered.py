"""Clients that the operator registers in the settings."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from seed_oauth.protocol import scope
from seed_oauth.protocol.jwk import BadKeysError, read_jwk_set
from seed_oauth.protocol.redirect_uri import RedirectUriRules

_MINIMUM_SECRET = 32  # characters
_DISTINCT = 12  # minimum number of different characters

_CLIENT_ID = re.compile(r"[!-~]{1,1024}")  # RFC 6749 appendix A.1, without the space

AuthMethod = Literal["none", "client_secret_basic", "client_secret_post", "private_key_jwt"]


class PreregisteredClient(BaseModel):
    """A pre-registered client, with the metadata members of RFC 7591 §2."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    client_id: str
    """Printable ASCII without spaces."""
    redirect_uris: Annotated[tuple[str, ...], Field(min_length=1, max_length=32)]
    client_name: Annotated[str | None, Field(max_length=256)] = None
    client_secret: SecretStr | None = None
    token_endpoint_auth_method: AuthMethod | None = None
    """By default `client_secret_basic` with a secret, `private_key_jwt` with keys, `none` otherwise."""
    jwks: dict[str, object] | None = None
    """Public keys for `private_key_jwt` (RFC 7517)."""
    scope: str | None = None
    """The scopes that it may ask for; any when left out."""
    ask_consent: bool | None = None
    """Whether its users are asked for consent; by default those of a client that has no credentials."""

    @property
    def auth_method(self) -> AuthMethod:
        """`token_endpoint_auth_method`, or its default."""
        if self.token_endpoint_auth_method is not None:
            return self.token_endpoint_auth_method
        if self.client_secret is not None:
            return "client_secret_basic"
        return "none" if self.jwks is None else "private_key_jwt"

    @property
    def asks_consent(self) -> bool:
        """Whether its users are asked for consent."""
        return self.auth_method == "none" if self.ask_consent is None else self.ask_consent

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not _CLIENT_ID.fullmatch(self.client_id):
            raise ValueError("client_id must be printable ASCII without spaces")
        if self.client_name is not None and not self.client_name.isprintable():
            raise ValueError("client_name must have printable characters only")
        if self.scope is not None and not scope.is_valid(self.scope):
            raise ValueError("scope must be a list of scopes, separated by single spaces")
        self._check_credentials()
        return self

    def _check_credentials(self) -> None:
        method = self.auth_method
        if (self.client_secret is not None) != method.startswith("client_secret"):
            raise ValueError(f"client_secret does not match token_endpoint_auth_method {method}: add or remove it")
        if (self.jwks is not None) != (method == "private_key_jwt"):
            raise ValueError(f"jwks does not match token_endpoint_auth_method {method}: add or remove it")
        if self.client_secret is not None:
            check_secret(self.client_secret.get_secret_value())
        if self.jwks is not None:
            try:
                read_jwk_set(self.jwks)
            except BadKeysError as bad:
                raise ValueError(f"jwks {bad}") from None

    def revealed(self) -> dict[str, object]:
        """All members as they are written in the settings, including the secret."""
        members = self.model_dump(mode="json", exclude_none=True)
        if self.client_secret is not None:
            members["client_secret"] = self.client_secret.get_secret_value()
        return members


def from_json(value: object) -> object:
    """The parsed JSON of an environment variable; other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value) if value else ()
    except orjson.JSONDecodeError:
        raise ValueError('must be a JSON list: [{"client_id": "...", "redirect_uris": ["https://..."]}]') from None


def check_together(clients: Sequence[PreregisteredClient], rules: RedirectUriRules) -> None:
    """Raise ValueError if two clients have the same client_id, or a redirect URI is not allowed."""
    if len({client.client_id for client in clients}) < len(clients):
        raise ValueError("must not have two clients with the same client_id")
    for client in clients:
        for uri in client.redirect_uris:
            objection = rules.objection(uri)
            if objection is not None:
                raise ValueError(f"redirect_uri of client {client.client_id} {objection}")


def check_secret(secret: str) -> None:
    """Raise ValueError for a secret that can be guessed."""
    if len(secret) < _MINIMUM_SECRET or len(set(secret)) < _DISTINCT:
        raise ValueError(
            f"client_secret must be at least {_MINIMUM_SECRET} random characters: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
        )
