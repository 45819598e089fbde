"""Operations that need scopes: through the reverse proxy, and to a server that `protect` is before."""

import gzip
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from seed_oauth import Pipeline
from seed_oauth.outcomes import ResourceOutcome
from tests.harness import FrontDoor, json_of
from tests.http_client.test_transport import response
from tests.resource_server.test_protect import Protected, good_token
from tests.resource_server.test_reverse_proxy import Recorder, door_with

pytestmark = pytest.mark.anyio

TABLES: Mapping[str, Any] = {
    "tool_scopes": {"files:write": ["write_file", "delete_*"], "files:delete": ["delete_*"], "files:read": ["read_*"]},
    "method_scopes": {"files:read": ["resources/read"]},
    "scope_hierarchy": {"files:write": ["files:read"]},
}
PONG = b'{"jsonrpc":"2.0","id":1,"result":{}}'


@dataclass
class Site:
    """A protected MCP server, and a client of it."""

    http: httpx.AsyncClient
    url: str
    pipeline: Pipeline
    authorization: Any
    bodies: list[bytes]
    heads: list[bytes]

    async def send(
        self, content: Any, scope: str = "", *, login: str = "first", method: str = "POST", **headers: str
    ) -> httpx.Response:
        body = content if isinstance(content, bytes) or hasattr(content, "__aiter__") else json.dumps(content).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {"Authorization": self.authorization(scope, login), "Content-Type": "application/json", **named}
        return await self.http.request(method, self.url, content=body, headers=fields)

    async def errors(self, row: ResourceOutcome) -> float:
        return await FrontDoor(pipeline=self.pipeline).error_count(row)

    async def steps(self) -> float:
        samples = await FrontDoor(pipeline=self.pipeline).samples()
        return samples["oauth_flow_steps_total", frozenset({"step": "stepped_up", "client_family": "other"}.items())]


@dataclass
class App:
    """An MCP server as an app, which notes and answers as a `Recorder` does."""

    recorder: Recorder
    content_type: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message: Message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.recorder.bodies.append(body)
        self.recorder.heads.append(b"\r\n".join(name + b": " + value for name, value in scope["headers"]))
        answer = self.recorder.answer.partition(b"\r\n\r\n")[2]
        headers = [(b"content-type", self.content_type), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in (answer[:10], answer[10:]):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


@asynccontextmanager
async def site(kind: str, answer: bytes = PONG, content_type: bytes = b"application/json", **given: Any) -> Any:
    recorder = Recorder(response(answer, headers=b"Content-Type: " + content_type + b"\r\n"))
    settings = {**TABLES, **given}
    if kind == "proxy":
        async with door_with(recorder, **settings) as door:
            yield Site(
                door.http,
                door.mcp,
                door.pipeline,
                lambda scope, login: door.headers(scope=scope, grant_id=login)["Authorization"],
                recorder.bodies,
                recorder.heads,
            )
        return
    async with Protected(app=App(recorder, content_type), settings=settings, scopes=()) as server:
        yield Site(
            server.http,
            "/mcp",
            server.pipeline,
            cache(lambda scope, login: f"Bearer {good_token(scope=scope or None, jti=login)}"),
            recorder.bodies,
            recorder.heads,
        )


@pytest.fixture(params=["proxy", "protect"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(kind: str) -> AsyncIterator[Site]:
    async with site(kind) as site_:
        yield site_


def call(name: str, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}, **members}


def challenge_of(refused: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["www-authenticate"]))


@pytest.mark.parametrize(
    ("message", "scope", "missing"),
    [
        (call("write_file"), "files:write", ""),
        (call("read_file"), "files:write", ""),
        (call("read_file"), "files:read mail", ""),
        (call("other"), "", ""),
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, "", ""),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, "", ""),
        ([call("other"), call("read_file")], "files:read", ""),
        (call("write_file"), "files:read", "files:write"),
        (call("delete_file"), "files:write", "files:write files:delete"),
        (call("read_file"), "", "files:read"),
        ({"method": "resources/read", "params": {"uri": "file:///a"}}, "", "files:read"),
        ([call("other"), call("write_file"), call("read_file")], "", "files:write files:read"),
    ],
)
async def test_an_operation_reaches_the_server_with_all_its_scopes_and_not_without(
    server: Site, message: object, scope: str, missing: str
) -> None:
    """PROTOCOL M8, THREATS 33: each operation of a batch is judged."""
    answer = await server.send(message, scope)
    if not missing:
        assert (answer.status_code, answer.content) == (200, PONG)
        assert server.bodies == [json.dumps(message).encode()], "byte for byte"
        return
    assert answer.status_code == 403
    assert server.bodies == []
    challenge = challenge_of(answer)
    assert challenge["error"] == "insufficient_scope"
    assert set(missing.split()) <= set(challenge["scope"].split())
    assert challenge["resource_metadata"].endswith("/.well-known/oauth-protected-resource/mcp")
    assert answer.headers["access-control-allow-origin"] == "*"
    error = json_of(answer)["error"]
    assert error["code"] == -32003
    assert f"with the scopes {missing}: log in again" in error["message"]
    assert await server.errors(ResourceOutcome.STEP_UP_REQUIRED) == 1
    assert await server.steps() == 1


async def test_a_scope_of_a_group_counts_in_our_own_tokens_alone(kind: str) -> None:
    """THREATS 36: the identity provider may grant it to anybody; behind `protect` the tokens here are its own."""
    async with site(kind, group_scopes={"ops": ["files:write"]}) as server:
        answer = await server.send(call("write_file"), "files:write files:read")
        assert (answer.status_code, len(server.bodies)) == ((200, 1) if kind == "proxy" else (403, 0))
        assert (await server.send(call("read_file"), "files:write files:read")).status_code == 200


async def test_a_challenge_names_what_the_token_has_already_too(kind: str) -> None:
    """Clients that ask for what is named there, and nothing else, would lose it (TypeScript SDK 1.x)."""
    async with site(kind, required_scopes="mcp", scopes="mail") as server:
        refused = await server.send(call("write_file"), "mcp files:delete openid")
        assert challenge_of(refused)["scope"] == "mcp files:write files:delete"


async def test_a_scope_that_is_needed_for_the_method_and_for_the_tool_is_named_once(kind: str) -> None:
    async with site(kind, method_scopes={"files:read": ["tools/call"]}) as server:
        refused = await server.send(call("read_file"))
        assert "the scopes files:read:" in json_of(refused)["error"]["message"]


async def test_a_login_that_brought_no_scope_is_not_asked_for_again(server: Site) -> None:
    """Clients log in again for each challenge with an error, and an agent calls again."""
    challenges = [
        challenge_of(await server.send(call("write_file"), login=login)) for login in ("first", "first", "second")
    ]
    assert [challenge.get("error") for challenge in challenges] == ["insufficient_scope", "insufficient_scope", None]
    assert challenges[2].keys() == {"resource_metadata"}
    refused = await server.send(call("write_file"), login="third")
    assert refused.status_code == 403
    assert "the last login did not bring the scopes files:write" in json_of(refused)["error"]["message"]
    assert await server.errors(ResourceOutcome.SCOPE_NOT_GRANTED) == 2
    assert await server.steps() == 2
    # Another operation, and the same one after a login that brought its scope.
    assert challenge_of(await server.send(call("read_file"), login="third"))["error"] == "insufficient_scope"
    assert (await server.send(call("write_file"), "files:write", login="fourth")).status_code == 200
    assert challenge_of(await server.send(call("write_file"), login="fifth"))["error"] == "insufficient_scope"


async def test_neither_is_a_login_for_the_scopes_that_every_request_needs(kind: str) -> None:
    async with site(kind, required_scopes="mcp", tool_scopes={}, method_scopes={}) as server:
        challenges = [challenge_of(await server.send(b"", "mail", login=login)) for login in ("first", "second")]
        assert [challenge.get("error") for challenge in challenges] == ["insufficient_scope", None]
        assert await server.errors(ResourceOutcome.SCOPE_NOT_GRANTED) == 1
        assert (await server.send(b"", "mcp", login="third")).status_code == 200
        assert challenge_of(await server.send(b"", "mail", login="fourth"))["error"] == "insufficient_scope"
        assert await server.steps() == 0


async def test_a_token_that_was_refreshed_is_of_no_other_login() -> None:
    async with site("proxy") as server:
        for scope in ("mail", "files:read"):
            refused = await server.send(call("write_file"), scope, login="first")
            assert challenge_of(refused)["error"] == "insufficient_scope"


async def test_header_fields_that_say_something_else_than_the_body_are_refused(server: Site) -> None:
    """PROTOCOL M9, THREATS 33."""
    hidden = await server.send(call("delete_file", id=9), "", Mcp_Method="tools/call", Mcp_Name="other")
    assert hidden.status_code == 400
    assert json_of(hidden) == {
        "jsonrpc": "2.0",
        "id": 9,
        "error": {"code": -32020, "message": "Mcp-Method and Mcp-Name must say what the body says, each once"},
    }
    assert server.bodies == []
    assert await server.errors(ResourceOutcome.HEADER_MISMATCH) == 1
    agreed = await server.send(call("other"), "", Mcp_Method="tools/call", Mcp_Name="=?base64?b3RoZXI=?=")
    assert agreed.status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"no JSON", gzip.compress(PONG, mtime=0), b'{"method":"ping","method":"tools/call","params":{"name":"a"}}'],
)
async def test_a_body_that_cannot_be_judged_is_refused(server: Site, body: bytes) -> None:
    """THREATS 33: nothing passes unread."""
    refused = await server.send(body, "files:write")
    assert refused.status_code == 400
    assert json_of(refused)["error"] == "invalid_request"
    assert server.bodies == []
    assert await server.errors(ResourceOutcome.MALFORMED_REQUEST) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_requests_without_a_body_need_no_scope_and_those_with_one_are_judged(server: Site, method: str) -> None:
    assert (await server.send(b"", method=method)).status_code == 200
    assert (await server.send(call("write_file"), method=method)).status_code == 403


async def test_a_body_in_pieces_is_judged_whole(server: Site) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"method":"tools/call",', b'"params":{"name":"write', b'_file"}}'):
            yield piece

    assert (await server.send(pieces())).status_code == 403
    assert (await server.send(pieces(), "files:write")).status_code == 200
    assert server.bodies == [b'{"method":"tools/call","params":{"name":"write_file"}}']


async def test_a_body_over_4_mib_is_refused_where_operations_need_scopes_and_streamed_where_none_does(
    kind: str,
) -> None:
    large = json.dumps(call("other", params={"name": "other", "arguments": {"text": "a" * 4 * 1024 * 1024}})).encode()
    async with site(kind) as server:
        refused = await server.send(large)
        assert refused.status_code == 413
        assert "send at most 4194304 bytes" in json_of(refused)["error_description"]
        assert server.bodies == []
    async with site(kind, tool_scopes={}, method_scopes={}) as server:
        assert (await server.send(large)).status_code == 200
        assert (await server.send(b"no JSON", Mcp_Method="tools/call")).status_code == 200
        assert server.bodies == [large, b"no JSON"]


LISTED = {
    "jsonrpc": "2.0",
    "id": 1,
    "result": {"tools": [{"name": "read_file"}, {"name": "write_file"}, {"name": "x"}]},
}
EVENT = b"event: message\r\ndata: " + json.dumps(LISTED).encode() + b"\r\n\r\n"


def names_in(body: bytes) -> list[str]:
    return re.findall('"name":"([a-z_]+)"', body.decode().replace(" ", ""))


@pytest.mark.parametrize(
    ("answer", "content_type"), [(json.dumps(LISTED).encode(), b"application/json"), (EVENT, b"text/event-stream")]
)
@pytest.mark.parametrize(
    ("scope", "listed"),
    [
        ("", ["x"]),
        ("files:read", ["read_file", "x"]),
        ("files:write", ["read_file", "write_file", "x"]),
    ],
)
async def test_a_list_of_tools_has_those_that_the_token_may_call(
    kind: str, answer: bytes, content_type: bytes, scope: str, listed: list[str]
) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with site(kind, answer, content_type) as server:
        seen = await server.send(listing, scope, Accept_Encoding="gzip")
        assert names_in(seen.content) == listed
        assert b"accept-encoding: identity" in server.heads[-1].lower()
        assert b"gzip" not in server.heads[-1]
        other = await server.send({"jsonrpc": "2.0", "id": 1, "method": "prompts/list"}, Accept_Encoding="gzip")
        assert other.content == answer
        assert b"gzip" in server.heads[-1]


async def test_a_list_of_tools_is_passed_on_as_it_is_where_no_operation_needs_scopes(kind: str) -> None:
    answer = json.dumps(LISTED).encode()
    async with site(kind, answer, tool_scopes={}, method_scopes={}) as server:
        seen = await server.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, Accept_Encoding="gzip")
        assert seen.content == answer
        assert seen.headers["content-length"] == str(len(answer))
        assert b"gzip" in server.heads[-1]


async def test_the_audit_trail_names_the_tools_that_are_called_and_refused(kind: str, tmp_path: Path) -> None:
    trail = tmp_path / "audit.log"
    settings: dict[str, Any] = {
        "audit_log": str(trail),
        "audit_tool_calls": True,
        "tool_scopes": {"files:write": ["write_file"]},
    }
    async with site(kind, **settings) as server:
        await server.send([call("other"), call("read_file")])
        await server.send(call("write_file"))
        await server.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        await server.send(call("a" * 1000))
    records = [json.loads(line) for line in trail.read_text().splitlines()]
    named = [(record["event.action"], record.get("gen_ai.tool.name")) for record in records]
    assert named == [("tool_call", "other, read_file"), ("access_denied", "write_file"), ("tool_call", "a" * 256)]


async def test_a_trail_of_calls_needs_no_table(kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"audit_log": str(tmp_path / "audit.log"), "tool_scopes": {}, "method_scopes": {}}
    async with site(kind, **settings, audit_tool_calls=True) as server:
        assert (await server.send(call("write_file"))).status_code == 200
        assert (await server.send(b"no JSON")).status_code == 400
    async with site(kind, **settings) as server:
        assert (await server.send(b"no JSON")).status_code == 200
