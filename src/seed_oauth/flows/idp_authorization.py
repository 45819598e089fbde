"""The authorization between this server and the identity provider: its request, the exchange of its code, its refresh.

Whoever has logged in is known after an exchange, and with every one it is decided whether they may come in.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from seed_oauth.access.identity import Identity
from seed_oauth.access.rules import ResourceRules
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import IdpParameters, TokenMembers, idp_response, transaction
from seed_oauth.flows.held_responses import HeldResponse
from seed_oauth.flows.issued_grants import login_address
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.tokens import TokenIssuer, claims_of
from seed_oauth.flows.transaction import Grant, IdpLogin, Transaction
from seed_oauth.http import log_fields
from seed_oauth.http.parameters import add_to_query
from seed_oauth.identity_provider.client import IdentityProvider, TokenResponse
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.identification import Identification
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import CallbackOutcome, GrantType, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError

_MOST_UNJUDGED = 1000  # responses to refreshes whose users could not be looked up; the oldest is dropped first
_KEPT_FOR = 300.0  # seconds

_IS_OF_NO_USE = frozenset({IdentityProviderFailure.BAD_ID_TOKEN, IdentityProviderFailure.WRONG_SUBJECT})
"""What a response itself is refused for, so that the next try needs another one."""


class IdpAuthorization:
    """Talks to the identity provider in the broker flow. All methods but `url` raise `OAuthError`, too."""

    def __init__(
        self,
        redirect_uri: str,
        parameters: IdpParameters,
        scopes: IdpScopes,
        metadata: MetadataSource,
        identity_provider: IdentityProvider,
        *,
        identification: Identification,
        rules: ResourceRules,
        contact: str | None,
        selects_account: bool,
        tokens: TokenIssuer,
        sealer: Sealer,
        now: Callable[[], float],
    ) -> None:
        """`redirect_uri` is ours; `selects_account` tells whether users can be asked for another account.

        Who may not come in is told to ask `contact`. `now` counts seconds since the epoch.
        """
        self._redirect_uri = redirect_uri
        self._parameters = parameters
        self._scopes = scopes
        self._metadata = metadata
        self._identity_provider = identity_provider
        self._identification = identification
        self._rules = rules
        self._whom_to_ask = f"ask {contact} for access" if contact else "ask its operator for access"
        self._selects_account = selects_account
        self._tokens = tokens
        self._sealer = sealer
        self._now = now
        self._unjudged: dict[str, tuple[TokenResponse, float]] = {}

    async def url(self, begun: Transaction, *, prompt: str = "") -> str:
        """The authorization request, as the URL to send the browser to; `prompt` is added to that of the settings.

        Raises:
            IdentityProviderError: its metadata is not known.
        """
        metadata = await self._metadata.get()
        now = self._now()
        login = IdpLogin.begin(begun, now)
        parameters = self._parameters.login(
            begun.resource,
            self._scopes.asked_for(begun.scope, metadata.default_scopes),
            redirect_uri=self._redirect_uri,
            state=login.state(self._sealer, now),
            code_challenge=transaction.code_challenge(transaction.code_verifier(login.secret)),
            nonce=transaction.nonce(login.secret),
        )
        if prompt:
            prompts = [*parameters.get("prompt", "").split(), prompt]
            parameters["prompt"] = " ".join(dict.fromkeys(prompts))
        return add_to_query(metadata.authorization_endpoint or "", parameters)

    async def exchange(self, login: IdpLogin, parameters: Mapping[str, str]) -> HeldResponse:
        """The response to the code in `parameters`, and what of it is for the client.

        Raises:
            IdentityProviderError: the code cannot be exchanged, or who the user is cannot be found out.
        """
        metadata = await self._metadata.get()
        begun = login.transaction
        exchanged = {
            "code": idp_response.code_in(parameters, login, metadata),
            "code_verifier": transaction.code_verifier(login.secret),
            "redirect_uri": self._redirect_uri,
            **self._parameters.resource(begun.resource),
        }
        tokens = await self._identity_provider.exchange(
            metadata.token_endpoint or "", GrantType.AUTHORIZATION_CODE, exchanged
        )
        asked = self._scopes.asked_for(begun.scope, metadata.default_scopes)
        claims = claims_of(tokens.members.get("id_token"))
        if claims and "openid" in asked:
            idp_response.check_nonce(claims.get("nonce"), login)
        user = await self._identification.identify(tokens.members, metadata, has_asked="openid" in asked)
        subject = user.subject if user else None
        log_fields.note(subject=self._sealer.pseudonym(subject))
        # Who has asked for no access signs in to the account page.
        resource = begun.resource if begun.client_id else None
        log_fields.fact(subject=subject, resource=resource)
        if refusal := self._rules.refusal(user, resource):
            raise await self._not_allowed(begun, refusal)
        idp_scope = tokens.members.get("scope")
        scope = self._scopes.told(idp_scope, begun.scope, asked)
        passed_on, token_hash = self._tokens.passes_on(tokens.members, begun.resource, metadata.issuer)
        if not passed_on:
            scope = self._scopes.with_groups(self._scopes.consented(scope, begun.scope), begun.scope, user)
        now = self._now()
        refresh_token, kept = str(tokens.members.get("refresh_token", "")), self._scopes.kept(idp_scope, asked)
        grant = Grant.by(begun, scope, user, now, idp_refresh_token=refresh_token, idp_scope=kept)
        expires_in = tokens.members.get("expires_in")
        assert expires_in is None or isinstance(expires_in, int)  # noqa: S101 - see `read_token_response`
        session_id = claims.get("sid") if user else None  # only of an ID token that was verified
        return HeldResponse(
            grant,
            scope,
            passed_on,
            str(tokens.members["access_token"]),
            expires_in,
            received_at=now,
            token_hash=token_hash,
            session_id=session_id if isinstance(session_id, str) else None,
            address=login_address(),
        )

    async def refresh(self, grant: Grant, asked_scope: str | None) -> TokenMembers:
        """The client's token response to a refresh of the grant, with `asked_scope` or all that was granted.

        Raises:
            IdentityProviderError: it cannot be refreshed, or who the user is cannot be found out.
        """
        metadata = await self._metadata.get()
        parameters = {"refresh_token": grant.idp_refresh_token, **self._parameters.resource(grant.resource)}
        narrowed, asked = self._scopes.refreshed(asked_scope, grant, metadata.default_scopes)
        if asked:
            parameters["scope"] = " ".join(asked)
        tokens = self._kept(grant) or await self._identity_provider.exchange(
            metadata.token_endpoint or "", GrantType.REFRESH_TOKEN, parameters
        )
        try:
            fresh = await self._identification.identify(
                tokens.members, metadata, has_asked="openid" in asked, subject=grant.subject
            )
        except IdentityProviderError as failure:
            self._keep(grant, tokens, failure)
            raise
        # An identity provider that says nothing anew is taken at its last word: the rules may have changed since.
        user = fresh or grant.identity or Identity(metadata.issuer, grant.subject)
        if refusal := self._rules.refusal(user, grant.resource):
            raise OAuthError(
                TokenOutcome.NOT_ALLOWED,
                "the user may not use this server any more: start a new authorization with another account",
                log_fields={"access": refusal},
            )
        # RFC 6749 §6: the scope may be narrowed for an access token; the refresh token keeps what was granted.
        scope = self._scopes.told_again(tokens.members.get("scope"), narrowed, asked, grant)
        passed_on, _ = self._tokens.passes_on(tokens.members, grant.resource, metadata.issuer)
        if not passed_on:
            scope = self._scopes.consented(scope, narrowed, grant.requested)
            scope = self._scopes.with_groups(scope, narrowed or grant.requested, user)
            log_fields.fact(scopes=(scope or "").split())
        refreshed = grant.refreshed().of(user)
        return self._tokens.members(tokens.members, refreshed, scope, self._now(), passed_on=passed_on)

    def _keep(self, grant: Grant, tokens: TokenResponse, failure: IdentityProviderError) -> None:
        """Keep the response for the client's next try: the identity provider may take its refresh token only once.

        Each process keeps its own. Where another one gets the next try, the user may have to log in again.
        """
        if failure.failure not in _IS_OF_NO_USE:
            self._unjudged[grant.idp_refresh_token] = tokens, self._now()
            if len(self._unjudged) > _MOST_UNJUDGED:
                del self._unjudged[next(iter(self._unjudged))]

    def _kept(self, grant: Grant) -> TokenResponse | None:
        tokens, at = self._unjudged.pop(grant.idp_refresh_token, (None, 0.0))
        return tokens if self._now() - at < _KEPT_FOR else None

    async def _not_allowed(self, begun: Transaction, refusal: str) -> OAuthError:
        return OAuthError(
            CallbackOutcome.NOT_ALLOWED,
            f"this account may not use this server: {self._whom_to_ask}",
            # The browser stays here: whoever is sent back to their application cannot read why.
            recipient=replace(begun.recipient, automatic=False) if begun.client_id else None,
            client_family=begun.family,
            log_fields={"access": refusal},
            other_account=await self.url(begun, prompt="select_account") if self._selects_account else None,
        )
