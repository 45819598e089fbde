"""Request parameters: read within limits and parsed strictly, from query, form and JSON alike."""

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote_plus, unquote_to_bytes

import orjson
from starlette.requests import Request

MAXIMUM_BODY = 64 * 1024
"""Bytes of a request's body; the largest legitimate one is a registration of about 4 KiB."""

_MAXIMUM_FIELDS = 64

_FORM = "seed_oauth.form"


class MalformedRequestError(Exception):
    """The request cannot be parsed; the message says why, and repeats nothing of the request."""


class BodyTooLargeError(Exception):
    """The request has more than `MAXIMUM_BODY` bytes."""


def parse_form(encoded: bytes) -> dict[str, str]:
    """Parse `application/x-www-form-urlencoded`, from a query or a body.

    Parameters without a value are treated as omitted, and none may be repeated (RFC 6749 §3.1, §3.2).

    Raises:
        MalformedRequestError: not UTF-8, control characters, a repeated parameter, or too many parameters.
        BodyTooLargeError: more than `MAXIMUM_BODY` bytes.
    """
    if len(encoded) > MAXIMUM_BODY:
        raise BodyTooLargeError
    if encoded.count(b"&") >= _MAXIMUM_FIELDS:
        raise MalformedRequestError(f"more than {_MAXIMUM_FIELDS} parameters were sent")
    try:
        fields = encoded.decode("ascii").replace("+", " ").split("&")
        split = (field.partition("=") for field in fields if field)
        pairs = [(_decode(name), _decode(value)) for name, _, value in split]
    except UnicodeError:
        raise MalformedRequestError("parameters must be percent-encoded UTF-8") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise MalformedRequestError("a parameter was sent twice")
    for value in parameters.values():
        if not value.isprintable():
            raise MalformedRequestError("a parameter contains control characters")
    return {name: value for name, value in parameters.items() if value}


async def read_form(request: Request) -> dict[str, str]:
    """Read the form in the body; a second call for the same request returns the same form.

    Raises:
        MalformedRequestError: another content type, or as `parse_form`.
        BodyTooLargeError: more than `MAXIMUM_BODY` bytes.
        starlette.requests.ClientDisconnect: the client disconnected while sending.
    """
    form: dict[str, str] | None = request.scope.get(_FORM)
    if form is None:
        if _content_type(request) != "application/x-www-form-urlencoded":
            raise MalformedRequestError("send the parameters as application/x-www-form-urlencoded")
        form = request.scope[_FORM] = parse_form(await _read_body(request))
    return form


async def read_json(request: Request) -> dict[str, object]:
    """Read the JSON object in the body.

    Raises:
        MalformedRequestError: another content type, or not a JSON object.
        BodyTooLargeError: more than `MAXIMUM_BODY` bytes.
        starlette.requests.ClientDisconnect: the client disconnected while sending.
    """
    if _content_type(request) != "application/json":
        raise MalformedRequestError("send the client metadata as application/json")
    body = await _read_body(request)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedRequestError("the body is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return document


def add_to_query(url: str, parameters: Mapping[str, str]) -> str:
    """`url` with `parameters` added to its query; one that is there already is kept (RFC 6749 §3.1)."""
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}{encode_form(parameters)}"


def encode_form(parameters: Mapping[str, str]) -> str:
    """`parameters` as `application/x-www-form-urlencoded`."""
    return "&".join([f"{_encoded_name(name)}={quote_plus(value)}" for name, value in parameters.items()])


_encoded_name = lru_cache(maxsize=256)(quote_plus)  # parameter names are few and never a client's


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode() if "%" in text else text


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY:
            raise BodyTooLargeError
    return bytes(body)
