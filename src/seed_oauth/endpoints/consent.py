"""`/oauth/consent`: the consent page posts the user's decision here."""

from starlette.requests import Request

from seed_oauth.flows.broker import BrokerFlow
from seed_oauth.http.answer import Answer
from seed_oauth.http.parameters import read_form


class ConsentEndpoint:
    """The endpoint behind the form of the consent page."""

    def __init__(self, flow: BrokerFlow) -> None:
        self._flow = flow

    async def __call__(self, request: Request) -> Answer:
        """Answer one decision.

        Raises:
            OAuthError: any row of `ConsentOutcome` but APPROVED.
        """
        form = await read_form(request)
        envelope, decision = form.get("request", ""), form.get("decision")
        return await self._flow.decide(envelope, decision, request, remember="remember" in form)
