"""What a fault is in these tests, and in the table of docs/reference/faults.md that is made of them."""

from dataclasses import dataclass

from seed_oauth.outcomes import Outcome
from seed_oauth.telemetry.contract import ENDPOINTS, IdpOutcome, error_attributes


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong, and what comes of it: a test asserts each of these for the fault it is named after."""

    name: str
    """What happens: `blackholed`, `hangs after the headers` …"""
    outcome: Outcome | None
    """The row in which the request ends that it happens to; status, `error` and cause follow from it. None where no
    request ends by it."""
    idp: IdpOutcome | None = None
    """How the request to the identity provider is counted; None where there was none."""
    retry_after: str | None = None
    """The Retry-After that the client is told, in seconds."""
    client_sees: str = ""
    """What the client sees where no row says it."""
    afterwards: str
    """What holds afterwards: what was not lost, not spent twice, and how it recovers by itself."""

    def in_table(self) -> str:
        """This fault's line of the table."""
        cells = (self.name, self._seen(), self._counted(), self.afterwards)
        return "| " + " | ".join(cells) + " |"

    def _seen(self) -> str:
        if self.outcome is None or self.client_sees:
            return self.client_sees
        error = f" `{self.outcome.error}`" if self.outcome.error else ""
        later = f", `Retry-After: {self.retry_after}`" if self.retry_after else ""
        return f"{self.outcome.status}{error}{later}"

    def _counted(self) -> str:
        if self.outcome is None:
            return "nothing"
        row = f"`{ENDPOINTS[type(self.outcome)]}` `{self.outcome.reason}`"
        cause = f", cause `{self.outcome.cause}`" if self.outcome.cause else ""
        exchange = f"; idp `{self.idp}`" if self.idp else ""
        return row + cause + exchange


def counted(fault: Fault, times: int = 1) -> dict[str, float]:
    """What grows when a fault happens to `times` requests, and nothing else; see `increases`."""
    grown: dict[str, float] = {}
    if fault.outcome is None:
        return grown
    if fault.outcome.cause:
        labels = ",".join(f'{name}="{value}"' for name, value in sorted(error_attributes(fault.outcome).items()))
        grown[f"oauth_errors_total{{{labels}}}"] = times
    if fault.outcome.result:
        grown[f'oauth_authorization_requests_total{{result="{fault.outcome.result}"}}'] = times
    if fault.idp:
        result = "success" if fault.idp is IdpOutcome.OK else "failure"
        idp = f'{{operation="token",outcome="{fault.idp}"}}'
        grown |= {
            f'oauth_token_exchanges_total{{grant_type="authorization_code",result="{result}"}}': times,
            'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': times,
            f"oauth_idp_requests_total{idp}": times,
            f"oauth_idp_request_duration_seconds_count{idp}": times,
        }
    return grown
