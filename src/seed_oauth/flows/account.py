"""The account page: which applications have access for a user, and how the user ends that.

Its login is one at the identity provider without a client. There is no code and no grant, and the tokens are
dropped. What remains is a sealed cookie that says for ten minutes, in this browser only, who has signed in.
"""

from collections.abc import Callable, Mapping

from starlette.requests import Request

from seed_oauth.envelopes import trace_context
from seed_oauth.envelopes.seal import ExpiredError, Purpose, Sealer, SealError
from seed_oauth.flows.browser_cookies import BrowserCookies
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import GrantStore, Selection
from seed_oauth.flows.idp_authorization import IdpAuthorization
from seed_oauth.flows.idp_failure import as_oauth_error
from seed_oauth.flows.revoked import hashed
from seed_oauth.flows.transaction import OF_ACCOUNT, SESSION_LIFETIME, IdpLogin, Transaction
from seed_oauth.http import log_fields, paths
from seed_oauth.http.account_page import AccountView, Application, account_page
from seed_oauth.http.answer import Answer, found, see_other
from seed_oauth.http.pages import Presentation
from seed_oauth.identity_provider.failures import IdentityProviderError
from seed_oauth.outcomes import AccountOutcome, CallbackOutcome, ClientFamily
from seed_oauth.outcomes.errors import NOT_CONFIGURED, OAuthError, StoreError

ALL = "all"
"""What the form names instead of a grant_id to revoke all grants; a grant_id is longer."""

_SIGNED_OUT = "you are no longer signed in here: sign in again"
_STORE_FAILED = "the store does not answer at the moment: try again"


class Account:
    """Shows users their grants and revokes them."""

    def __init__(
        self,
        issuer: str,
        default_resource: str,
        idp: IdpAuthorization,
        *,
        sealer: Sealer,
        grants: GrantStore,
        revocation: GrantRevocation,
        server: Presentation,
        configured: bool,
        now: Callable[[], float],
    ) -> None:
        """`configured` tells whether there is an identity provider; `now` counts seconds since the epoch.

        The identity provider is asked for a login to `default_resource`, as for a client that names none.
        """
        self._url = paths.url(issuer, paths.ACCOUNT)
        self._secure = issuer.startswith("https://")
        self._default_resource = default_resource
        self._idp = idp
        self._sealer = sealer
        self._grants = grants
        self._revocation = revocation
        self._server = server
        self._configured = configured
        self._now = now

    # 1. The user opens the page.

    async def show(self, parameters: Mapping[str, str], request: Request) -> Answer:
        """The page of a user who has signed in; anybody else is sent to the identity provider.

        Raises:
            OAuthError: any row of `AccountOutcome` that is not a success.
        """
        if not self._configured:
            raise OAuthError(AccountOutcome.NOT_CONFIGURED, NOT_CONFIGURED)
        if "error" in parameters:
            # From the callback. Not another login by itself, which could go round in circles.
            raise OAuthError(AccountOutcome.LOGIN_FAILED, "signing in has failed: sign in again")
        browser, now = self._browser(request), self._now()
        subject = browser.signed_in(now)
        if subject is None:
            return Answer(AccountOutcome.REDIRECTED_TO_IDP, browser.keep_on(found(await self._login_url(browser))))
        try:
            grants = await self._grants.search(Selection(subject_hash=hashed(subject)), now=now)
        except StoreError as failure:
            raise OAuthError(AccountOutcome.STORE_FAILED, _STORE_FAILED) from failure
        view = AccountView(
            applications=[
                Application(
                    grant_id=grant.grant_id,
                    client_name=grant.client_name or "",
                    client_url=grant.client_id if grant.client_id.startswith("https://") else None,
                    scopes=tuple((grant.scope or "").split()),
                    resource=grant.resource,
                    issued_at=grant.issued_at,
                    used_at=grant.used_at,
                    address=grant.address,
                )
                for grant in grants
            ],
            action=self._url,
            request=self._sealer.seal(Purpose.ACCOUNT_FORM, [subject, browser.binding], now),
            server=self._server,
        )
        return Answer(AccountOutcome.SHOWN, account_page(view))

    async def _login_url(self, browser: BrowserCookies) -> str:
        begun = Transaction(
            client_id="",
            client_family=ClientFamily.OTHER.value,
            redirect_uri=self._url,
            state=None,
            code_challenge="",
            scope=None,
            resource=self._default_resource,
            browser=browser.binding,
        )
        try:
            return await self._idp.url(begun)
        except IdentityProviderError as failure:
            raise OAuthError(
                AccountOutcome.IDP_UNAVAILABLE, "the identity provider cannot be reached: try again"
            ) from failure

    # 2. The identity provider sends the browser back to the callback.

    def returned(self, state: str) -> IdpLogin | None:
        """The login to this page that the identity provider sends back; None if it is another one.

        Raises:
            OAuthError: EXPIRED of `CallbackOutcome`.
        """
        if not state.startswith(OF_ACCOUNT):
            return None
        try:
            login = IdpLogin.returned(self._sealer, state, self._now())
        except ExpiredError:
            raise OAuthError(CallbackOutcome.EXPIRED, f"the login took too long: open {self._url} again") from None
        except SealError:
            return None
        trace_context.waited(login.begun_at)
        return login

    async def sign_in(self, login: IdpLogin, parameters: Mapping[str, str], request: Request) -> Answer:
        """Send the browser back to the page, with a cookie that says who has signed in.

        Raises:
            OAuthError: any row of `CallbackOutcome` that is not a success.
        """
        begun = login.transaction
        browser = self._browser(request)
        if not browser.is_bound_by(begun.browser):
            # Or somebody would see, and end, what another user has allowed (RFC 9700 §4.7).
            raise OAuthError(
                CallbackOutcome.OTHER_BROWSER,
                "this login began in another browser, or cookies are blocked: allow cookies for this site and open "
                f"{self._url} again",
            )
        try:
            logged_in = await self._idp.exchange(login, parameters)
        except IdentityProviderError as failure:
            raise as_oauth_error(failure, CallbackOutcome, begun.recipient) from failure
        if not logged_in.grant.subject:
            raise OAuthError(
                CallbackOutcome.NO_SUBJECT,
                "the identity provider does not say who you are, so your applications cannot be shown: ask the "
                "operator of this server to end their access",
            )
        now = self._now()
        response = found(self._url)
        browser.sign_in(logged_in.grant.subject, response, now)
        return Answer(CallbackOutcome.SIGNED_IN, response, waited=max(now - login.begun_at, 0.0))

    # 3. The user revokes a grant, or all of them.

    async def revoke(self, form: Mapping[str, str], request: Request) -> Answer:
        """Revoke what the form names, and show the page again.

        The form can only be made here, for one user in one browser, so nobody can submit it in a user's name
        (RFC 6749 §10.12). Which grants are the user's is decided by the store.

        Raises:
            OAuthError: any row of `AccountOutcome` that is not a success.
        """
        subject = self._submitted_by(form.get("request", ""), request)
        log_fields.note(subject=self._sealer.pseudonym(subject))
        grant_id = form.get("grant", "")
        chosen = Selection(subject_hash=hashed(subject), grant_id=None if grant_id == ALL else grant_id)
        try:
            grants = await self._grants.search(chosen, now=self._now())
            if not grants and grant_id != ALL:
                return Answer(AccountOutcome.NOTHING_TO_REVOKE, see_other(self._url))
            await self._revocation.revoke(chosen)
        except StoreError as failure:
            raise OAuthError(AccountOutcome.STORE_FAILED, _STORE_FAILED) from failure
        log_fields.fact(subject=subject)
        if grant_id != ALL:
            (grant,) = grants
            log_fields.fact(**grant.facts)
        return Answer(AccountOutcome.REVOKED, see_other(self._url))

    def _submitted_by(self, envelope: str, request: Request) -> str:
        """The subject whose page the form was on, who is still signed in."""
        now, browser = self._now(), self._browser(request)
        try:
            subject, binding = self._sealer.open(Purpose.ACCOUNT_FORM, envelope, lifetime=SESSION_LIFETIME, now=now)
        except ExpiredError:
            raise OAuthError(AccountOutcome.EXPIRED, _SIGNED_OUT) from None
        except SealError:
            raise OAuthError(
                AccountOutcome.BAD_FORM, f"this form does not come from this server: open {self._url}"
            ) from None
        if not browser.is_bound_by(binding):
            raise OAuthError(AccountOutcome.OTHER_BROWSER, "this page was shown in another browser: sign in again")
        if browser.signed_in(now) != subject:
            raise OAuthError(AccountOutcome.EXPIRED, _SIGNED_OUT)
        return str(subject)

    def _browser(self, request: Request) -> BrowserCookies:
        return BrowserCookies(request, self._sealer, secure=self._secure, consent_days=0)
