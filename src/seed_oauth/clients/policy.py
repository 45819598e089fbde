"""Which clients the operator allows, by the hosts of their redirect URIs and of their metadata documents."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """Hosts are exact names, or `*.example.com` for every name below a domain."""

    redirect_hosts: tuple[str, ...] = ()
    """The hosts of https redirect URIs; empty for any. Loopback and private-use schemes are on the user's machine."""
    document_hosts: tuple[str, ...] = ()
    """The hosts of metadata documents; empty for any."""
    denied_document_hosts: tuple[str, ...] = ()
    """Hosts of metadata documents that are not allowed."""
    contact: str | None = None
    """Whom users can ask to allow a client."""

    def redirect_objection(self, redirect_uri: str) -> str | None:
        """Why the operator does not allow a redirect URI; None if there is no objection."""
        is_web = redirect_uri.startswith("https://")
        if not is_web or not self.redirect_hosts or _is_among(host_of(redirect_uri), self.redirect_hosts):
            return None
        return f"is at a host that this server does not allow: {self.whom_to_ask}"

    def document_objection(self, client_id: str) -> str | None:
        """Why the operator does not allow a document; None if there is no objection."""
        host = host_of(client_id)
        is_listed = not self.document_hosts or _is_among(host, self.document_hosts)
        if is_listed and not _is_among(host, self.denied_document_hosts):
            return None
        return f"is at a host that this server does not allow: {self.whom_to_ask}"

    @property
    def whom_to_ask(self) -> str:
        """What a user can do, for error descriptions."""
        return f"ask {self.contact or 'its operator'} to allow it"


def host_of(url: str) -> str:
    """The host of a URL in lower case; empty if it cannot be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


ALLOW_ALL = ClientPolicy()
"""Every client is allowed."""


def _is_among(host: str, patterns: Iterable[str]) -> bool:
    return any(host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])) for pattern in patterns)
