"""Bugs that others had, or might have: each as a change of the source, and what the model says when it finds it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Change:
    """Text in a module, which is there exactly once, and what it becomes."""

    module: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class SeededBug:
    name: str
    changes: tuple[Change, ...]
    broken: str
    """The promise that the model must find broken, as a regular expression: a bug may break two."""


BUGS = (
    SeededBug(
        name="PKCE is skipped when the verifier is absent",
        changes=(
            Change(
                module="endpoints/token.py",
                before="if not pkce.has_valid_length(code_verifier) or",
                after="if code_verifier and not pkce.has_valid_length(code_verifier) or",
            ),
            Change(
                module="flows/presented.py",
                before="if not hmac.compare_digest(presented.code_challenge.encode(), code.code_challenge.encode()):",
                after="if presented.code_verifier and presented.code_challenge != code.code_challenge:",
            ),
        ),
        broken="no token without the matching verifier",
    ),
    SeededBug(
        name="any verifier will do",
        changes=(
            Change(
                module="flows/presented.py",
                before="if not hmac.compare_digest(presented.code_challenge.encode(), code.code_challenge.encode()):",
                after="if not presented.code_challenge:",
            ),
        ),
        broken="no token without the matching verifier",
    ),
    SeededBug(
        name="a code can be redeemed by another client",
        changes=(
            Change(
                module="flows/presented.py",
                before="if code.client_id != presented.client.client_id:",
                after="if not code.client_id:",
            ),
        ),
        broken="no code works for another client",
    ),
    SeededBug(
        name="a code can be redeemed twice",
        changes=(
            Change(
                module="storage/sqlite/held_responses.py",
                before="DELETE FROM sealed_token_responses WHERE key = ? RETURNING sealed",
                after="SELECT sealed FROM sealed_token_responses WHERE key = ?",
            ),
        ),
        broken="no code works twice",
    ),
    SeededBug(
        name="a code that is used twice leaves its tokens",
        changes=(
            Change(
                module="flows/held_responses.py",
                before="await self._revoker.end(code.grant_id)",
                after="pass",
            ),
        ),
        broken="no (access|refresh) token works once its grant is revoked",
    ),
    SeededBug(
        name="a refresh token can be spent by another client",
        changes=(
            Change(
                module="flows/presented.py",
                before="if grant.client_id != presented.client.client_id:",
                after="if not grant.client_id:",
            ),
        ),
        broken="no refresh token works for another client",
    ),
    SeededBug(
        name="a refresh token can be sent again after the grace",
        changes=(
            Change(
                module="storage/sqlite/grants.py",
                before="and now - answered_at <= GRACE:",
                after="and now - answered_at <= 2 * GRACE:",
            ),
        ),
        broken="no refresh token works twice, but for the grace",
    ),
    SeededBug(
        name="a revoked grant leaves its access tokens",
        changes=(
            Change(
                module="flows/grant_revocation.py",
                before="        await self._revocations.revoke(Revoked.GRANT, grant_id)\n",
                after="",
            ),
        ),
        broken="no access token works once its grant is revoked",
    ),
    SeededBug(
        name="a refresh token that is used twice leaves its access tokens",
        changes=(
            Change(
                module="flows/revoker.py",
                before="        if refusal in _OF_A_REVOKED_GRANT:",
                after="        if refusal in {None}:",
            ),
        ),
        broken="no access token works once its grant is revoked",
    ),
    SeededBug(
        name="a grant that the operator revokes can be refreshed",
        changes=(
            Change(
                module="flows/grant_revocation.py",
                before="        await self._grants.revoke(grant_id, expires_at=self._now() + self._lifetime)\n",
                after="",
            ),
        ),
        # Where the answer that is kept was sealed with a key that is gone, the door cannot even refuse.
        broken="no refresh token works once its grant is revoked|no 5xx",
    ),
    SeededBug(
        name="a user whom the operator shuts out can finish a login",
        changes=(
            Change(module="flows/grant_revocation.py", before='"subject_hash": (Revoked.SUBJECT, None),', after=""),
        ),
        broken="no token is issued once the operator has ended access",
    ),
    SeededBug(
        name="a client that the operator shuts out can finish a login",
        changes=(Change(module="flows/grant_revocation.py", before='"client_id": (Revoked.CLIENT, None),', after=""),),
        broken="no token is issued once the operator has ended access",
    ),
    SeededBug(
        name="a login is finished that began before everything was revoked",
        changes=(
            Change(
                module="flows/revocations.py",
                before="                self._epoch = max(self._epoch, revocation.before)\n",
                after="                pass\n",
            ),
        ),
        broken="no token is issued once the operator has ended access",
    ),
    SeededBug(
        name="what a user ends on the account page goes on",
        changes=(
            Change(module="flows/account.py", before="            await self._revocation.revoke(chosen)\n", after=""),
        ),
        broken="no token is issued once the operator has ended access|no .* works once its grant is revoked",
    ),
    SeededBug(
        name="the button that ends all access of a user ends nothing",
        changes=(
            Change(
                module="flows/account.py",
                before="grant_id=None if grant_id == ALL else grant_id)",
                after="grant_id=grant_id)",
            ),
        ),
        broken="no token is issued once the operator has ended access|no .* works once its grant is revoked",
    ),
    SeededBug(
        name="the callback is not bound to the browser",
        changes=(
            Change(
                module="flows/broker.py",
                before="check_bound_by(begun.browser, CallbackOutcome.OTHER_BROWSER, family)",
                after="binding",
            ),
        ),
        broken="no login ends in another browser than the one it began in",
    ),
    SeededBug(
        name="consent can be given in another browser",
        changes=(
            Change(
                module="flows/broker.py",
                before="browser.check_bound_by(begun.browser, ConsentOutcome.OTHER_BROWSER)",
                after="pass",
            ),
        ),
        broken="no login ends in another browser than the one it began in",
    ),
    SeededBug(
        name="a redirect_uri only has to begin like a registered one",
        changes=(
            Change(
                module="protocol/redirect_uri.py",
                before="    if uri in registered:",
                after="    if any(uri.startswith(one) for one in registered):",
            ),
        ),
        broken="no redirect to a URI that the client did not register",
    ),
    SeededBug(
        name="errors are sent to a redirect_uri before it is checked",
        changes=(
            Change(
                module="endpoints/authorization.py",
                before="        if not bad_client:",
                after='        if parameters.get("redirect_uri"):',
            ),
        ),
        broken="no redirect to a URI that the client did not register",
    ),
    SeededBug(
        name="a refresh names no scope",
        changes=(
            Change(module="flows/idp_authorization.py", before='parameters["scope"] = " ".join(asked)', after="pass"),
        ),
        broken="a refresh asks the identity provider for what was granted, or for what it is narrowed to",
    ),
    SeededBug(
        name="a narrowed refresh asks for everything that was granted",
        changes=(
            Change(
                module="flows/scopes.py",
                before="return scope, self.asked_for(scope, [one for one in defaults if one in kept])",
                after="return scope, kept",
            ),
        ),
        broken="a refresh asks the identity provider for what was granted, or for what it is narrowed to",
    ),
    SeededBug(
        name="errors are sent to clients that anybody may have registered",
        changes=(
            Change(
                module="flows/broker.py",
                before="return client.preregistered or (",
                after="return True or (",
            ),
        ),
        broken="no error sends a browser to a client before its user has consented",
    ),
    SeededBug(
        name="a consent to a program on the user's machine is remembered",
        changes=(
            Change(
                module="flows/consent.py",
                before='is_web = redirect_uri.startswith("https://") and not is_on_loopback(redirect_uri)',
                after="is_web = bool(redirect_uri)",
            ),
        ),
        broken="no consent to a native app is remembered",
    ),
    SeededBug(
        name="an access token of ours has every scope that the identity provider grants",
        changes=(
            Change(
                module="flows/scopes.py",
                before="scopes = self._hierarchy.common(scopes, one.split())",
                after="scopes = list(scopes)",
            ),
        ),
        broken="no token has a scope that its user was not shown",
    ),
    SeededBug(
        name="everybody gets a code",
        changes=(
            Change(
                module="flows/idp_authorization.py",
                before="raise await self._not_allowed(begun, refusal)",
                after="pass",
            ),
        ),
        broken="nobody gets a code whom the rules keep out",
    ),
    SeededBug(
        name="at a refresh the rules judge what was true at the login",
        changes=(
            Change(
                module="flows/idp_authorization.py",
                before="user = fresh or grant.identity or",
                after="user = grant.identity or fresh or",
            ),
        ),
        broken="nobody is refreshed whom the rules keep out",
    ),
    SeededBug(
        name="requests that are refused are not counted",
        changes=(
            Change(
                module="endpoints/boundary.py",
                before="if request.method not in UNCOUNTED_METHODS:\n            self._record(",
                after="if request.method not in UNCOUNTED_METHODS and error is None:\n            self._record(",
            ),
        ),
        broken="counts equal requests",
    ),
)
