"""Which of the protected resources a request names."""

from collections.abc import Iterable

from seed_oauth.protocol.resource import canonical

UNKNOWN_RESOURCE = "this server does not protect that resource: take it from the protected resource metadata"


class ProtectedResources:
    """The protected resources, each as configured."""

    def __init__(self, resources: Iterable[str]) -> None:
        self._resources = {canonical(resource): resource for resource in resources}

    def find(self, resource: str | None) -> str | None:
        """The one that a client has named, in any spelling (RFC 8707 §2); None when it is not protected here."""
        return None if resource is None else self._resources.get(canonical(resource))
