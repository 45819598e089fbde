"""How the development identity provider says no."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from seed_oauth.http.answer import NO_STORE
from seed_oauth.http.parameters import BodyTooLargeError, MalformedRequestError


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - what RFC 6749 calls an error response
    """An error response of RFC 6749 §5.2."""

    error: str
    description: str
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The error response itself, with `Retry-After` where there is hope."""
        body = {"error": self.error, "error_description": self.description}
        retry = {"Retry-After": "1"} if self.status in {429, 503} else {}
        return JSONResponse(body, self.status, {**NO_STORE, **retry, **self.headers})


async def refused(_request: Request, error: Exception) -> Response:
    """The error response for whatever a request was refused by; one of `REFUSALS`."""
    match error:
        case Refusal():
            return error.response()
        case BodyTooLargeError():
            return Refusal("invalid_request", "the body is too large", 413).response()
        case HTTPException():
            return Refusal("invalid_request", error.detail, error.status_code, error.headers or {}).response()
        case _:
            return Refusal("invalid_request", str(error)).response()


REFUSALS = (Refusal, MalformedRequestError, BodyTooLargeError, HTTPException)
"""What a request is refused by."""


def required(parameters: Mapping[str, str], name: str) -> str:
    """A parameter that must be there.

    Raises:
        Refusal: it is not.
    """
    if name not in parameters:
        raise Refusal("invalid_request", f"{name} is missing")
    return parameters[name]
