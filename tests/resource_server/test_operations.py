"""What a request asks an MCP server to do, read so that no other parser reads it differently."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seed_oauth.access.tools import Operation
from seed_oauth.http.parameters import MalformedRequestError
from seed_oauth.outcomes import ResourceOutcome
from seed_oauth.outcomes.errors import JsonRpcError
from seed_oauth.resource_server.operations import asked_by

Fields = list[tuple[bytes, bytes]]


def call(name: Any = "add", **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name}, **members}


def read(message: object, *headers: tuple[bytes, bytes]) -> list[Operation]:
    return list(asked_by(list(headers), json.dumps(message).encode()).operations)


@pytest.mark.parametrize(
    ("message", "operations"),
    [
        (call(), [("tools/call", "add")]),
        (call("löschen"), [("tools/call", "löschen")]),
        ({"method": "prompts/get", "params": {"name": "p"}}, [("prompts/get", "p")]),
        ({"method": "resources/read", "params": {"uri": "file:///a"}}, [("resources/read", "file:///a")]),
        ({"method": "tools/list"}, [("tools/list", None)]),
        ({"method": "notifications/initialized", "params": {"Name": 1}}, [("notifications/initialized", None)]),
        ({"id": 1, "result": {"method": "tools/call"}}, []),
        ([call("a"), {"id": 1, "result": {}}, call("b")], [("tools/call", "a"), ("tools/call", "b")]),
        (call(params={"name": "add", "arguments": {"name": "x", "Name": "y", "method": 1}}), [("tools/call", "add")]),
    ],
)
def test_each_operation_of_a_message_or_a_batch_is_found(message: object, operations: list[Any]) -> None:
    """THREATS 33."""
    assert read(message) == operations


def test_the_id_of_a_single_request_is_known_for_the_answer() -> None:
    assert asked_by([], json.dumps(call(id="x")).encode()).request_id == "x"
    assert asked_by([], json.dumps(call(id={})).encode()).request_id is None
    assert asked_by([], json.dumps([call()]).encode()).request_id is None


NAME_TWICE = '{"method":"tools/call","params":{"name":"add","name":"delete"}}'
HOSTILE = {
    "empty": "",
    "no JSON": "tools/call",
    "a text": '"tools/call"',
    "an empty batch": "[]",
    "an empty object": "{}",
    "a batch in a batch": "[[]]",
    "a number in a batch": "[1]",
    "two messages": '{"method":"ping"}{"method":"tools/call"}',
    "no UTF-8": b'{"method":"tools/call\xff"}',
    "UTF-16": '{"method":"ping"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"method":"ping"}',
    "half a surrogate pair": '{"method":"tools/call","params":{"name":"\\ud800"}}',
    "a comment": '{"method":"ping"/*,"method":"tools/call"*/}',
    "no number of JSON": '{"method":"ping","id":NaN}',
    "method twice": '{"method":"ping","method":"tools/call"}',
    "method twice, once escaped": '{"method":"tools/call","m\\u0065thod":"ping"}',
    "params twice": '{"method":"tools/call","params":{"name":"delete"},"params":{"name":"add"}}',
    "name twice": NAME_TWICE,
    "name twice, once escaped": NAME_TWICE.replace('"name":"delete"', '"n\\u0061me":"delete"'),
    "twice where nobody reads": '{"method":"ping","params":{"a":{"b":1,"b":1}}}',
    "another case": '{"Method":"tools/call","params":{"name":"delete"}}',
    "another case besides": '{"method":"ping","METHOD":"tools/call","params":{"name":"delete"}}',
    "another case of params": '{"method":"tools/call","params":{"name":"add"},"Params":{"name":"delete"}}',
    "another case of name": '{"method":"tools/call","params":{"name":"add","NAME":"delete"}}',
    "a letter that folds to s": '{"method":"tools/call","params":{"name":"add"},"param\u017f":{"name":"delete"}}',
    "a name that ends early": '{"method":"ping","method\\u0000":"tools/call"}',
    "a value that ends early": '{"method":"tools/call","params":{"name":"delete\\u0000"}}',
    "an invisible character": '{"method":"tools/call","params":{"name":"dele\u200bte"}}',
    "method is no text": '{"method":["tools/call"]}',
    "method is null": '{"method":null}',
    "no params": '{"method":"tools/call"}',
    "params by position": '{"method":"tools/call","params":["delete"]}',
    "no name": '{"method":"tools/call","params":{}}',
    "name is no text": '{"method":"tools/call","params":{"name":1}}',
    "10,000 levels": '{"method":"ping","params":' + "[" * 10_000 + "]" * 10_000 + "}",
    "10,000 levels, one escape": '{"method":"pin\\u0067","params":' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}",
    "1,000 levels": '{"method":"ping","params":' + "[" * 1_000 + "]" * 1_000 + "}",
    "1,000 levels, one escape": '{"method":"pin\\u0067","params":' + "[" * 1_000 + "]" * 1_000 + "}",
    "10,000 open brackets": "[" * 10_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_parsers_may_read_differently_is_refused(body: str | bytes) -> None:
    """THREATS 33: the MCP server reads the same bytes, and would do something else."""
    with pytest.raises(MalformedRequestError):
        asked_by([], body if isinstance(body, bytes) else body.encode())


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json; charset=utf-7")],
        [(b"content-type", b'application/json; charset="utf-16"')],
        [(b"content-type", b"application/json; charset=utf-8; charset=utf-7")],
        [(b"content-type", b"application/json; CHARSET=UTF-7")],
        [(b"content-type", b"application/json"), (b"content-type", b"application/json; charset=utf-7")],
        [(b"content-encoding", b"deflate")],
    ],
)
def test_a_body_in_another_encoding_is_refused(headers: Fields) -> None:
    """THREATS 33."""
    with pytest.raises(MalformedRequestError):
        asked_by(headers, b'{"method":"ping"}')


@pytest.mark.parametrize("kind", [b"application/json", b"application/json;charset=UTF-8", b'text/x; charset="utf-8"'])
def test_json_in_utf_8_is_read(kind: bytes) -> None:
    assert asked_by([(b"content-type", kind)], b'{"method":"ping"}').operations == (Operation("ping"),)


def encoded(name: str) -> bytes:
    return b"=?base64?" + b64encode(name.encode()) + b"?="


METHOD = (b"mcp-method", b"tools/call")


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (call(), []),
        (call(), [METHOD]),
        (call(), [METHOD, (b"mcp-name", b"add")]),
        (call(), [(b"mcp-name", encoded("add"))]),
        (call("löschen"), [METHOD, (b"mcp-name", encoded("löschen"))]),
        (call("=?base64?YQ==?="), [(b"mcp-name", encoded("=?base64?YQ==?="))]),
        ({"method": "tools/list"}, [(b"mcp-method", b"tools/list"), (b"mcp-name", b"not read")]),
        (call(), [(b"mcp-param-name", b"x"), (b"mcp-session-id", b"s")]),
    ],
)
def test_header_fields_may_repeat_what_the_body_says(message: object, headers: Fields) -> None:
    """PROTOCOL M9."""
    assert len(read(message, *headers)) == 1


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (call(), [(b"mcp-method", b"tools/list")]),
        (call(), [(b"mcp-method", b"Tools/Call")]),
        (call(), [(b"mcp-method", encoded("tools/call"))]),
        (call("delete"), [METHOD, (b"mcp-name", b"add")]),
        (call("delete"), [(b"mcp-name", encoded("add"))]),
        (call("delete"), [(b"mcp_name", b"add")]),
        (call(), [METHOD, METHOD]),
        (call(), [(b"mcp-name", b"add"), (b"mcp-name", b"add")]),
        (call(), [(b"mcp-name", b"=?base64?YWRk!?=")]),
        (call(), [(b"mcp-name", b"=?base64?/w==?=")]),
        (call("a"), [(b"mcp-name", b"=?base64?YQ==?")]),
        ([call(), call()], [METHOD]),
        ({"id": 1, "result": {}}, [METHOD]),
    ],
)
def test_header_fields_that_say_something_else_are_refused(message: object, headers: Fields) -> None:
    """PROTOCOL M9, THREATS 33: something before the MCP server may believe them."""
    with pytest.raises(JsonRpcError) as refused:
        read(message, *headers)
    assert refused.value.outcome is ResourceOutcome.HEADER_MISMATCH
    assert refused.value.code == -32020


keys = st.sampled_from(["method", "params", "name", "uri", "Method", "NAME", "a", 'a"', "\\"]) | st.text(max_size=3)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["tools/call", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
methods = st.sampled_from(["tools/call", "prompts/get", "resources/read", "ping"])


@st.composite
def texts(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON that no library writes: names twice, escapes that are not needed, white space."""
    if depth and draw(st.booleans()):
        members = [
            f"{_spelt(draw, draw(keys))}{draw(st.sampled_from(['', ' ']))}:{draw(texts(depth - 1))}"
            for _ in range(draw(st.integers(0, 3)))
        ]
        return "{" + ",".join(members) + "}"
    return _spelt(draw, draw(methods)) if draw(st.booleans()) else json.dumps(draw(values))


def _spelt(draw: st.DrawFn, text: str) -> str:
    spelt = json.dumps(text, ensure_ascii=draw(st.booleans()))
    return spelt.replace("e", "\\u0065", 1) if "\\" not in spelt and draw(st.booleans()) else spelt


def as_json_reads_it(message: Any) -> list[Operation]:
    found = []
    for one in message if isinstance(message, list) else [message]:
        if "method" in one:
            member = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(one["method"])
            found.append(Operation(one["method"], one["params"][member] if member else None))
    return found


@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | st.builds(lambda method, params: json.dumps({"method": method, "params": params}).encode(), methods, values)
    | texts().map(lambda text: text.encode(errors="replace"))
)
@example(NAME_TWICE.encode())
@example(b'{"a":"\\"","a":"\\"\\"\\"","method":"ping"}')
def test_any_body_is_refused_or_read_as_another_parser_reads_it(body: bytes) -> None:
    """THREATS 33."""
    try:
        operations = asked_by([], body).operations
    except MalformedRequestError:
        return
    assert list(operations) == as_json_reads_it(json.loads(body))
    assert list(operations) == as_json_reads_it(json.loads(body, object_pairs_hook=first_of_each))


def first_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(members))


@given(texts())
def test_no_name_is_read_that_comes_twice(text: str) -> None:
    """THREATS 33: parsers keep the first, or the last."""
    repeats = []

    def note(members: list[tuple[str, Any]]) -> dict[str, Any]:
        repeats.append(len(dict(members)) < len(members))
        return dict(members)

    json.loads(text, object_pairs_hook=note)
    if any(repeats):
        with pytest.raises(MalformedRequestError):
            asked_by([], text.encode(errors="replace"))
