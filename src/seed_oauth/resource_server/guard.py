"""The guard at the protected resource: reads a request's access token, and says how to get one (RFC 6750, RFC 9728)."""

import re
from collections.abc import Sequence

from starlette.requests import Request

from seed_oauth.errors import OAuthError
from seed_oauth.http.cors import READABLE_HEADERS
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.protocol.resource import metadata_url
from seed_oauth.resource_server import VerifiedToken
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.resource_server.claims import bad_token
from seed_oauth.settings import Settings

LONGEST_TOKEN = 16 * 1024
"""Characters of an access token; one of a user in hundreds of groups is shorter."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 §2.1

_CHALLENGED = frozenset({400, 401, 403})

# Clients in browsers, too, have to read where to go (PROTOCOL M6).
_READABLE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(READABLE_HEADERS),
}


class Guard:
    """Lets requests pass that have a good access token with every required scope."""

    def __init__(
        self, settings: Settings, resource: str, tokens: BearerTokens, required: Sequence[str] | None = None
    ) -> None:
        """Stand before `resource`, one of the protected ones; `required` overrides the scopes that settings require."""
        self._resource = resource
        self._tokens = tokens
        self._required = tuple(settings.required_scopes if required is None else required)
        # What a client without a token is told to ask for.
        self._wanted = self._required or settings.advertised_scopes
        self._metadata_url = metadata_url(resource)

    async def check(self, request: Request) -> VerifiedToken:
        """What the request's access token says.

        Raises:
            OAuthError: it has none, or none that is good for this; with a challenge among its headers.
        """
        try:
            token = await self._tokens.verify(_token_of(request), self._resource)
            self._check_scopes(token)
        except OAuthError as error:
            error.headers = {**error.headers, **_READABLE, **self._challenge(error)}
            raise
        return token

    def challenge(self, error: str | None = None, description: str | None = None) -> str:
        """The value of WWW-Authenticate (RFC 6750 §3, RFC 9728 §5.1)."""
        members = {
            "error": error,
            "error_description": description,
            "resource_metadata": self._metadata_url,
            "scope": " ".join(self._wanted),
        }
        # Nothing here has quotes or backslashes: scopes, descriptions and URLs do not allow for them.
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in members.items() if value)

    def _challenge(self, error: OAuthError) -> dict[str, str]:
        if error.outcome.status not in _CHALLENGED:
            return {}
        if error.outcome is ResourceOutcome.NO_TOKEN:
            # RFC 6750 §3.1: no error code for who did not try.
            return {"WWW-Authenticate": self.challenge()}
        return {"WWW-Authenticate": self.challenge(error.outcome.error, error.description)}

    def _check_scopes(self, token: VerifiedToken) -> None:
        if not token.scopes.issuperset(self._required):
            raise OAuthError(
                ResourceOutcome.INSUFFICIENT_SCOPE, f"the access token must have the scopes {' '.join(self._required)}"
            )


def _token_of(request: Request) -> str:
    # RFC 6750 §2.3 has it in the query, where logs and Referer headers show it: MCP forbids that.
    if "access_token" in request.query_params:
        raise OAuthError(
            ResourceOutcome.TOKEN_IN_QUERY, "send the access token in the Authorization header, never in the URL"
        )
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise OAuthError(ResourceOutcome.MALFORMED_REQUEST, "send one Authorization header")
    scheme, _, token = "".join(sent).partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise OAuthError(ResourceOutcome.NO_TOKEN, "send an access token: the header says where to get one")
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise bad_token()
    return token
