"""What the tests of the protected resource share: an identity provider's keys, and tokens signed with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from seed_oauth import Pipeline, Settings
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.flows.access_tokens import open_access_tokens
from seed_oauth.flows.revocations import Revocations
from seed_oauth.identity_provider.jwks import IssuerKeys
from seed_oauth.identity_provider.metadata import ConfiguredMetadata, MetadataSource
from seed_oauth.identity_provider.open import configured_metadata, open_client
from seed_oauth.identity_provider.timed import TimedIdentityProvider
from seed_oauth.resource_server.bearer import BearerTokens
from tests.harness import sealer_of

NOW = 1_800_000_000.0
RESOURCE = "https://door.example/mcp"
IDP = "https://idp.example"
SECRET_KEY = "the-key-that-seals-of-random-characters"
SETTINGS: Mapping[str, Any] = {
    "issuer": "https://door.example",
    "secret_keys": SECRET_KEY,
    "idp_issuer": IDP,
    "idp_preset": "none",
    "idp_client_id": "proxy",
    "idp_client_secret": "secret of the proxy",
    "store_url": "sqlite:///:memory:",
}
# Of an identity provider that is known by its URLs.
URLS = {"idp_jwks_url": f"{IDP}/keys", "idp_introspection_url": f"{IDP}/introspect"}
DOCUMENT = {
    "issuer": IDP,
    "authorization_endpoint": f"{IDP}/authorize",
    "token_endpoint": f"{IDP}/token",
    "jwks_uri": f"{IDP}/keys",
    "introspection_endpoint": f"{IDP}/introspect",
}

Key = RSAKey | ECKey


@cache
def rsa_key(kid: str | None = "rsa") -> RSAKey:
    """A private key; the same one for the same name."""
    return RSAKey.generate_key(2048, {"kid": kid} if kid else {}, auto_kid=False)


@cache
def ec_key(kid: str = "ec") -> ECKey:
    """A private key; the same one for the same name."""
    return ECKey.generate_key("P-256", {"kid": kid})


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good access token, but for `changes`; None leaves a claim out."""
    good = {
        "iss": IDP,
        "aud": RESOURCE,
        "sub": "alice",
        "client_id": "proxy",
        "scope": "files:read files:write",
        "iat": NOW,
        "exp": NOW + 300,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(said: Mapping[str, Any], key: Key | None = None, **header: Any) -> str:
    """A JWT, as an identity provider would sign it."""
    key = key or rsa_key()
    algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
    fields = {"alg": algorithm, "kid": key.kid, "typ": "at+jwt", **header}
    fields = {name: value for name, value in fields.items() if value is not None}
    return jwt.encode(fields, dict(said), key)


def own_token(settings: Settings, **changes: Any) -> str:
    """A good access token of the door's own, but for `changes`."""
    good = {
        "client_id": "https://app.example/client.json",
        "resource": RESOURCE,
        "scope": "files:read files:write",
        "expires_at": int(NOW) + 300,
        "subject": "alice",
        "idp_access_token": "the token of the identity provider",
        "grant_id": "grant",
        "issued_at": NOW,
    }
    return AccessToken(**{**good, **changes}).sealed(sealer_of(settings), NOW)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Idp:
    """An identity provider that publishes keys and answers about opaque tokens."""

    keys: list[Key] = field(default_factory=lambda: [rsa_key(), ec_key()])
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: Callable[[httpx.Request], httpx.Response] | None = None
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/.well-known/"):
            return httpx.Response(200, json=DOCUMENT)
        self.requests.append(request)
        if self.failure is not None:
            return self.failure(request)
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [key.as_dict(private=False) for key in self.keys]})
        assert request.url.path == "/introspect"
        form = httpx.QueryParams(request.content.decode())
        return httpx.Response(200, json=self.tokens.get(form["token"], {"active": False}))


def down(_: httpx.Request) -> httpx.Response:
    """An identity provider that cannot be reached."""
    raise httpx.ConnectError("refused")


@dataclass
class Checker:
    """The verification of tokens at a time that stands still."""

    idp: Idp = field(default_factory=Idp)
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: MetadataSource | None = None
    revocations: Revocations | None = None
    clock: Clock = field(default_factory=Clock)
    pipeline: Pipeline = field(default_factory=Pipeline)
    now: float = NOW

    def __post_init__(self) -> None:
        self.all_settings = Settings(**{**SETTINGS, **URLS, **self.settings})
        transport = httpx.MockTransport(self.idp)
        telemetry = self.pipeline.telemetry
        identity_provider = TimedIdentityProvider(open_client(self.all_settings, transport), telemetry)
        self.keys = IssuerKeys(transport, telemetry, self.clock)
        metadata = self.metadata or ConfiguredMetadata(configured_metadata(self.all_settings))
        sealer = sealer_of(self.all_settings)
        self.tokens = BearerTokens(
            self.all_settings.issuer,
            sealer,
            metadata,
            identity_provider,
            self.keys,
            own=open_access_tokens(self.all_settings, sealer),
            idp_client_id=self.all_settings.idp_client_id,
            audiences=self.all_settings.idp_audiences,
            introspection=self.all_settings.idp_introspection,
            revocations=self.revocations,
            now=lambda: self.now,
            clock=self.clock,
        )
