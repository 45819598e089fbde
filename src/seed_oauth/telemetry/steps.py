"""The funnel: the steps of a login, from the first 401 to the first request that is accepted."""

from collections.abc import Mapping
from enum import StrEnum

from seed_oauth.outcomes import (
    AuthorizationOutcome,
    CallbackOutcome,
    ConsentOutcome,
    Outcome,
    RegistrationOutcome,
    ResourceOutcome,
    TokenOutcome,
)

UNCOUNTED_METHODS = frozenset({"HEAD", "OPTIONS"})
"""A link preview or a preflight is not a login."""


class Step(StrEnum):
    """Label `step` of `oauth_flow_steps_total`: the progress of a login, in the order of a login."""

    CHALLENGED = "challenged"
    """Sent a request without a token, and learned where to get one."""
    DISCOVERED_RESOURCE = "discovered_resource"
    """Read the metadata of the protected resource (RFC 9728)."""
    DISCOVERED_SERVER = "discovered_server"
    """Read the metadata of this authorization server (RFC 8414)."""
    REGISTERED = "registered"
    REQUESTED = "requested"
    """Sent an authorization request, with any result."""
    CONSENTED = "consented"
    """Approved on the consent page, by its user; broker flow only, and not where consent is remembered or not asked."""
    REDIRECTED = "redirected"
    """Redirected to the identity provider."""
    RETURNED = "returned"
    """Returned from it with a code; broker flow only, because in the relay flow it redirects to the client."""
    EXCHANGED = "exchanged"
    """Received tokens for a code: the login is complete."""
    USED = "used"
    """Sent the first request that was accepted with an access token of its grant: the login was of use."""
    REFRESHED = "refreshed"
    """Received tokens for a refresh token."""
    ABANDONED = "abandoned"
    """Never came for the tokens of a login that had returned; broker flow only."""
    STEPPED_UP = "stepped_up"
    """Was asked to log in again with more scopes, which an operation needs; of any client."""


ON_THE_WAY = (Step.REQUESTED, Step.REDIRECTED, Step.RETURNED, Step.EXCHANGED, Step.USED)
"""The steps that every login takes; clients keep documents and registrations, and browsers keep consents."""

BEGINNING = ResourceOutcome.NO_TOKEN.reason
"""The reason in `oauth_errors_total` with which every login begins; not a failure."""

STEPS: Mapping[Outcome, tuple[Step, ...]] = {
    ResourceOutcome.NO_TOKEN: (Step.CHALLENGED,),
    RegistrationOutcome.REGISTERED: (Step.REGISTERED,),
    **dict.fromkeys(AuthorizationOutcome, (Step.REQUESTED,)),
    AuthorizationOutcome.REDIRECTED_TO_IDP: (Step.REQUESTED, Step.REDIRECTED),
    ConsentOutcome.APPROVED: (Step.CONSENTED, Step.REDIRECTED),
    ConsentOutcome.APPROVED_AFTER_LOGIN: (Step.CONSENTED,),
    CallbackOutcome.CONSENT_ASKED: (Step.RETURNED,),
    CallbackOutcome.RETURNED: (Step.RETURNED,),
    TokenOutcome.EXCHANGED: (Step.EXCHANGED,),
    ResourceOutcome.ALLOWED: (Step.USED,),
    TokenOutcome.REFRESHED: (Step.REFRESHED,),
    ResourceOutcome.STEP_UP_REQUIRED: (Step.STEPPED_UP,),
}
"""The steps that are counted for an outcome; of ALLOWED, only for the first request of a grant."""
