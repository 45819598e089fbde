"""The identity provider's token response, read as it is and given the form of RFC 6749 §5.1."""

from collections.abc import Mapping

import httpx

from seed_oauth.http_client.fetch import Response
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure

_LONGEST = 10 * 365 * 86_400  # seconds; a longer lifetime is cut to this


def read_token_response(response: Response, scope_separator: str) -> Mapping[str, object] | None:
    """The members of a response with an access token; None where it has none.

    Identity providers write `null`, empty strings, lists and numbers as text, all of which clients refuse. An empty
    `scope` says as little as none: the RFC requires a name in it, and without it everything that was asked for is
    granted.
    """
    members = response.json_object()
    if response.status != httpx.codes.OK or not members or members.get("error") or not _text(members, "access_token"):
        return None
    read = {
        "scope": _scope(members.get("scope"), scope_separator),
        "expires_in": _seconds(members.get("expires_in")),
        **{name: _text(members, name) for name in ("refresh_token", "id_token")},
    }
    return {name: value for name, value in {**members, **read}.items() if value is not None and name != "error"}


def why_no_token(members: Mapping[str, object]) -> IdentityProviderError:
    """What a response with status 200 and without an error is, instead of a token."""
    if any(isinstance(value, dict) and _text(value, "access_token") for value in members.values()):
        return IdentityProviderError(IdentityProviderFailure.NESTED_TOKEN)
    if _text(members, "id_token"):
        return IdentityProviderError(IdentityProviderFailure.ID_TOKEN_ALONE)
    return IdentityProviderError(IdentityProviderFailure.NO_ACCESS_TOKEN)


def _text(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _scope(scope: object, separator: str) -> str | None:
    names = scope if isinstance(scope, list) else [scope]
    return " ".join(" ".join(one for one in names if isinstance(one, str)).replace(separator, " ").split()) or None


def _seconds(expires_in: object) -> int | None:
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = float(expires_in)
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in >= 0:
        return int(min(expires_in, _LONGEST))
    return None
