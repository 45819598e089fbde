"""`/oauth/callback`: the identity provider sends browsers back here, on their way to clients or to the account page."""

from starlette.requests import Request

from seed_oauth.flows.account import Account
from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import parse_form


class CallbackEndpoint:
    """The one redirect URI that the identity provider knows (RFC 6749 §4.1.2)."""

    def __init__(self, flow: BrokerFlow, account: Account) -> None:
        self._flow = flow
        self._account = account

    async def __call__(self, request: Request) -> Answer:
        """Answer one return from the identity provider.

        Raises:
            OAuthError: any row of `CallbackOutcome` that is not a success.
        """
        parameters = parse_form(request.scope["query_string"], prose={"error_description"})
        login = self._account.returned(parameters.get("state", ""))
        if login is not None:
            return await self._account.sign_in(login, parameters, request)
        return await self._flow.return_to_client(parameters, request)
