"""`/oauth/introspect` (RFC 7662): a resource server asks about an access token that it was sent."""

import hmac
from collections.abc import Collection, Iterable, Mapping

from starlette.requests import Request

from seed_oauth.clients.authentication import CHALLENGE, presented_in
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer, json_response
from seed_oauth.http.parameters import read_form
from seed_oauth.outcomes import IntrospectionOutcome
from seed_oauth.outcomes.errors import OAuthError
from seed_oauth.rate_limits import RateLimit
from seed_oauth.resource_server import AccessTokenError, VerifiedToken
from seed_oauth.resource_server.bearer import BearerTokens
from seed_oauth.settings.issued_tokens import IntrospectionClient

_METHODS = ("client_secret_basic", "client_secret_post")


class IntrospectionEndpoint:
    """The introspection endpoint."""

    def __init__(
        self,
        callers: Iterable[IntrospectionClient],
        tokens: BearerTokens,
        failures: RateLimit,
        *,
        default_resource: str,
        told: Collection[str],
    ) -> None:
        """`callers` may ask about tokens for their own resource, or for the default one.

        `failures` limits what is not successful, and `told` is what a resource server learns of a user, of the names
        in `Profile`.
        """
        self._callers = {caller.client_id: caller for caller in callers}
        self._tokens = tokens
        self._failures = failures
        self._default_resource = default_resource
        self._told = told

    async def __call__(self, request: Request) -> Answer:
        """Say whether the token is active for the resource of the caller.

        Raises:
            OAuthError: any row of `IntrospectionOutcome` but the successful ones.
        """
        form = await read_form(request)
        caller = await self._authenticated(request, form)
        if "token" not in form:
            raise OAuthError(IntrospectionOutcome.MISSING_PARAMETER, "token is missing")
        resource = caller.resource or self._default_resource
        try:
            token = await self._tokens.verify_own(form["token"], resource)
        except AccessTokenError as refused:
            self._failures.check_caller(caller.client_id)
            log_fields.note(token=refused.outcome.reason)
            # RFC 7662 §2.2: nothing else, not even why; another resource server's token is no exception (§4).
            return Answer(IntrospectionOutcome.INACTIVE, json_response({"active": False}, 200))
        return Answer(IntrospectionOutcome.ACTIVE, json_response(self._described(token, resource), 200))

    async def _authenticated(self, request: Request, form: Mapping[str, str]) -> IntrospectionClient:
        presented = presented_in(request.headers.get("authorization"), form)
        log_fields.note(client_id=presented.client_id)
        caller = self._callers.get(presented.client_id)
        secret = presented.secret if presented.method in _METHODS else ""
        if caller is None or not hmac.compare_digest(caller.client_secret.get_secret_value().encode(), secret.encode()):
            await self._failures.check(request)
            raise OAuthError(
                IntrospectionOutcome.BAD_CLIENT_AUTHENTICATION,
                "authenticate as one of SEED_OAUTH_INTROSPECTION_CLIENTS, by client_id and client_secret",
                CHALLENGE,
            )
        return caller

    def _described(self, token: VerifiedToken, resource: str) -> dict[str, object]:
        members = {
            "active": True,
            "iss": token.issuer,
            "sub": token.subject,
            "aud": resource,
            "exp": int(token.expires_at),
            "iat": int(token.issued_at),
            "client_id": token.client_id,
            "scope": " ".join(sorted(token.scopes)),
            "token_type": "Bearer",
        }
        members |= {name: getattr(token, name) for name in self._told}
        if "name" in self._told:
            members["username"] = token.name  # RFC 7662 §2.2: "human-readable"
        return {name: member for name, member in members.items() if member}
