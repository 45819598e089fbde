"""`/oauth/account`: users see which applications have access, and end it."""

from starlette.requests import Request

from seed_oauth.flows.account import Account
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import parse_form, read_form


class AccountEndpoint:
    """The page, and the form on it."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def __call__(self, request: Request) -> Answer:
        """Show the page, or do what its form says.

        Raises:
            OAuthError: any row of `AccountOutcome` that is not a success.
        """
        if request.method == "POST":
            return await self._account.revoke(await read_form(request), request)
        parameters = parse_form(request.scope["query_string"], prose={"error_description"})
        return await self._account.show(parameters, request)
