"""The broker flow: the identity provider knows one client and one redirect URI, ours.

Between the client and the door, and between the door and the identity provider, there is an authorization each,
with a state, a PKCE pair and a code of its own. What belongs together travels in sealed envelopes, so that the
door keeps nothing during a login: it cannot be filled up, and any replica can take the next step.
"""

import hmac
from collections.abc import Callable
from time import time
from urllib.parse import urlsplit

from starlette.requests import Request

from seed_oauth.clients import Client
from seed_oauth.clients.family import family_of
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import ExpiredError, SealError
from seed_oauth.errors import OAuthError, StoreError
from seed_oauth.flows import AuthorizationRequest, CodeRequest, RefreshRequest, TokenMembers, transaction
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.tokens import TokenIssuer, claims_of
from seed_oauth.flows.transaction import Code, Grant, IdpLogin, Transaction
from seed_oauth.http import pages
from seed_oauth.http.answer import Answer, found
from seed_oauth.http.parameters import add_to_query
from seed_oauth.identity_provider.client import IdentityProvider
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import AuthorizationOutcome, GrantType, RevocationOutcome, TokenOutcome
from seed_oauth.settings import Settings

_DAY = 86_400  # seconds
_MARGIN = 1.0  # seconds between the end of an exchange and what is done with its answer


class BrokerFlow:
    """A `Flow` for identity providers that know no MCP clients, which is all of them."""

    def __init__(
        self,
        settings: Settings,
        metadata: MetadataSource,
        identity_provider: IdentityProvider,
        grants: GrantStore,
        now: Callable[[], float] = time,
    ) -> None:
        """`now` counts seconds since the epoch."""
        self._settings = settings
        self._metadata = metadata
        self._identity_provider = identity_provider
        self._grants = grants
        self._now = now
        self._sealer = settings.sealer
        self._scopes = IdpScopes(settings)
        self._issuer = TokenIssuer(settings)
        self._rotation = Rotation(grants, self._sealer, now, patience=settings.idp_timeout + _MARGIN)
        self._refresh_token_lifetime = settings.refresh_token_days * _DAY
        self._fixed_parameters = {
            **settings.idp_authorization_parameters,
            "response_type": "code",
            "client_id": settings.idp_client_id or "",
            "redirect_uri": settings.callback_url,
            "code_challenge_method": "S256",
        }

    async def begin(self, asked: AuthorizationRequest, request: Request) -> Answer:
        """Ask the user for consent, or send the browser to the identity provider where that is settled.

        One client_id at the identity provider serves all clients, so its own consent says nothing about them
        (MCP Authorization, "Confused Deputy"). Those that the operator registered need none.
        """
        now = self._now()
        browser = BrowserCookies(self._settings, request)
        family = family_of(asked.client)
        begun = Transaction(
            client_id=asked.client.client_id,
            client_family=family.value,
            redirect_uri=asked.redirect_uri,
            state=asked.state,
            code_challenge=asked.code_challenge,
            scope=asked.scope,
            resource=asked.resource or self._settings.protected_resources[0],
            browser=browser.binding,
        )
        if asked.client.trusted or browser.remembers(Consent.to(begun), now):
            response = found(await self.location(begun))
            return Answer(AuthorizationOutcome.REDIRECTED_TO_IDP, browser.keep_on(response), family)
        page = pages.consent_page(self._view(asked.client, begun, now))
        return Answer(AuthorizationOutcome.CONSENT_ASKED, browser.keep_on(page), family)

    async def location(self, begun: Transaction) -> str:
        """Where at the identity provider to send the browser."""
        metadata = await self._metadata.get()
        now = self._now()
        login = IdpLogin.begin(begun, now)
        scopes = self._scopes.asked_for(begun.scope)
        parameters = {
            **self._fixed_parameters,
            **dict.fromkeys(self._settings.idp_resource_parameters, begun.resource),
            **self._resource_parameter(begun.resource),
            "state": login.state(self._sealer, now),
            "code_challenge": transaction.code_challenge(transaction.code_verifier(login.secret)),
        }
        if scopes:
            parameters["scope"] = " ".join(scopes)
        if "openid" in scopes:
            parameters["nonce"] = transaction.nonce(login.secret)
        return add_to_query(metadata.authorization_endpoint or "", parameters)

    async def redeem(self, presented: CodeRequest) -> TokenMembers:
        """Exchange the identity provider's code that is inside of ours."""
        metadata = await self._metadata.get()
        code = self._code(presented)
        parameters = {
            "code": code.idp_code,
            "code_verifier": transaction.code_verifier(code.secret),
            "redirect_uri": self._settings.callback_url,
            **self._resource_parameter(code.resource),
        }
        tokens = await self._identity_provider.exchange(
            metadata.token_endpoint or "", GrantType.AUTHORIZATION_CODE, parameters
        )
        identity = claims_of(tokens.members.get("id_token"))
        # OpenID Connect Core §3.1.3.7, number 11: an ID token of another login must not be taken for this one's.
        # Some identity providers give one that nobody asked for, which then has no nonce to repeat.
        asked_for_one = identity and "openid" in self._scopes.asked_for(code.scope)
        if asked_for_one and identity.get("nonce") != transaction.nonce(code.secret):
            raise OAuthError(
                TokenOutcome.IDP_WRONG_NONCE, "the identity provider answered another login: start a new authorization"
            )
        subject = identity.get("sub")
        scope = self._scopes.told(tokens.members.get("scope"), code.scope)
        grant = Grant.by(code, scope, subject if isinstance(subject, str) else None)
        return self._issuer.members(tokens.members, grant, scope, self._now())

    async def refresh(self, presented: RefreshRequest) -> TokenMembers:
        """Exchange the identity provider's refresh token that is inside of ours, once."""
        metadata = await self._metadata.get()
        grant = self._grant(presented)
        parameters = {
            "refresh_token": grant.idp_refresh_token,
            **self._resource_parameter(grant.resource),
        }
        if presented.scope is not None and (scopes := self._scopes.asked_for(presented.scope)):
            parameters["scope"] = " ".join(scopes)

        async def exchange() -> TokenMembers:
            tokens = await self._identity_provider.exchange(
                metadata.token_endpoint or "", GrantType.REFRESH_TOKEN, parameters
            )
            # RFC 6749 §6: the scope may be narrowed for an access token, the refresh token keeps what was granted.
            asked = grant.scope if presented.scope is None else presented.scope
            scope = self._scopes.told(tokens.members.get("scope"), asked)
            return self._issuer.members(tokens.members, grant.refreshed(), scope, self._now())

        return await self._rotation.once(grant, exchange, lifetime=self._refresh_token_lifetime)

    async def revoke(self, token: str, token_type_hint: str | None, client: Client) -> None:
        """Revoke a refresh token's grant here, and the identity provider's token there (RFC 7009 §2.1)."""
        metadata = await self._metadata.get()
        idp_token, hint = await self._revoked_here(token, token_type_hint, client)
        if idp_token is not None and metadata.revocation_endpoint is not None:
            parameters = {"token": idp_token} | ({"token_type_hint": hint} if hint else {})
            await self._identity_provider.revoke(metadata.revocation_endpoint, parameters)

    async def _revoked_here(
        self, token: str, token_type_hint: str | None, client: Client
    ) -> tuple[str | None, str | None]:
        """The identity provider's token inside of ours and what kind it is; None where it is another client's."""
        now = self._now()
        try:
            grant = Grant.opened(self._sealer, token, lifetime=self._refresh_token_lifetime, now=now)
        except ExpiredError:
            return None, None  # as good as revoked
        except SealError:
            return self._idp_access_token(token, token_type_hint, client, now)
        if grant.client_id != client.client_id:
            return None, None
        try:
            await self._grants.revoke(grant.grant_id, expires_at=now + self._refresh_token_lifetime)
        except StoreError as failure:
            raise OAuthError(
                RevocationOutcome.STORE_FAILED, "the token could not be revoked yet, try again"
            ) from failure
        return grant.idp_refresh_token, "refresh_token"

    def _idp_access_token(
        self, token: str, token_type_hint: str | None, client: Client, now: float
    ) -> tuple[str | None, str | None]:
        try:
            opened = AccessToken.opened(self._sealer, token, now)
        except ExpiredError:
            return None, None
        except SealError:
            return token, token_type_hint  # the identity provider's own, if it is any
        return (opened.idp_access_token, "access_token") if opened.client_id == client.client_id else (None, None)

    def _code(self, presented: CodeRequest) -> Code:
        """The code, after every check of what it was bound to (RFC 6749 §4.1.3, RFC 7636 §4.6)."""
        try:
            code = Code.opened(self._sealer, presented.code, self._now())
        except SealError:
            raise OAuthError(
                TokenOutcome.BAD_CODE, "the code is invalid or has expired: start a new authorization"
            ) from None
        if code.client_id != presented.client.client_id:
            raise OAuthError(TokenOutcome.BAD_CODE, "the code was given to another client")
        if presented.redirect_uri not in {None, code.redirect_uri}:
            raise OAuthError(TokenOutcome.BAD_REDIRECT_URI, "redirect_uri must be the one of the authorization request")
        challenge = transaction.code_challenge(presented.code_verifier)
        if not hmac.compare_digest(challenge.encode(), code.code_challenge.encode()):
            raise OAuthError(TokenOutcome.BAD_CODE_VERIFIER, "code_verifier does not match the code_challenge")
        _check_resource(presented.resource, code.resource)
        return code

    def _grant(self, presented: RefreshRequest) -> Grant:
        """What the refresh token holds, after every check of what it was bound to (RFC 6749 §6)."""
        try:
            grant = Grant.opened(
                self._sealer, presented.refresh_token, lifetime=self._refresh_token_lifetime, now=self._now()
            )
        except SealError:
            raise OAuthError(
                TokenOutcome.BAD_REFRESH_TOKEN, "the refresh token is invalid or has expired: start a new authorization"
            ) from None
        if grant.client_id != presented.client.client_id:
            raise OAuthError(TokenOutcome.BAD_REFRESH_TOKEN, "the refresh token was given to another client")
        if presented.scope is not None and self._scopes.exceeds(presented.scope, grant.scope):
            raise OAuthError(TokenOutcome.BAD_SCOPE, "scope must not exceed what was granted")
        _check_resource(presented.resource, grant.resource)
        return grant

    def _resource_parameter(self, resource: str) -> dict[str, str]:
        return {"resource": resource} if self._settings.idp_send_resource else {}

    def _view(self, client: Client, begun: Transaction, now: float) -> pages.ConsentView:
        is_document = client.client_id.startswith("https://")
        return pages.ConsentView(
            client_name=str(client.metadata.get("client_name", "")),
            client_id_host=urlsplit(client.client_id).hostname if is_document else None,
            redirect_uri=begun.redirect_uri,
            scopes=tuple((begun.scope or "").split()),
            resource=begun.resource,
            action=f"{self._settings.issuer}/oauth/consent",
            request=begun.awaiting_decision(self._sealer, now),
            remember_days=int(self._settings.consent_days),
        )


def _check_resource(presented: str | None, bound: str) -> None:
    # RFC 8707 §2.2: a token request may only name what was authorized.
    if presented not in {None, bound}:
        raise OAuthError(TokenOutcome.BAD_RESOURCE, "resource must be the one of the authorization request")
