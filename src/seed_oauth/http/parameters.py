"""Request parameters: read within limits and parsed strictly, from query, form and JSON alike."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from string import ascii_letters, digits
from urllib.parse import quote_plus, unquote_to_bytes

import orjson
from starlette.requests import Request

MAXIMUM_BODY = 64 * 1024
"""Bytes of a request's body; the largest legitimate one is a registration of about 4 KiB."""

_MAXIMUM_FIELDS = 64

# Tabs, no-break spaces and joiners are what people type; line breaks and other controls are what they inject.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

_VISIBLE_ASCII = bytes(range(0x20, 0x7F))
_UNRESERVED = f"{ascii_letters}{digits}._~-".encode()  # needs no encoding, RFC 3986 §2.3
_ENCODED = [quote_plus(bytes([byte])) for byte in range(256)]

_SENT_AGAIN = frozenset(
    {"client_id", "code_challenge_method", "grant_type", "iss", "redirect_uri", "resource", "response_type", "scope"}
)
"""Parameters whose values come again in every login of a client, and are no secrets: what they are decoded and encoded
to is kept."""
_LONGEST_KEPT = 512  # characters
_MOST_KEPT = 1024

_FORM = "seed_oauth.form"


class MalformedRequestError(Exception):
    """The request cannot be parsed; the message says why, and repeats nothing of the request."""


class BodyTooLargeError(Exception):
    """The request has more than `MAXIMUM_BODY` bytes."""


class _PartlyMalformed(Mapping[str, str]):
    """Parameters of which some cannot be used, which matters only to whoever reads one of those."""

    def __init__(self, usable: Mapping[str, str], problems: Mapping[str, str]) -> None:
        self._usable = usable
        self._problems = problems

    def __getitem__(self, name: str) -> str:
        if name in self._problems:
            raise MalformedRequestError(f"{name} {self._problems[name]}")
        return self._usable[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._usable if name not in self._problems)

    def __len__(self) -> int:
        return len(self._usable.keys() - self._problems.keys())


def parse_form(encoded: bytes, *, prose: Collection[str] = ()) -> Mapping[str, str]:
    """Parse `application/x-www-form-urlencoded`, from a query or a body.

    Parameters without a value are treated as omitted, none may be repeated, and those that nobody reads are ignored
    (RFC 6749 §3.1, §3.2): to read one that is repeated, not UTF-8 or has control characters raises
    `MalformedRequestError`. Those named in `prose` are text for people, which may look like anything.

    Raises:
        MalformedRequestError: too many parameters.
        BodyTooLargeError: more than `MAXIMUM_BODY` bytes.
    """
    if len(encoded) > MAXIMUM_BODY:
        raise BodyTooLargeError
    if encoded.count(b"&") >= _MAXIMUM_FIELDS:
        raise MalformedRequestError(f"more than {_MAXIMUM_FIELDS} parameters were sent")
    parameters: dict[str, str] = {}
    problems: dict[str, str] = {}
    text = encoded.decode("latin-1").replace("+", " ")
    is_plain = not encoded.translate(None, _VISIBLE_ASCII)
    for field in text.split("&"):
        name, _, value = field.partition("=")
        problem = None
        if not is_plain or "%" in field:
            decoded = _decode(name)
            if decoded is None:
                continue
            name = decoded
            read = _read_again if name in _SENT_AGAIN and len(value) <= _LONGEST_KEPT else _read
            value, problem = read(value)
        if name in parameters:
            if name in prose:
                continue
            problem = "was sent twice"
        parameters[name] = value
        if problem and name not in prose:
            problems[name] = problem
    usable = parameters
    if not all(parameters.values()):
        usable = {name: value for name, value in parameters.items() if value}
    return _PartlyMalformed(usable, problems) if problems else usable


def is_visible_ascii(text: str) -> bool:
    """Whether text from a header field has spaces and visible characters of ASCII alone."""
    # In a long text several times as fast as a pattern or `str.isprintable`.
    return not text.encode("latin-1").translate(None, _VISIBLE_ASCII)


async def read_form(request: Request) -> Mapping[str, str]:
    """Read the form in the body; a second call for the same request returns the same form.

    Raises:
        MalformedRequestError: another content type, or as `parse_form`.
        BodyTooLargeError: more than `MAXIMUM_BODY` bytes.
        starlette.requests.ClientDisconnect: the client disconnected while sending.
    """
    form: Mapping[str, str] | None = request.scope.get(_FORM)
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
    fields = []
    for name, value in parameters.items():
        encode = _encoded_again if name in _SENT_AGAIN and len(value) <= _LONGEST_KEPT else _encoded
        fields.append(f"{_encoded_again(name)}={encode(value)}")
    return "&".join(fields)


def _encoded(text: str) -> str:
    # As quote_plus; most of a URL needs no look at each character.
    data = text.encode()
    return "".join([_ENCODED[byte] for byte in data]) if data.translate(None, _UNRESERVED) else text


_encoded_again = lru_cache(_MOST_KEPT)(_encoded)


def _decode(text: str) -> str | None:
    """The text, None if it is not percent-encoded UTF-8."""
    if "%" not in text and text.isascii():
        return text
    try:
        return unquote_to_bytes(text.encode("ascii")).decode()
    except UnicodeError:
        return None


def _read(text: str) -> tuple[str, str | None]:
    """The value, and what keeps it from being used."""
    value = _decode(text)
    if value is None:
        return "", "must be percent-encoded UTF-8"
    has_controls = not value.isprintable() and _CONTROL_CHARACTERS.search(value)
    return value, "contains control characters" if has_controls else None


_read_again = lru_cache(_MOST_KEPT)(_read)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY:
            raise BodyTooLargeError
    return bytes(body)
