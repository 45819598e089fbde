"""The consent page of a client, and whether the answer can be remembered."""

from starlette.responses import Response

from seed_oauth.clients import Client
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.transaction import Transaction
from seed_oauth.http import paths
from seed_oauth.http.pages import ConsentView, Presentation, consent_page
from seed_oauth.protocol.redirect_uri import is_on_loopback


def can_be_remembered(client: Client, redirect_uri: str) -> bool:
    """Whether the consent to a client at this redirect URI can stand for another login later.

    Never for native apps: any program on the user's machine may listen on loopback or register a private-use scheme
    (RFC 8252 §8.6), so only the person knows whether it is the application they have just started.
    """
    is_web = redirect_uri.startswith("https://") and not is_on_loopback(redirect_uri)
    return is_web and client.consent_can_be_remembered


class ConsentPages:
    """Makes consent pages."""

    def __init__(self, issuer: str, sealer: Sealer, server: Presentation, *, days: float) -> None:
        """A consent can be remembered for `days`."""
        self.days = days
        self._action = paths.url(issuer, paths.CONSENT)
        self._account = paths.url(issuer, paths.ACCOUNT)
        self._sealer = sealer
        self._server = server

    def page(self, begun: Transaction, now: float) -> Response:
        """The page on which the user decides on a transaction."""
        view = ConsentView(
            client_name=begun.client_name,
            client_url=begun.client_id if begun.client_id.startswith("https://") else None,
            redirect_uri=begun.redirect_uri,
            scopes=tuple((begun.scope or "").split()),
            resource=begun.resource,
            action=self._action,
            request=begun.awaiting_decision(self._sealer, now),
            remember_days=int(self.days) if begun.consent_can_be_remembered else 0,
            account=self._account,
            server=self._server,
        )
        return consent_page(view)
