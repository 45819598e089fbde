"""`/oauth/consent`: what the user has decided when they were asked whether a client may act for them."""

from collections.abc import Callable, Mapping
from time import time

from starlette.requests import Request

from seed_oauth.envelopes.seal import ExpiredError, SealError
from seed_oauth.errors import OAuthError
from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.flows.transaction import Transaction
from seed_oauth.http.answer import Answer
from seed_oauth.http.pages import onward_page
from seed_oauth.http.parameters import read_form
from seed_oauth.identity_provider.client import IdentityProviderError
from seed_oauth.outcomes import ClientFamily, ConsentOutcome
from seed_oauth.settings import Settings


class ConsentEndpoint:
    """Where the consent page posts to.

    The envelope in its form can be made here only, and used by that browser alone in which the page was shown.
    That is what keeps others from giving consent in a user's name (RFC 6749 §10.12).
    """

    def __init__(self, settings: Settings, flow: BrokerFlow, now: Callable[[], float] = time) -> None:
        """`now` counts seconds since the epoch."""
        self._settings = settings
        self._flow = flow
        self._now = now

    async def __call__(self, request: Request) -> Answer:
        """Answer one decision.

        Raises:
            OAuthError: any row of `ConsentOutcome` but APPROVED.
        """
        form = await read_form(request)
        begun = self._begun(form)
        browser = BrowserCookies(self._settings, request)
        browser.check_bound_by(begun.browser, ConsentOutcome.OTHER_BROWSER)
        try:
            return await self._decide(form, begun, browser)
        except OAuthError as error:
            error.client_family = ClientFamily(begun.client_family)
            raise

    def _begun(self, form: Mapping[str, str]) -> Transaction:
        try:
            return Transaction.decided(self._settings.sealer, form.get("request", ""), self._now())
        except ExpiredError:
            raise OAuthError(
                ConsentOutcome.EXPIRED, "the question was open for too long: connect again from your application"
            ) from None
        except SealError:
            raise OAuthError(
                ConsentOutcome.BAD_ENVELOPE,
                "this is no question that was asked here: connect again from your application",
            ) from None

    async def _decide(self, form: Mapping[str, str], begun: Transaction, browser: BrowserCookies) -> Answer:
        decision = form.get("decision")
        if decision == "deny":
            raise OAuthError(ConsentOutcome.DENIED, "the user did not agree").sent_to(begun.redirect_uri, begun.state)
        if decision != "approve":
            raise OAuthError(ConsentOutcome.NO_DECISION, "decision must be approve or deny")
        try:
            response = onward_page(await self._flow.location(begun))
        except IdentityProviderError as failure:
            error = OAuthError(ConsentOutcome.IDP_UNAVAILABLE, "the identity provider cannot be reached, try again")
            raise error.sent_to(begun.redirect_uri, begun.state) from failure
        if "remember" in form and self._settings.consent_days:
            browser.remember(Consent.to(begun), response, self._now())
        return Answer(ConsentOutcome.APPROVED, response, ClientFamily(begun.client_family))
