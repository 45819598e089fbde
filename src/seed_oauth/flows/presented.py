"""What comes back to this server: an envelope is opened, and every check of what it was bound to is made."""

import hmac

from seed_oauth.envelopes import trace_context
from seed_oauth.envelopes.seal import ExpiredError, Sealer, SealError
from seed_oauth.flows import CodeRequest, RefreshRequest
from seed_oauth.flows.rotation import Rotation
from seed_oauth.flows.scopes import IdpScopes
from seed_oauth.flows.transaction import Code, Grant, IdpLogin, Transaction
from seed_oauth.http import log_fields
from seed_oauth.http.requested_resource import UNKNOWN_RESOURCE, ProtectedResources
from seed_oauth.outcomes import CallbackOutcome, ConsentOutcome, TokenOutcome
from seed_oauth.outcomes.errors import OAuthError


def decided_transaction(envelope: str, sealer: Sealer, now: float) -> Transaction:
    """The transaction in the form of a consent page."""
    try:
        begun = Transaction.decided(sealer, envelope, now)
    except ExpiredError:
        raise OAuthError(
            ConsentOutcome.EXPIRED, "the consent page was open for too long: connect again from your application"
        ) from None
    except SealError:
        raise OAuthError(
            ConsentOutcome.BAD_ENVELOPE, "this consent page is not valid: connect again from your application"
        ) from None
    log_fields.note(client_id=begun.client_id, client_family=begun.client_family, flow_id=begun.flow_id)
    return begun


def returned_login(state: str, sealer: Sealer, now: float) -> IdpLogin:
    """The login in the `state` that the identity provider gives back."""
    try:
        login = IdpLogin.returned(sealer, state, now)
    except ExpiredError:
        raise OAuthError(
            CallbackOutcome.EXPIRED, "the login took too long: connect again from your application"
        ) from None
    except SealError:
        raise OAuthError(
            CallbackOutcome.BAD_STATE, "this login did not begin here: connect again from your application"
        ) from None
    begun = login.transaction
    trace_context.waited(login.begun_at)
    log_fields.note(client_id=begun.client_id, client_family=begun.client_family, flow_id=begun.flow_id)
    return login


def presented_code(presented: CodeRequest, sealer: Sealer, resources: ProtectedResources, now: float) -> Code:
    """The code, bound to its client, its redirect_uri and its code_challenge (RFC 6749 §4.1.3, RFC 7636 §4.6)."""
    try:
        code = Code.opened(sealer, presented.code, now)
    except SealError:
        raise OAuthError(
            TokenOutcome.BAD_CODE, "the code is invalid or has expired: start a new authorization"
        ) from None
    if code.client_id != presented.client.client_id:
        raise OAuthError(TokenOutcome.BAD_CODE, "the code was issued to another client")
    if presented.redirect_uri not in {None, code.redirect_uri}:
        raise OAuthError(TokenOutcome.BAD_REDIRECT_URI, "redirect_uri must be that of the authorization request")
    if not hmac.compare_digest(presented.code_challenge.encode(), code.code_challenge.encode()):
        raise OAuthError(TokenOutcome.BAD_CODE_VERIFIER, "code_verifier does not match the code_challenge")
    _check_resource(presented.resource, code.resource, resources)
    return code


def presented_grant(
    presented: RefreshRequest, rotation: Rotation, scopes: IdpScopes, resources: ProtectedResources
) -> Grant:
    """The grant in a refresh token, bound to its client and to what was granted (RFC 6749 §6)."""
    try:
        grant = rotation.opened(presented.refresh_token)
    except SealError:
        raise OAuthError(
            TokenOutcome.BAD_REFRESH_TOKEN, "the refresh token is invalid or has expired: start a new authorization"
        ) from None
    log_fields.note(flow_id=grant.flow_id)
    if grant.client_id != presented.client.client_id:
        raise OAuthError(TokenOutcome.BAD_REFRESH_TOKEN, "the refresh token was issued to another client")
    if rotation.has_ended(grant):
        raise OAuthError(TokenOutcome.LOGIN_EXPIRED, "the login was too long ago: start a new authorization")
    if presented.scope is not None and scopes.exceeds(presented.scope, grant.scope, grant.requested):
        raise OAuthError(TokenOutcome.BAD_SCOPE, "scope must not exceed what was granted")
    _check_resource(presented.resource, grant.resource, resources)
    return grant


def note_grant(grant: Grant, sealer: Sealer) -> None:
    """Tell the log and the audit trail whose grant this is, and what for."""
    log_fields.note(flow_id=grant.flow_id, subject=sealer.pseudonym(grant.subject))
    log_fields.fact(
        subject=grant.subject,
        grant_id=grant.grant_id,
        scopes=(grant.scope or "").split(),
        resource=grant.resource,
    )


def _check_resource(presented: str | None, bound: str, resources: ProtectedResources) -> None:
    # RFC 8707 §2.2: a token request may only name what was authorized.
    if presented not in {None, bound}:
        raise OAuthError(TokenOutcome.BAD_RESOURCE, "resource must be that of the authorization request")
    # The operator may have removed it since.
    if resources.find(bound) is None:
        raise OAuthError(TokenOutcome.BAD_RESOURCE, UNKNOWN_RESOURCE)
