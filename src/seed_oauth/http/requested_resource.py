"""Which of the resources behind this door a request means."""

from collections.abc import Iterable

from seed_oauth.errors import OAuthError
from seed_oauth.outcomes import AuthorizationOutcome, TokenOutcome
from seed_oauth.protocol.resource import canonical


class ProtectedResources:
    """The resources behind this door, each as configured."""

    def __init__(self, resources: Iterable[str]) -> None:
        self._resources = {canonical(resource): resource for resource in resources}

    def named(self, resource: str | None, outcome: AuthorizationOutcome | TokenOutcome) -> str | None:
        """The one that a client has named (RFC 8707 §2), None when it named none.

        Raises:
            OAuthError: with `outcome`, when it is none of them.
        """
        if resource is None:
            return None
        protected = self._resources.get(canonical(resource))
        if protected is None:
            raise OAuthError(
                outcome, "resource is not protected by this server: take it from the protected resource metadata"
            )
        return protected
