"""Error responses of the development identity provider."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from seed_oauth.http.answer import NO_STORE
from seed_oauth.http.parameters import BodyTooLargeError, MalformedRequestError


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 - RFC 6749 calls it an error response
    """An error response of RFC 6749 §5.2."""

    error: str
    description: str
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The HTTP response, with `Retry-After` if the error is temporary."""
        body = {"error": self.error, "error_description": self.description}
        retry = {"Retry-After": "1"} if self.status in {429, 503} else {}
        return JSONResponse(body, self.status, {**NO_STORE, **retry, **self.headers})


async def refused(_request: Request, error: Exception) -> Response:
    """The error response for one of `REFUSALS`."""
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
"""The exceptions that become error responses."""


def required(parameters: Mapping[str, str], name: str) -> str:
    """The value of a required parameter.

    Raises:
        Refusal: it is missing.
    """
    if name not in parameters:
        raise Refusal("invalid_request", f"{name} is missing")
    return parameters[name]
