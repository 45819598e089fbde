"""The broker flow: the identity provider knows one client and one redirect URI, those of this server.

There are two authorizations, one between the client and this server and one between this server and the identity
provider, each with a state, a PKCE pair and a code of its own. Sealed envelopes carry what links them, so that this
server stores nothing before a user has logged in: no flood can fill it up, and any replica can take the next step.

A login reads from top to bottom: `begin`, `decide` (consent), `return_to_client` (from the identity provider, whose
tokens then wait for the client), `redeem`, `refresh`; and `revoke` at its end.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from time import time

from starlette.requests import Request

from seed_oauth.clients import Client, ClientStore
from seed_oauth.clients.family import family_of
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows import (
    AuthorizationRequest,
    CodeRequest,
    RefreshRequest,
    TokenMembers,
)
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.flows.consent import ConsentPages, can_be_remembered
from seed_oauth.flows.held_responses import HeldResponses
from seed_oauth.flows.idp_authorization import IdpAuthorization
from seed_oauth.flows.idp_failure import as_oauth_error
from seed_oauth.flows.issued_grants import IssuedGrants
from seed_oauth.flows.presented import decided_transaction, note_grant, presented_code, presented_grant, returned_login
from seed_oauth.flows.revoker import Revoker
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.tokens import TokenIssuer
from seed_oauth.flows.transaction import CODE_LIFETIME, DECISION_LIFETIME, Code, Transaction, consenting
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.pages import onward_page
from seed_oauth.http.parameters import add_to_query
from seed_oauth.http.requested_resource import ProtectedResources
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.outcomes import AuthorizationOutcome, CallbackOutcome, ConsentOutcome
from seed_oauth.outcomes.errors import OAuthError


class BrokerFlow:
    """A `Flow` for identity providers at which MCP clients cannot register, which is nearly all of them."""

    def __init__(
        self,
        issuer: str,
        default_resource: str,
        idp: IdpAuthorization,
        *,
        scopes: IdpScopes,
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
        """`default_resource` is that of a client that names none; `now` counts seconds since the epoch."""
        self._issuer = issuer
        self._default_resource = default_resource
        self._idp = idp
        self._scopes = scopes
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
            resource=asked.resource or self._default_resource,
            browser=browser.binding,
            consent_can_be_remembered=can_be_remembered(asked.client, asked.redirect_uri),
        )
        consented_as = None if asked.client.trusted else browser.remembers(Consent.to(begun), now)
        if consented_as is not None:
            begun = begun._replace(consented_as=consented_as, client_name=_name_of(asked.client))
        if asked.client.trusted or consented_as is not None:
            response = found(await self._idp.url(begun))
            return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, browser.keep_on(response), family)
        page = self._consent.page(begun._replace(client_name=_name_of(asked.client)), now)
        return Answer(AuthorizationOutcome.CONSENT_ASKED, browser.keep_on(page), family)

    def redirects_errors(self, client: Client, redirect_uri: str, request: Request) -> bool:
        """Whether the operator registered the client, or this browser remembers a consent to it."""
        return client.preregistered or (
            can_be_remembered(client, redirect_uri)
            and self._browser(request).has_consented(client.client_id, redirect_uri, self._now())
        )

    # 2. The user answers the consent page.

    async def decide(self, envelope: str, decision: str | None, request: Request, *, remember: bool) -> Answer:
        """Send the browser to the identity provider once its user has approved, or back to the client after a login.

        The envelope in the form can only be made here, and only be used by the browser that the page was shown in.
        That keeps others from giving consent in a user's name (RFC 6749 §10.12).

        Raises:
            OAuthError: any row of `ConsentOutcome` that is not a success.
        """
        begun = decided_transaction(envelope, self._sealer, self._now())
        browser = self._browser(request)
        browser.check_bound_by(begun.browser, ConsentOutcome.OTHER_BROWSER)
        has_logged_in = bool(begun.login)
        if decision == "deny":
            raise OAuthError(
                ConsentOutcome.DENIED_AFTER_LOGIN if has_logged_in else ConsentOutcome.DENIED,
                "the user denied the request",
                recipient=replace(begun.recipient, automatic=False),
                client_family=begun.family,
            )
        if decision != "approve":
            raise OAuthError(ConsentOutcome.NO_DECISION, "decision must be approve or deny", client_family=begun.family)
        try:
            onward = begun._replace(remember=remember, client_name="")
            location = (
                self._with_code(Code.waiting(begun, *begun.login), begun)
                if has_logged_in
                else await self._idp.url(onward)
            )
        except IdentityProviderError as failure:
            raise OAuthError(
                ConsentOutcome.IDP_UNAVAILABLE,
                "the identity provider cannot be reached: try again",
                recipient=begun.recipient,
                client_family=begun.family,
            ) from failure
        response = onward_page(location)
        if remember:
            browser.remember(Consent.to(begun), response, self._now(), begun.consented_as or "")
        row = ConsentOutcome.APPROVED_AFTER_LOGIN if has_logged_in else ConsentOutcome.APPROVED
        return Answer(row, response, begun.family)

    # 3. The identity provider sends the browser back.

    async def return_to_client(self, parameters: Mapping[str, str], request: Request) -> Answer:
        """Exchange the identity provider's code, and send the browser back to the client with our own.

        A consent that the browser remembers was given by a person: anybody else is asked before.

        Raises:
            OAuthError: any row of `CallbackOutcome` that is not a success.
        """
        login = returned_login(parameters.get("state", ""), self._sealer, self._now())
        begun, family = login.transaction, login.transaction.family
        browser = self._browser(request)
        browser.check_bound_by(begun.browser, CallbackOutcome.OTHER_BROWSER, family)
        waited = max(self._now() - login.begun_at, 0.0)
        try:
            response = await self._idp.exchange(login, parameters)
        except IdentityProviderError as failure:
            raise as_oauth_error(failure, CallbackOutcome, begun.recipient, family) from failure
        code, user = Code.of(response.grant, begun), consenting(response.grant.subject)
        if begun.consented_as not in {None, user}:
            # The consent that this browser remembers is somebody else's, so this user is asked as well.
            await self._held.hold(code, response, begun, seconds=DECISION_LIFETIME + CODE_LIFETIME)
            waiting = begun._replace(login=(code.secret, code.grant_id), consented_as=user)
            page = self._consent.page(waiting, self._now())
            return Answer(CallbackOutcome.CONSENT_ASKED, page, family, waited)
        await self._held.hold(code, response, begun)
        sent_back = found(self._with_code(code, begun))
        if begun.remember:
            browser.remember(Consent.to(begun), sent_back, self._now(), user)
        return Answer(CallbackOutcome.RETURNED, sent_back, family, waited)

    def _with_code(self, code: Code, begun: Transaction) -> str:
        """The client's redirect URI with the code of a user who has logged in."""
        answer = {"code": code.sealed(self._sealer, self._now())}
        if begun.state is not None:
            answer["state"] = begun.state
        # RFC 9207 §2
        return add_to_query(begun.redirect_uri, {**answer, "iss": self._issuer})

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
        grant = presented_grant(presented, self._rotation, self._scopes, self._resources)
        note_grant(grant, self._sealer)
        await self._issued.check(grant)
        try:
            return await self._rotation.once(grant, partial(self._idp.refresh, grant, presented.scope))
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


def _name_of(client: Client) -> str:
    return str(client.metadata.get("client_name", ""))
