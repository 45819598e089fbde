"""What a request asks an MCP server to do: the operations in its body, with which its header fields have to agree.

The MCP server reads the same bytes with another parser. Whatever two parsers may read differently is refused here.
"""

import binascii
import json
from base64 import b64decode
from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from seed_oauth.access.tools import CALL, Operation
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.http_client.exchange import Headers
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import JsonRpcError
from seed_oauth.resource_server.headers import spelling

LARGEST = 4 * 1024 * 1024
"""Bytes of a body that is read. MCP SDK servers accept no more, either."""

HEADER_MISMATCH = -32020
"""The code of the JSON-RPC error (MCP 2026-07-28, Transports)."""

# MCP Transports: the member of `params` that Mcp-Name repeats.
_NAMED_BY = {CALL: "name", "prompts/get": "name", "resources/read": "uri"}

# Names in messages that nobody takes for others.
_PLAIN_NAMES = frozenset({"jsonrpc", "id", "method", "params", "name", "uri", "arguments", "_meta"})

_METHOD, _NAME = b"mcp-method", b"mcp-name"
_SAID = frozenset({_METHOD, _NAME})
_TYPE, _ENCODING = b"content-type", b"content-encoding"
_LENGTHS = frozenset(map(len, (*_SAID, _TYPE, _ENCODING)))  # of every spelling
_JSON = b"application/json"
_ESCAPED_QUOTE = b"\\u0022"
_BASE64 = ("=?base64?", "?=")


class Asked(NamedTuple):
    """What a request asks for."""

    operations: tuple[Operation, ...]
    """Several in a batch; none in the response to a request of the server."""
    request_id: str | int | None
    """The id of a single request."""


def asked_by(headers: Headers, body: bytes) -> Asked:
    """What a request with these header fields and this body asks for.

    Raises:
        MalformedRequestError: the body is not JSON-RPC that every parser reads alike.
        JsonRpcError: a header field says something else than the body.
    """
    message = _parsed(body)
    said = None if isinstance(message, list) else message.get("id")
    asked = Asked(_operations(message), said if isinstance(said, str | int) else None)
    _check_headers(headers, asked)
    return asked


def _operations(message: "Mapping[str, object] | list[object]") -> tuple[Operation, ...]:
    messages = message if isinstance(message, list) else [message]
    return tuple([found for one in messages if (found := _operation(one))])


def _parsed(body: bytes) -> "Mapping[str, object] | list[object]":
    try:
        message = orjson.loads(body)
        # Of members with one name orjson keeps the last: then quotation marks are missing, if none was escaped. What
        # most clients send is the same as written here.
        written = orjson.dumps(message)
        if written != body:
            if _ESCAPED_QUOTE in body:
                json.loads(body, object_pairs_hook=_each_once)
            elif body.count(b'"') != written.count(b'"'):
                raise ValueError  # noqa: TRY301 - as `_each_once`
    except (ValueError, TypeError, RecursionError):  # TypeError: too deep for orjson to write
        raise MalformedRequestError(
            "the body must be JSON (RFC 8259) with no name twice in an object, and not nested too deeply"
        ) from None
    if not isinstance(message, dict | list) or not message:
        raise _no_message()
    return message


def _each_once(members: list[tuple[str, object]]) -> None:
    if len(dict(members)) < len(members):
        raise ValueError


def _operation(message: object) -> Operation | None:
    """What a JSON-RPC message asks for; None for a response."""
    if not isinstance(message, dict):
        raise _no_message()
    _refuse_others_like(("method", "params"), message)
    if "method" not in message:
        return None
    method = _plain(message["method"])
    member = _NAMED_BY.get(method)
    if member is None:
        return Operation(method)
    params = message.get("params")
    if not isinstance(params, dict):
        raise _no_message()
    _refuse_others_like((member,), params)
    return Operation(method, _plain(params.get(member)))


def _refuse_others_like(names: Collection[str], members: Mapping[str, object]) -> None:
    # Some parsers take `Method` for `method`, as Go's encoding/json does, or end a name at U+0000.
    for name in members:
        if name not in _PLAIN_NAMES and (name.casefold() in names or not name.isprintable()):
            raise MalformedRequestError(f"{' and '.join(names)} must be written so in the body")


def _plain(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise _no_message()
    return value


def _no_message() -> MalformedRequestError:
    return MalformedRequestError("the body must be a JSON-RPC message of MCP, or a list of them")


def _check_headers(headers: Headers, asked: Asked) -> None:
    """Refuse header fields by which the MCP server, or something before it, could read something else in the body."""
    kind = None
    said: dict[bytes, str | None] = {}
    for field, value in headers:
        if len(field) not in _LENGTHS:
            continue
        if field.startswith(b"mcp"):
            spelt = field if field in _SAID else spelling(field)
            if spelt in _SAID:
                said[spelt] = None if spelt in said else value.decode("latin-1")
        elif field == _TYPE:
            if kind is not None or (value != _JSON and not _is_in_utf_8(value)):
                raise MalformedRequestError("Content-Type must be application/json, in UTF-8")
            kind = value
        elif field == _ENCODING:
            raise MalformedRequestError("the body must not be compressed: send no Content-Encoding")
    if said and not _agree(said, asked):
        raise JsonRpcError(
            ResourceOutcome.HEADER_MISMATCH,
            "Mcp-Method and Mcp-Name must say what the body says, each once",
            code=HEADER_MISMATCH,
            request_id=asked.request_id,
        )


def _is_in_utf_8(kind: bytes) -> bool:
    # RFC 8259 §8.1: JSON is UTF-8.
    return kind.lower().partition(b"charset")[2].strip(b" \t=\"';") in (b"", b"utf-8", b"utf8")


def _agree(said: Mapping[bytes, str | None], asked: Asked) -> bool:
    if len(asked.operations) != 1:
        return False
    method, name = asked.operations[0]
    if said.get(_METHOD, method) != method:
        return False
    return name is None or _NAME not in said or _decoded(said[_NAME]) == name


def _decoded(text: str | None) -> str | None:
    """The name in a header field (MCP Transports, "Value Encoding"); None if there is none."""
    if text is None or not (text.startswith(_BASE64[0]) and text.endswith(_BASE64[1])):
        return text
    try:
        return b64decode(text.removeprefix(_BASE64[0]).removesuffix(_BASE64[1]), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
