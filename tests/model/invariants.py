"""What must never happen, whatever anybody sends in whatever order: each by its name, which a failure shows."""

import re
from urllib.parse import urlsplit

import httpx
import orjson

from seed_oauth.outcomes import AuthorizationOutcome, CallbackOutcome, ConsentOutcome, Outcome
from tests.broker import IDP, target_of
from tests.harness import ISSUER, query_of
from tests.model.model import GRACE, Redemption, Refresh
from tests.model.things import AccessToken, Asked, Browser, Code, Granted, RefreshToken, Software, challenge_of

# RFC 6749 §5.2
_ERROR = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")


def no_code_works_twice_or_late_or_for_others(sent: Redemption, code: Code) -> None:
    code.grant.worked += 1
    assert code.grant.worked == 1, "no code works twice"
    assert code.idp is not None, "no code works that the identity provider did not give"
    assert code.idp.login is code.login, "no code works in another login than its own"
    assert sent.client is code.asked.client, "no code works for another client"
    assert sent.redirect_uri in {None, code.asked.redirect_uri}, "no code works with another redirect_uri"
    assert sent.resource in {None, code.asked.resource}, "no code works for another resource"


def no_token_without_the_matching_verifier(sent: Redemption, code: Code) -> None:
    matches = sent.verifier is not None and challenge_of(sent.verifier) == challenge_of(code.asked.verifier)
    assert matches, "no token without the matching verifier"


def no_refresh_token_works_twice_or_for_others(
    sent: Refresh, token: RefreshToken, answer: dict[str, object], now: float
) -> None:
    """But for the grace, in which the same refresh gets the same answer."""
    assert sent.client is token.grant.asked.client, "no refresh token works for another client"
    if token.worked_at is None:
        token.worked_at, token.first_answer = now, answer
        return
    assert now - token.worked_at <= GRACE, "no refresh token works twice, but for the grace"
    assert answer == token.first_answer, "a refresh that is sent again gets the same answer"


def no_token_once_the_operator_has_ended_access(has_ended: bool) -> None:
    assert not has_ended, "no token is issued once the operator has ended access"


def no_refresh_once_the_grant_is_revoked(grant: Granted) -> None:
    # The store forgets a revoked grant once its refresh tokens have expired.
    assert grant.row is None or not grant.row.revoked, "no refresh token works once its grant is revoked"


def nobody_gets_a_code_whom_the_rules_keep_out(*, is_member: bool) -> None:
    assert is_member, "nobody gets a code whom the rules keep out"


def nobody_is_refreshed_whom_the_rules_keep_out(*, is_member: bool) -> None:
    assert is_member, "nobody is refreshed whom the rules keep out"


def no_access_once_the_grant_is_revoked(token: AccessToken) -> None:
    assert not token.grant.revoked, "no access token works once its grant is revoked"


def no_login_ends_in_another_browser(asked: Asked, browser: Browser) -> None:
    assert browser is asked.browser, "no login ends in another browser than the one it began in"


def no_redirect_to_where_the_client_did_not_register(response: httpx.Response, client: Software | None) -> None:
    location = location_of(response)
    if location is None or location == f"{ISSUER}/oauth/account" or location.startswith(f"{IDP}/authorize?"):
        return
    registered = client is not None and any(is_or_differs_by_port(location, uri) for uri in client.redirect_uris)
    assert registered, "no redirect to a URI that the client did not register"


def is_or_differs_by_port(location: str, registered: str) -> bool:
    """Whether a location is a registered URI with an answer added, on loopback from any port."""
    sent_to, uri = urlsplit(location), urlsplit(registered)
    same_host = sent_to.netloc == uri.netloc
    if uri.netloc == "127.0.0.1":
        same_host = re.fullmatch(r"127\.0\.0\.1(:\d+)?", sent_to.netloc) is not None
    query = f"{uri.query}&" if uri.query else ""
    return (sent_to.scheme, sent_to.path) == (uri.scheme, uri.path) and same_host and sent_to.query.startswith(query)


def no_refresh_widens_what_was_granted(asked_of_idp: str | None, told: str | None, sent: Refresh) -> None:
    """RFC 6749 §6; and Entra ID refuses a refresh that names no scope (AADSTS90009)."""
    granted = set((sent.token.grant.asked.scope or "").split())
    expected = granted if sent.scope is None else set(sent.scope.split())
    # This server asks for openid by itself, for the rules.
    asked = set((asked_of_idp or "").split()) - ({"openid"} - expected)
    assert asked == expected, "a refresh asks the identity provider for what was granted, or for what it is narrowed to"
    assert asked <= granted, "no refresh gets a scope that was not granted"
    if sent.token.grant.asked.scope is not None:
        assert set((told or "").split()) <= granted, "no refresh gets a scope that was not granted"


def no_login_begins_unasked_that_others_may_have_begun(asked: Asked) -> None:
    """RFC 8252 §8.6: any program may be where a native app was when its user consented."""
    is_web = asked.redirect_uri.startswith("https://")
    assert is_web, "no consent to a native app is remembered"


def no_redirect_before_consent(response: httpx.Response, consented: bool) -> None:
    """RFC 9700 §4.11.2."""
    location = location_of(response)
    assert location is None or consented, "no error sends a browser to a client before its user has consented"


def no_scope_that_the_user_was_not_shown(scope: object, shown: str | None) -> None:
    has = set(scope.split()) if isinstance(scope, str) else set()
    assert shown is None or has <= set(shown.split()), "no token has a scope that its user was not shown"


def no_unforeseen_trouble(response: httpx.Response, row: Outcome) -> None:
    assert response.status_code < 500 or response.status_code == row.status, "no 5xx"


def every_error_is_well_formed(response: httpx.Response, row: Outcome, state: str | None) -> None:
    """RFC 6749 §4.1.2.1 where it is delivered by redirect, §5.2 where it is not, and a page where a person looks."""
    if row.error is None:
        return
    if location := location_of(response):
        told = query_of(location)
        assert told.get("iss") == ISSUER, "an error that is delivered says who sends it"
        assert told.get("state") == state, "an error that is delivered has the state of the request"
    elif isinstance(row, AuthorizationOutcome | ConsentOutcome | CallbackOutcome):
        assert response.status_code == row.status, f"{row} was to be expected"
        assert f"<code>{row.error}</code>" in response.text, "an error that a person sees names its code"
        return
    else:
        assert response.status_code == row.status, f"{row} was to be expected"
        assert response.headers["cache-control"] == "no-store"
        told = orjson.loads(response.content)
    assert told.get("error") == row.error, f"{row} was to be expected"
    assert _ERROR.fullmatch(told["error_description"]), "a description has the characters of RFC 6749 §5.2"


def every_success_is_one(response: httpx.Response, row: Outcome) -> None:
    if row.error is None:
        assert response.status_code == row.status, f"{row} was to be expected"
        location = location_of(response)
        assert location is None or "error" not in query_of(location), f"{row} was to be expected"


def location_of(response: httpx.Response) -> str | None:
    """Where a browser is sent on to, by a redirect or by a page that leads there."""
    if response.is_redirect:
        return response.headers["location"]
    return target_of(response) if "http-equiv" in response.text else None
