"""The broker flow: the identity provider knows one client and one redirect URI, those of this server.

There are two authorizations, one between the client and this server and one between this server and the identity
provider, each with a state, a PKCE pair and a code of its own. Sealed envelopes carry what links them, so that this
server stores nothing before a user has logged in: no flood can fill it up, and any replica can take the next step.

A login reads from top to bottom: `begin`, `decide` (consent), `return_to_client` (from the identity provider, whose
tokens then wait for the client), `redeem`, `refresh`; and `revoke` at its end.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import time

from starlette.requests import Request

from seed_oauth.clients import Client, ClientStore
from seed_oauth.clients.family import family_of
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import (
    AuthorizationRequest,
    CodeRequest,
    IdpParameters,
    RefreshRequest,
    TokenMembers,
    idp_response,
    transaction,
)
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.flows.consent import ConsentPages, can_be_remembered
from seed_oauth.flows.held_responses import HeldResponse, HeldResponses
from seed_oauth.flows.idp_failure import as_oauth_error
from seed_oauth.flows.issued_grants import IssuedGrants, login_address
from seed_oauth.flows.presented import decided_transaction, note_grant, presented_code, presented_grant, returned_login
from seed_oauth.flows.revoker import Revoker
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.tokens import TokenIssuer, claims_of
from seed_oauth.flows.transaction import Code, Grant, IdpLogin, Transaction
from seed_oauth.http import paths
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.pages import onward_page
from seed_oauth.http.parameters import add_to_query
from seed_oauth.http.requested_resource import ProtectedResources
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import AuthorizationOutcome, CallbackOutcome, ConsentOutcome, GrantType
from seed_oauth.outcomes.errors import OAuthError


class BrokerFlow:
    """A `Flow` for identity providers at which MCP clients cannot register, which is nearly all of them."""

    def __init__(
        self,
        issuer: str,
        parameters: IdpParameters,
        scopes: IdpScopes,
        metadata: MetadataSource,
        identity_provider: IdentityProvider,
        *,
        sealer: Sealer,
        tokens: TokenIssuer,
        held: HeldResponses,
        issued: IssuedGrants,
        rotation: Rotation,
        revoker: Revoker,
        consent: ConsentPages,
        clients: ClientStore,
        resources: ProtectedResources,
        now: Callable[[], float] = time,
    ) -> None:
        """`now` counts seconds since the epoch."""
        self._issuer = issuer
        self._redirect_uri = paths.url(issuer, paths.CALLBACK)
        self._parameters = parameters
        self._scopes = scopes
        self._metadata = metadata
        self._identity_provider = identity_provider
        self._sealer = sealer
        self._tokens = tokens
        self._held = held
        self._issued = issued
        self._rotation = rotation
        self._revoker = revoker
        self._clients = clients
        self._resources = resources
        self._consent = consent
        self._now = now

    # 1. The client sends the browser here.

    async def begin(self, asked: AuthorizationRequest, request: Request) -> Answer:
        """Ask the user for consent, or send the browser to the identity provider where consent is settled.

        One client_id at the identity provider serves all clients, so consent that it asks for says nothing about them
        (MCP Security Best Practices, "Confused Deputy Problem"). Clients that the operator registered need none.
        """
        now = self._now()
        browser = self._browser(request)
        family = family_of(asked.client)
        begun = Transaction(
            client_id=asked.client.client_id,
            client_family=family.value,
            redirect_uri=asked.redirect_uri,
            state=asked.state,
            code_challenge=asked.code_challenge,
            scope=asked.scope,
            resource=asked.resource or self._parameters.default_resource,
            browser=browser.binding,
            consent_can_be_remembered=can_be_remembered(asked.client, asked.redirect_uri),
        )
        if asked.client.trusted or browser.remembers(Consent.to(begun), now):
            response = found(await self._idp_authorization(begun))
            return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, browser.keep_on(response), family)
        page = self._consent.page(asked.client, begun, now)
        return Answer(AuthorizationOutcome.CONSENT_ASKED, browser.keep_on(page), family)

    def redirects_errors(self, client: Client, redirect_uri: str, request: Request) -> bool:
        """Whether the operator registered the client, or this browser remembers a consent to it."""
        return client.preregistered or (
            can_be_remembered(client, redirect_uri)
            and self._browser(request).has_consented(client.client_id, redirect_uri, self._now())
        )

    # 2. The user answers the consent page.

    async def decide(self, envelope: str, decision: str | None, request: Request, *, remember: bool) -> Answer:
        """Send the browser to the identity provider once its user has approved.

        The envelope in the form can only be made here, and only be used by the browser that the page was shown in.
        That keeps others from giving consent in a user's name (RFC 6749 §10.12).

        Raises:
            OAuthError: any row of `ConsentOutcome` but APPROVED.
        """
        begun = decided_transaction(envelope, self._sealer, self._now())
        browser = self._browser(request)
        browser.check_bound_by(begun.browser, ConsentOutcome.OTHER_BROWSER)
        if decision == "deny":
            raise OAuthError(
                ConsentOutcome.DENIED,
                "the user denied the request",
                recipient=replace(begun.recipient, automatic=False),
                client_family=begun.family,
            )
        if decision != "approve":
            raise OAuthError(ConsentOutcome.NO_DECISION, "decision must be approve or deny", client_family=begun.family)
        try:
            response = onward_page(await self._idp_authorization(begun))
        except IdentityProviderError as failure:
            raise OAuthError(
                ConsentOutcome.IDP_UNAVAILABLE,
                "the identity provider cannot be reached: try again",
                recipient=begun.recipient,
                client_family=begun.family,
            ) from failure
        if remember:
            browser.remember(Consent.to(begun), response, self._now())
        return Answer(ConsentOutcome.APPROVED, response, begun.family)

    # 3. The identity provider sends the browser back.

    async def return_to_client(self, parameters: Mapping[str, str], request: Request) -> Answer:
        """Exchange the identity provider's code, and send the browser back to the client with our own.

        Raises:
            OAuthError: any row of `CallbackOutcome` but RETURNED.
        """
        login = returned_login(parameters.get("state", ""), self._sealer, self._now())
        begun, family = login.transaction, login.transaction.family
        self._browser(request).check_bound_by(begun.browser, CallbackOutcome.OTHER_BROWSER, family)
        waited = max(self._now() - login.begun_at, 0.0)
        try:
            response = await self._exchange(login, parameters)
        except IdentityProviderError as failure:
            raise as_oauth_error(failure, CallbackOutcome, begun.recipient, family) from failure
        # Who has logged in is known from here on. Whether they may come in is decided before there is a code.
        code = Code.of(response.grant, begun)
        await self._held.hold(code, response, begun)
        answer = {"code": code.sealed(self._sealer, self._now())}
        if begun.state is not None:
            answer["state"] = begun.state
        # RFC 9207 §2
        location = add_to_query(begun.redirect_uri, {**answer, "iss": self._issuer})
        return Answer(CallbackOutcome.RETURNED, found(location), family, waited)

    # 4. The client redeems its code.

    async def redeem(self, presented: CodeRequest) -> TokenMembers:
        """The tokens that wait for the client. If it disconnects now they are lost, and its user logs in again."""
        code = presented_code(presented, self._sealer, self._resources, self._now())
        held = await self._held.take(code)
        grant, now = held.grant, self._now()
        note_grant(grant, self._sealer)
        await self._clients.mark_used(grant.client_id, grant.subject)
        members = self._tokens.members(held.idp_members(now), grant, held.scope, now, passed_on=held.passed_on)
        await self._issued.store(held, members, presented.client)
        return members

    # 5. The client refreshes its tokens.

    async def refresh(self, presented: RefreshRequest) -> TokenMembers:
        """Exchange the identity provider's refresh token inside our own, once."""
        metadata = await self._metadata.get()
        grant = presented_grant(presented, self._rotation, self._scopes, self._resources)
        note_grant(grant, self._sealer)
        await self._issued.check(grant)
        parameters = {"refresh_token": grant.idp_refresh_token, **self._parameters.resource(grant.resource)}
        narrowed, asked = self._scopes.refreshed(presented.scope, grant, metadata.default_scopes)
        if asked:
            parameters["scope"] = " ".join(asked)

        async def exchange() -> TokenMembers:
            tokens = await self._identity_provider.exchange(
                metadata.token_endpoint or "", GrantType.REFRESH_TOKEN, parameters
            )
            # RFC 6749 §6: the scope may be narrowed for an access token; the refresh token keeps what was granted.
            scope = self._scopes.told_again(tokens.members.get("scope"), narrowed, asked, grant)
            passed_on = self._tokens.passes_on(tokens.members, grant.resource, metadata.issuer)
            if not passed_on:
                scope = self._scopes.consented(scope, narrowed, grant.requested)
            return self._tokens.members(tokens.members, grant.refreshed(), scope, self._now(), passed_on=passed_on)

        try:
            return await self._rotation.once(grant, exchange)
        except OAuthError as refusal:
            await self._revoker.after(refusal.outcome, grant)
            raise

    # At the end the client revokes them.

    async def revoke(self, token: str, token_type_hint: str | None, client: Client) -> None:
        """Revoke a refresh token's grant or an access token here, and the identity provider's token there."""
        presented = {"token": token} | ({"token_type_hint": token_type_hint} if token_type_hint else {})
        await self._revoker.revoke(presented, client.client_id)

    # What the steps are made of.

    def _browser(self, request: Request) -> BrowserCookies:
        secure = self._issuer.startswith("https://")
        return BrowserCookies(request, self._sealer, secure=secure, consent_days=self._consent.days)

    async def _idp_authorization(self, begun: Transaction) -> str:
        """The authorization request to the identity provider, as the URL to send the browser to."""
        metadata = await self._metadata.get()
        now = self._now()
        login = IdpLogin.begin(begun, now)
        scopes = self._scopes.asked_for(begun.scope, metadata.default_scopes)
        parameters = self._parameters.login(
            begun.resource,
            scopes,
            redirect_uri=self._redirect_uri,
            state=login.state(self._sealer, now),
            code_challenge=transaction.code_challenge(transaction.code_verifier(login.secret)),
            nonce=transaction.nonce(login.secret),
        )
        return add_to_query(metadata.authorization_endpoint or "", parameters)

    async def _exchange(self, login: IdpLogin, parameters: Mapping[str, str]) -> HeldResponse:
        """The identity provider's response to its code, and what of it is for the client."""
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
        identity = claims_of(tokens.members.get("id_token"))
        if identity and "openid" in asked:
            idp_response.check_nonce(identity.get("nonce"), login)
        subject, session_id, idp_scope = identity.get("sub"), identity.get("sid"), tokens.members.get("scope")
        scope = self._scopes.told(idp_scope, begun.scope, asked)
        passed_on = self._tokens.passes_on(tokens.members, begun.resource, metadata.issuer)
        if not passed_on:
            scope = self._scopes.consented(scope, begun.scope)
        kept = self._scopes.kept(idp_scope, asked)
        now = self._now()
        grant = Grant.by(begun, scope, subject if isinstance(subject, str) else None, now, idp_scope=kept)
        note_grant(grant, self._sealer)
        return HeldResponse.of(
            tokens.members,
            grant,
            scope,
            now,
            passed_on=passed_on,
            session_id=session_id if isinstance(session_id, str) else None,
            address=login_address(),
        )
