"""Client metadata (RFC 7591 §2), checked alike for clients that register and for those that publish a document."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import orjson

from seed_oauth.clients import TokenEndpointAuthMethod
from seed_oauth.clients.policy import ClientPolicy
from seed_oauth.outcomes import GrantType
from seed_oauth.protocol.host import is_plain_host
from seed_oauth.protocol.redirect_uri import RedirectUriRules

MAXIMUM_LISTED = 32
"""Redirect URIs of a client, and members of each other list."""

MAXIMUM_SIZE = 8 * 1024
"""Bytes of JSON that are stored of a client's metadata; the largest known real one has about 4 KiB."""

_MAXIMUM_TEXT = 256
_HTTPS_URL = re.compile(r"https://[!#-;=?-\[\]_a-z~]{1,2040}")


class BadMetadataError(ValueError):
    """A member breaks a rule; the message says which, without quoting it."""


class BadRedirectUrisError(BadMetadataError):
    """`redirect_uris` breaks a rule, for which RFC 7591 §3.2.2 has a separate error."""


def present(sent: Mapping[str, object]) -> dict[str, object]:
    """The members that have a value: some Java and JavaScript clients send null for the others."""
    return {name: value for name, value in sent.items() if value is not None}


def redirect_uris(sent: Mapping[str, object], rules: RedirectUriRules, policy: ClientPolicy) -> tuple[str, ...]:
    """The acceptable redirect URIs; RFC 7591 §2 lets the server omit the others.

    One bad URI does not invalidate the others: clients register every form that they might use (Cursor sends a
    private-use scheme, an https URL and a loopback one). The response shows which ones were registered.

    Raises:
        BadRedirectUrisError: none is acceptable, or there are too many.
    """
    uris = _strings(sent, "redirect_uris", BadRedirectUrisError)
    if not uris:
        raise BadRedirectUrisError("redirect_uris is missing: send at least one")
    objections = {uri: rules.objection(uri) or policy.redirect_objection(uri) for uri in uris}
    accepted = tuple(uri for uri, objection in objections.items() if objection is None)
    if not accepted:
        raise BadRedirectUrisError(f"no redirect_uri is acceptable; the first {objections[uris[0]]}")
    return accepted


def auth_method(
    sent: Mapping[str, object],
    allowed: Sequence[TokenEndpointAuthMethod],
    default: TokenEndpointAuthMethod,
) -> TokenEndpointAuthMethod:
    """`token_endpoint_auth_method`, one of `allowed`.

    Raises:
        BadMetadataError: it is not one of them.
    """
    wanted = sent.get("token_endpoint_auth_method", default)
    for method in allowed:
        if method == wanted:
            return method
    raise BadMetadataError(f"token_endpoint_auth_method must be one of {', '.join(allowed)}")


def accepted(sent: Mapping[str, object]) -> dict[str, object]:
    """The rest of the metadata, checked. Unknown members and unusable descriptions are left out (RFC 7591 §2).

    `scope` is not registered: it would keep a client from asking for more later, as a 403 may tell it to (MCP
    Authorization, "Step-Up Authorization Flow"). Its user decides.

    Raises:
        BadMetadataError: a member that decides what the client may do breaks a rule.
    """
    kept: dict[str, object] = {"grant_types": _grant_types(sent), "response_types": _response_types(sent)}
    for name, read in _DESCRIPTIONS.items():
        with suppress(BadMetadataError):
            if name in sent and (value := read(sent, name)):
                kept[name] = value
    return kept


def check_size(redirect_uris: Sequence[str], kept: Mapping[str, object]) -> None:
    """Refuse metadata so large that a flood of it would fill the store and the memory.

    Raises:
        BadMetadataError: it exceeds `MAXIMUM_SIZE`.
    """
    if len(orjson.dumps([redirect_uris, kept])) > MAXIMUM_SIZE:
        raise BadMetadataError(f"the client metadata must not have more than {MAXIMUM_SIZE} bytes")


def https_url(sent: Mapping[str, object], name: str) -> str:
    """A member that must be an https URL.

    Raises:
        BadMetadataError: it is not one.
    """
    value = sent[name]
    if not isinstance(value, str) or not _HTTPS_URL.fullmatch(value) or not _has_plain_host(value):
        raise BadMetadataError(f"{name} must be an https URL")
    return value


def _has_plain_host(url: str) -> bool:
    try:
        return is_plain_host(urlsplit(url).hostname)
    except ValueError:
        return False


def _grant_types(sent: Mapping[str, object]) -> list[str]:
    wanted = _strings(sent, "grant_types") or list(GrantType)
    known = [grant_type for grant_type in wanted if grant_type in list(GrantType)]
    if GrantType.AUTHORIZATION_CODE not in known:
        raise BadMetadataError("grant_types must include authorization_code")
    return known


def _response_types(sent: Mapping[str, object]) -> list[str]:
    if "code" not in (_strings(sent, "response_types") or ["code"]):
        raise BadMetadataError("response_types must include code")
    return ["code"]


def _strings(sent: Mapping[str, object], name: str, error: type[BadMetadataError] = BadMetadataError) -> list[str]:
    value = sent.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
        raise error(f"{name} must be a list of strings")
    if len(value) > MAXIMUM_LISTED:
        raise error(f"{name} must not have more than {MAXIMUM_LISTED} members")
    return value


def _text(sent: Mapping[str, object], name: str) -> str:
    value = sent[name]
    if not isinstance(value, str) or len(value) > _MAXIMUM_TEXT or not value.isprintable():
        raise BadMetadataError(f"{name} must be at most {_MAXIMUM_TEXT} printable characters")
    return value


_DESCRIPTIONS: Mapping[str, Callable[[Mapping[str, object], str], object]] = {
    **dict.fromkeys(("client_name", "software_id", "software_version", "application_type"), _text),
    **dict.fromkeys(("client_uri", "logo_uri", "tos_uri", "policy_uri"), https_url),
    "contacts": _strings,
}
"""The optional members that only describe the client, and how each is read."""
