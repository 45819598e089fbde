"""Reads a request's access token, and answers with a challenge where it is refused (RFC 6750 §3, RFC 9728 §5.1)."""

import re
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.access.tools import CALL, LIST, Operation, OperationScopes
from seed_oauth.clients.family import family_of_user_agent
from seed_oauth.envelopes import trace_context
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer
from seed_oauth.http.cors import READABLE_HEADERS
from seed_oauth.http.paths import resource_metadata_url
from seed_oauth.http.scope_keys import ADMITTED, OPERATIONS
from seed_oauth.outcomes import ClientFamily, ResourceOutcome
from seed_oauth.outcomes.errors import JsonRpcError, OAuthError
from seed_oauth.protocol.scope import ScopeHierarchy
from seed_oauth.resource_server import AccessTokenError, VerifiedToken
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.resource_server.claims import bad_token
from seed_oauth.resource_server.first_use import FirstUses
from seed_oauth.resource_server.operations import Asked, asked_by
from seed_oauth.resource_server.request_stream import RequestStream
from seed_oauth.resource_server.step_up import StepUps
from seed_oauth.resource_server.tool_lists import ToolLists

LONGEST_TOKEN = 16 * 1024
"""Characters of an access token; that of a user in hundreds of groups is shorter."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 §2.1

FORBIDDEN = -32003
"""The code of the JSON-RPC error for an operation without its scopes; one of those that MCP leaves to servers."""

_LONGEST_NAMES = 256  # characters in the audit trail, of the tools that one request calls

_CHALLENGED = frozenset({400, 401, 403})

# Clients in browsers, too, have to read the challenge (Fetch §3.3.3).
_READABLE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(READABLE_HEADERS),
}


class Guard:
    """Lets requests pass that have a valid access token with every required scope."""

    def __init__(
        self,
        resource: str,
        tokens: BearerTokens,
        first_uses: FirstUses,
        *,
        required: Sequence[str] = (),
        advertised: Sequence[str] = (),
        hierarchy: ScopeHierarchy | None = None,
        operations: OperationScopes | None = None,
        names_tools: bool = False,
    ) -> None:
        """Protect `resource` with the scopes in `required`; where there are none, clients are told of `advertised`.

        Single operations may need scopes in addition, those of `operations`. `names_tools` tells the audit trail of
        every tool that is called.
        """
        self._resource = resource
        self.tokens = tokens
        self._first_uses = first_uses
        self._required = tuple(required)
        self._wanted = self._required or advertised
        self._hierarchy = hierarchy or ScopeHierarchy()
        self._operations = operations or OperationScopes({}, {})
        self._known = dict.fromkeys((*required, *advertised, *self._operations.scopes))
        self._step_ups = StepUps()
        self._names_tools = names_tools
        self.reads_bodies = names_tools or bool(self._operations.scopes)
        """Whether `check_operations` has to see each body."""
        self._metadata_url = resource_metadata_url(resource)
        self._metadata_alone = self.challenge(scopes=())

    async def check(self, request: Request) -> VerifiedToken:
        """What the request's access token says.

        Raises:
            OAuthError: it has no token, or none that is valid here; with a challenge among its headers.
        """
        try:
            token = await self.tokens.verify(_token_of(request), self._resource)
            if not self._first_uses.has_seen(token):
                trace_context.join_login()
            self._check_scopes(request, token)
        except AccessTokenError as error:
            headers = {**error.headers, **_READABLE, **self._challenge_for(error)}
            family = family_of_user_agent(request.headers.get("user-agent"))
            raise OAuthError(error.outcome, error.description, headers, client_family=family) from error
        request.scope[ADMITTED] = True
        return token

    async def allowed(self, request: Request, token: VerifiedToken, response: Response) -> Answer:
        """The answer to a request that was accepted, which is a step if it is the first use of its grant."""
        family = await self._first_uses.family(request, token)
        return Answer(ResourceOutcome.ALLOWED, response, family or ClientFamily.OTHER, is_step=family is not None)

    async def check_operations(self, request: Request, token: VerifiedToken, client: RequestStream) -> ToolLists | None:
        """Refuse what the token has not got the scopes for. The result filters the response, if that lists tools.

        Raises:
            MalformedRequestError: the body is not a message of MCP.
            JsonRpcError: a scope is missing, or the header fields say something else than the body.
        """
        if not client.sends_body and request.method != "POST":
            return None
        asked = asked_by(request.headers.raw, await client.read())
        request.scope[OPERATIONS] = asked.operations
        if self._names_tools:
            _note_tools(asked)
        needed = list(dict.fromkeys([scope for one in asked.operations for scope in self._operations.needed_by(one)]))
        if needed:
            if not (token.scopes.issuperset(needed) or self._hierarchy.covers(token.scopes, needed)):
                raise self._refusal(request, token, needed, asked)
            self._step_ups.end(token, needed)
        if any(operation.method == LIST for operation in asked.operations):
            held = self._hierarchy.expanded(token.scopes)
            return ToolLists(lambda name: held.issuperset(self._operations.needed_by(Operation(CALL, name))))
        return None

    def challenge(
        self, error: str | None = None, description: str | None = None, scopes: Sequence[str] | None = None
    ) -> str:
        """The value of WWW-Authenticate (RFC 6750 §3, RFC 9728 §5.1)."""
        members = {
            "error": error,
            "error_description": description,
            "resource_metadata": self._metadata_url,
            "scope": " ".join(self._wanted if scopes is None else scopes),
        }
        # No member contains quotes or backslashes: scopes, descriptions and URLs do not allow them.
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in members.items() if value)

    def _challenge_for(self, error: AccessTokenError) -> Mapping[str, str]:
        if error.outcome.status not in _CHALLENGED:
            return {}
        if error.outcome is ResourceOutcome.NO_TOKEN:
            # RFC 6750 §3.1: no error code for a request without authentication.
            return {"WWW-Authenticate": self.challenge()}
        if error.outcome is ResourceOutcome.SCOPE_NOT_GRANTED:
            return {"WWW-Authenticate": self._metadata_alone}
        return {"WWW-Authenticate": self.challenge(error.outcome.error, error.description)}

    def _refusal(self, request: Request, token: VerifiedToken, needed: Sequence[str], asked: Asked) -> JsonRpcError:
        _note_tools(asked)
        if self._asks_again(request, token, needed):
            row = ResourceOutcome.STEP_UP_REQUIRED
            names = " ".join(needed)
            description = f"this needs an access token with the scopes {names}: log in again and ask for them"
            # What the token has already is named, too: some clients ask for what is named here and nothing else.
            scopes = [scope for scope in self._known if scope in {*self._required, *needed, *token.scopes}]
            challenge = self.challenge(row.error, description, scopes)
        else:
            row, description, challenge = ResourceOutcome.SCOPE_NOT_GRANTED, _not_granted(needed), self._metadata_alone
        headers = {**_READABLE, "WWW-Authenticate": challenge}
        return JsonRpcError(row, description, headers, code=FORBIDDEN, request_id=asked.request_id)

    def _check_scopes(self, request: Request, token: VerifiedToken) -> None:
        # MCP Authorization, "Step-Up Authorization Flow": a scope may be granted by one that includes it.
        if self._hierarchy.covers(token.scopes, self._required):
            self._step_ups.end(token, self._required)
        elif self._asks_again(request, token, self._required):
            raise AccessTokenError(
                ResourceOutcome.INSUFFICIENT_SCOPE, f"the access token must have the scopes {' '.join(self._required)}"
            )
        else:
            raise AccessTokenError(ResourceOutcome.SCOPE_NOT_GRANTED, _not_granted(self._required))

    def _asks_again(self, request: Request, token: VerifiedToken, needed: Sequence[str]) -> bool:
        """Whether to ask for a login with the scopes: clients log in again for each challenge with an error."""
        return self._step_ups.begin(token, token.grant_id or hash(_token_of(request)), needed)


def _note_tools(asked: Asked) -> None:
    if called := [one.name for one in asked.operations if one.name is not None and one.method == CALL]:
        log_fields.fact(tool=", ".join(called)[:_LONGEST_NAMES])


def _not_granted(scopes: Sequence[str]) -> str:
    return f"the last login did not bring the scopes {' '.join(scopes)}: the user is not allowed to do this"


def _token_of(request: Request) -> str:
    # RFC 6750 §2.3 allows it in the query, where it leaks into logs and Referer headers; MCP Authorization ("Access
    # Token Usage") forbids that.
    if request.scope["query_string"] and "access_token" in request.query_params:
        raise AccessTokenError(
            ResourceOutcome.TOKEN_IN_QUERY, "send the access token in the Authorization header, never in the URL"
        )
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise AccessTokenError(ResourceOutcome.MALFORMED_REQUEST, "send one Authorization header")
    scheme, _, token = "".join(sent).partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise AccessTokenError(ResourceOutcome.NO_TOKEN, "send an access token: WWW-Authenticate says where to get one")
    if len(token) > LONGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise bad_token()
    return token
