"""Validation of single settings. Each check returns the value or says what to set instead."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema
from pydantic_settings import NoDecode

from seed_oauth.envelopes.seal import MINIMUM_KEY_LENGTH
from seed_oauth.protocol.host import LOOPBACK_HOSTS, is_plain_host
from seed_oauth.protocol.resource import canonical
from seed_oauth.settings import preregistered
from seed_oauth.settings.preregistered import PreregisteredClient

_DISTINCT = 12  # minimum number of different characters in a random key; a repeated word has fewer

_LAST_PORT = 65535

_PROTOCOL_PARAMETERS = frozenset(
    {
        "response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "resource", "nonce",
        "code_challenge", "code_challenge_method", "grant_type", "code", "code_verifier", "refresh_token",
    }
)  # fmt: skip

_WEB_SCHEMES = frozenset({"http", "https", "javascript", "data", "file", "vbscript", "blob", "about"})

_MAXIMUM_LOGO = 48 * 1024
_LOGO = re.compile(r"data:image/(?:png|jpeg|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}")

_TIME = "must be a time in ISO 8601 with a time zone, such as 2027-01-31T12:00:00Z"

_SCOPE_TOKEN = re.compile(r"[!#-\[\]-~]+")


_ASCII = re.compile(r"[!-~]*")  # whether there is a URL at all is checked after this
_HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*")


def plain_ascii(value: str) -> str:
    """The URL, if it only has the characters of one (RFC 3986 §2): it is sent in header fields, and compared."""
    if not _ASCII.fullmatch(value):
        raise ValueError("must be plain ASCII without spaces: write a host name in punycode (xn--...)")
    return value


def absolute_url(value: str) -> str:
    """The URL, if it is https, or http on loopback, without userinfo or fragment.

    Plain http elsewhere would expose codes, tokens and the client secret to the network.
    """
    plain_ascii(value)
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL: write https://host/path") from None
    if not host or url.scheme not in {"https", "http"}:
        raise ValueError("must be an absolute URL: write https://host/path")
    if not is_plain_host(host):
        raise ValueError("must have a host in ASCII (xn--…) that is not percent-encoded")
    if url.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise ValueError("must use https (http is for loopback addresses only)")
    if url.fragment or "#" in value or "@" in url.netloc:
        raise ValueError("must not have a fragment or user:password@")
    return value


def issuer(value: str) -> str:
    """The issuer identifier, if it is valid (RFC 8414 §2)."""
    absolute_url(value)
    if "?" in value:
        raise ValueError("must not have a query (RFC 8414 §2)")
    if value.endswith("/"):
        # Clients compare the issuer byte for byte (RFC 8414 §3.3), so only one form is allowed.
        raise ValueError("must not end with a slash")
    if value != canonical(value):
        raise ValueError("must have a scheme and host in lower case, and no default port: write https://host")
    return value


def port_or_default(value: object) -> str:
    """The port for the default issuer; 8000 if there is none, or one that is refused anyway."""
    port = str(value)
    return port if port.isdecimal() and 0 < int(port[:6]) <= _LAST_PORT else "8000"


def idp_issuer(value: str | None) -> str | None:
    """The identity provider's issuer identifier, if it is valid (RFC 8414 §2); Auth0's ends with a slash."""
    if value and "?" in value:
        raise ValueError("must not have a query (RFC 8414 §2)")
    return value


def _no_protocol_parameters(names: Mapping[str, str]) -> None:
    # They are part of every request, and the IdP must refuse a repeated parameter (RFC 6749 §3.1).
    if taken := sorted(names.keys() & _PROTOCOL_PARAMETERS):
        raise ValueError(f"must not set {', '.join(taken)}: every request sets it")


def authorization_url(value: str | None) -> str | None:
    """The URL, if its query has no parameter of the protocol."""
    _no_protocol_parameters(dict(parse_qsl(urlsplit(value or "").query)))
    return value


def _from_json(value: object) -> object:
    with suppress(ValueError):  # what is not JSON is refused, as no object
        return orjson.loads(value) if isinstance(value, str) else value
    return value


def _parameters(value: dict[str, str]) -> dict[str, str]:
    _no_protocol_parameters(value)
    return value


def _scope_tokens(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_SCOPE_TOKEN.fullmatch(scope) for scope in value):
        raise ValueError("must be a list of scopes (RFC 6749 §3.3)")
    return value


def _hierarchy(value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    if not all(_SCOPE_TOKEN.fullmatch(scope) for scopes in value.items() for scope in (scopes[0], *scopes[1])):
        raise ValueError("must be lists of scopes by the scope that includes them (RFC 6749 §3.3)")
    return value


def _logo(value: str) -> str:
    # It is shown from the page itself, so that the page loads nothing. In an <img> not even an SVG runs a script.
    if value and (len(value) > _MAXIMUM_LOGO or not _LOGO.fullmatch(value)):
        raise ValueError(
            f"must be data:image/png;base64,… (or jpeg, webp, svg+xml) with at most {_MAXIMUM_LOGO} characters"
        )
    return value


def _advertised(value: tuple[str, ...]) -> tuple[str, ...]:
    if "offline_access" in value:
        # MCP clients request every advertised scope, but whether it wants a refresh token is the client's decision.
        raise ValueError(
            "must not contain offline_access: clients request it themselves, and it is requested from the identity "
            "provider if its metadata lists it; if it does not, add it to SEED_OAUTH_IDP_SCOPES"
        )
    return value


def _private_use_schemes(value: tuple[str, ...]) -> tuple[str, ...]:
    for scheme in value:
        if scheme.lower() in _WEB_SCHEMES:
            raise ValueError(f"must not contain {scheme}: it is not a private-use scheme")
    return tuple(scheme.lower() for scheme in value)


def _secret_keys(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for key in value:
        if len(key.get_secret_value()) < MINIMUM_KEY_LENGTH or len(set(key.get_secret_value())) < _DISTINCT:
            raise ValueError(
                f"must have at least {MINIMUM_KEY_LENGTH} random characters per key: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))" prints one'
            )
    return value


def _host_patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_HOST_PATTERN.fullmatch(host) for host in value):
        raise ValueError("must be host names in lower case, such as app.example.com or *.example.com")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        url = urlsplit(origin)
        if origin != "*" and (not url.netloc or origin != f"{url.scheme}://{url.netloc}"):
            raise ValueError("must be origins such as https://app.example.com, without a path, or *")
    return value


def _past_time(value: object) -> float | None:
    """In seconds since the epoch."""
    if not value:
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(_TIME) from None
    if time.tzinfo is None:
        raise ValueError(_TIME)
    if time > datetime.now(UTC):
        # Whatever is issued until then would be refused at once, so nobody could log in.
        raise ValueError("must not be in the future")
    return time.timestamp()


def _split(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _none_if_empty(value: object) -> object:
    return value or None


Port = Annotated[int, Field(ge=0, le=_LAST_PORT)]
Days = Annotated[float, Field(gt=0, le=3650)]
Url = Annotated[str, AfterValidator(absolute_url)]
OptionalUrl = Annotated[Url | None, BeforeValidator(_none_if_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
IdpIssuer = Annotated[OptionalUrl, AfterValidator(idp_issuer)]
AuthorizationUrl = Annotated[OptionalUrl, AfterValidator(authorization_url)]
Parameters = Annotated[dict[str, str], BeforeValidator(_from_json), AfterValidator(_parameters)]
Urls = Annotated[tuple[Url, ...], NoDecode, BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
PastTime = Annotated[float | None, BeforeValidator(_past_time), WithJsonSchema({"type": "string"})]
Scopes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_scope_tokens)]
ScopeHierarchy = Annotated[dict[str, tuple[str, ...]], AfterValidator(_hierarchy)]
Logo = Annotated[str, AfterValidator(_logo)]
AdvertisedScopes = Annotated[Scopes, AfterValidator(_advertised)]
PrivateUseSchemes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_private_use_schemes)]
SecretKeys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_secret_keys)]
HostPatterns = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_host_patterns)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_origins)]
PreregisteredClients = Annotated[tuple[PreregisteredClient, ...], NoDecode, BeforeValidator(preregistered.from_json)]
