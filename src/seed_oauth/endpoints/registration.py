"""`/oauth/register`: dynamic client registration (RFC 7591)."""

import hmac
from collections.abc import Callable, Collection, Mapping
from time import time

from starlette.requests import Request

from seed_oauth.clients import (
    PROTECTED,
    Client,
    ClientStore,
    QuotaExhaustedError,
    TokenEndpointAuthMethod,
    hash_secret,
    new_client_id,
    new_client_secret,
)
from seed_oauth.clients import metadata as client_metadata
from seed_oauth.clients.family import family_of
from seed_oauth.clients.metadata import BadMetadataError, BadRedirectUrisError
from seed_oauth.clients.policy import ALLOW_ALL, ClientPolicy
from seed_oauth.http import log_fields
from seed_oauth.http.answer import Answer, json_response
from seed_oauth.http.parameters import read_json
from seed_oauth.outcomes import RegistrationOutcome
from seed_oauth.outcomes.errors import OAuthError, StoreError
from seed_oauth.protocol.redirect_uri import RedirectUriRules

_AUTH_METHODS: tuple[TokenEndpointAuthMethod, ...] = ("none", "client_secret_basic", "client_secret_post")


class RegistrationEndpoint:
    """The registration endpoint (MCP Authorization, "Dynamic Client Registration")."""

    def __init__(
        self,
        clients: ClientStore,
        rules: RedirectUriRules,
        policy: ClientPolicy = ALLOW_ALL,
        *,
        registration: str = "open",
        tokens: Collection[str] = (),
        now: Callable[[], float] = time,
    ) -> None:
        """Register nothing yet.

        Args:
            clients: where clients are kept.
            rules: which redirect URIs clients may register.
            policy: the redirect URIs that the operator allows.
            registration: `open` to every client, `off`, or for those with one of the initial access `tokens`.
            tokens: see there.
            now: counts seconds since the epoch.
        """
        self._clients = clients
        self._rules = rules
        self._policy = policy
        self._registration = registration
        self._tokens = [token.encode() for token in tokens]
        self._now = now

    async def __call__(self, request: Request) -> Answer:
        """Answer one registration request.

        Raises:
            OAuthError: any row of `RegistrationOutcome` but the successful one.
        """
        self._check_admission(request.headers.get("authorization", ""))
        sent = client_metadata.present(await read_json(request))
        try:
            client, secret = self._registered(sent)
        except BadMetadataError as bad:
            raise _refused(bad) from bad
        log_fields.note(client_id=client.client_id)
        log_fields.fact(client_name=client.metadata.get("client_name"))
        try:
            await self._clients.add(client)
        except QuotaExhaustedError as full:
            # By then recent registrations are no longer protected, and may be replaced.
            raise OAuthError(
                RegistrationOutcome.QUOTA_EXHAUSTED,
                "too many clients have registered: try again later",
                {"Retry-After": str(PROTECTED)},
            ) from full
        except StoreError as failure:
            raise OAuthError(
                RegistrationOutcome.STORE_FAILED, "the registration could not be stored: try again"
            ) from failure
        response = json_response(_client_information(client, secret), 201)
        return Answer(RegistrationOutcome.REGISTERED, response, family_of(client))

    def _check_admission(self, authorization: str) -> None:
        if self._registration == "off":
            raise OAuthError(
                RegistrationOutcome.CLOSED,
                f"clients cannot register here; to use this client, {self._policy.whom_to_ask}",
            )
        if self._registration == "token":
            scheme, _, token = authorization.partition(" ")
            presented = token.strip().encode() if scheme.lower() == "bearer" else b""
            if not any(hmac.compare_digest(presented, known) for known in self._tokens):
                # RFC 7591 §3, RFC 6750 §3
                raise OAuthError(
                    RegistrationOutcome.BAD_INITIAL_ACCESS_TOKEN,
                    f"registration needs an initial access token; to use this client, {self._policy.whom_to_ask}",
                    {"WWW-Authenticate": 'Bearer error="invalid_token"' if authorization else "Bearer"},
                )

    def _registered(self, sent: Mapping[str, object]) -> tuple[Client, str | None]:
        """The new client, and its secret if its method needs one."""
        # RFC 7591 §2: the default is client_secret_basic.
        method = client_metadata.auth_method(sent, _AUTH_METHODS, "client_secret_basic")
        secret = None if method == "none" else new_client_secret()
        client = Client(
            client_id=new_client_id(),
            issued_at=int(self._now()),
            redirect_uris=client_metadata.redirect_uris(sent, self._rules, self._policy),
            token_endpoint_auth_method=method,
            secret_hash=hash_secret(secret) if secret else None,
            metadata=client_metadata.accepted(sent),
        )
        client_metadata.check_size(client.redirect_uris, client.metadata)
        return client, secret


def _client_information(client: Client, secret: str | None) -> dict[str, object]:
    """The client information response (RFC 7591 §3.2.1); the secret is only ever sent here."""
    information: dict[str, object] = {
        "client_id": client.client_id,
        "client_id_issued_at": client.issued_at,
        **client.metadata,
        "redirect_uris": client.redirect_uris,
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
    }
    if secret is not None:
        # 0: the secret does not expire (RFC 7591 §3.2.1). A client that is unused for SEED_OAUTH_CLIENT_DAYS does, but
        # that date moves with every use.
        information |= {"client_secret": secret, "client_secret_expires_at": 0}
    return information


def _refused(bad: BadMetadataError) -> OAuthError:
    about_redirect_uris = isinstance(bad, BadRedirectUrisError)
    outcome = RegistrationOutcome.BAD_REDIRECT_URI if about_redirect_uris else RegistrationOutcome.BAD_CLIENT_METADATA
    return OAuthError(outcome, str(bad))
