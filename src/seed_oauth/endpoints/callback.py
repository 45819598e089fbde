"""`/oauth/callback`: the identity provider sends the browser back here, on its way to the client."""

from starlette.requests import Request

from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import parse_form


class CallbackEndpoint:
    """The one redirect URI that the identity provider knows (RFC 6749 §4.1.2)."""

    def __init__(self, flow: BrokerFlow) -> None:
        self._flow = flow

    async def __call__(self, request: Request) -> Answer:
        """Answer one return from the identity provider.

        Raises:
            OAuthError: any row of `CallbackOutcome` but the successful one.
        """
        parameters = parse_form(request.scope["query_string"], prose={"error_description"})
        return await self._flow.return_to_client(parameters, request)
