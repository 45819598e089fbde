"""No secret, code, token, verifier or state in logs, metrics, spans or error texts (THREATS 12)."""

import base64
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from seed_oauth import Pipeline, Settings
from seed_oauth.clients.assertion import ASSERTION_TYPE
from seed_oauth.telemetry import logs
from seed_oauth.telemetry.server_spans import WAIT
from tests.broker import METADATA, BrokerDoor, Person, PlayedMetadata, request_in, target_of
from tests.cli.test_cli import free_port
from tests.harness import (
    DOCUMENT_DOWN,
    DOCUMENT_GONE,
    BrokenStore,
    FrontDoor,
    IdentityProvider,
    RelayDoor,
    authorization_request,
    code_request,
    document,
    form_of,
    json_of,
    query_of,
    refresh_request,
)

pytestmark = pytest.mark.anyio

CANARIES = [f"canary-{name}-{'x' * 43}" for name in ("secret", "code", "token", "verifier", "state", "scope")]
SECRET, CODE, TOKEN, VERIFIER, STATE, PROXY_SECRET = CANARIES
PUBLISHED = "https://app.example/client.json"


def spellings(canary: str) -> Iterator[str]:
    """The ways in which it might be written down."""
    yield from {canary, quote(canary), quote_plus(canary), base64.b64encode(canary.encode()).decode()[:20]}


def idps() -> Iterator[IdentityProvider]:
    """Identity providers of every temper, each of which repeats what it was sent."""

    def raises(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot send {request.content!r} with {request.headers!r}")

    def fails(request: httpx.Request) -> httpx.Response:
        raise RuntimeError(f"unforeseen: {request.content!r} with {request.headers!r}")

    yield lambda _: httpx.Response(200, json={"access_token": TOKEN, "refresh_token": TOKEN})
    for status in (200, 400, 401, 429, 500):
        yield lambda request, status=status: httpx.Response(
            status,
            json={"error": "invalid_grant", "error_description": request.content.decode(), "token": TOKEN},
        )
    yield lambda request: httpx.Response(200, content=request.content + TOKEN.encode())
    yield raises
    yield fails


def documents(request: httpx.Request) -> httpx.Response:
    """What clients publish, with a secret that is none any more."""
    if str(request.url) == PUBLISHED:
        jwks_uri = "https://app.example/jwks.json"
        return httpx.Response(
            200, json=document(PUBLISHED, token_endpoint_auth_method="private_key_jwt", jwks_uri=jwks_uri)
        )
    if request.url.path == "/jwks.json":
        return httpx.Response(200, json={"keys": [{"kty": "oct", "k": SECRET}]})
    return httpx.Response(200, json={"client_id": SECRET, "client_secret": SECRET}, headers={"Location": SECRET})


def unsigned_jwt(client_id: str) -> str:
    parts = ('{"alg":"RS256"}', f'{{"sub":"{client_id}","jti":"{SECRET}"}}', SECRET)
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)


@contextmanager
def logging_as(log_format: str) -> Iterator[None]:
    """Real logging to the captured standard output."""
    handlers = logging.root.handlers[:]
    logs.configure(Settings(log_format=log_format, log_level="debug"))  # type: ignore[arg-type]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        structlog.reset_defaults()


async def play(door: FrontDoor) -> list[httpx.Response]:
    """Requests that carry canaries wherever a request can carry something, good ones and bad ones."""
    registered = json_of(await door.register(token_endpoint_auth_method="client_secret_basic"))
    client_id = str(registered["client_id"])
    good = base64.b64encode(f"{client_id}:{registered['client_secret']}".encode()).decode()
    wrong = base64.b64encode(f"{client_id}:{SECRET}".encode()).decode()
    responses = [await door.authorize(state=STATE, client_id=client_id)]
    for changes in ({"code_challenge": "x"}, {"client_id": "nobody"}, {"response_type": STATE}, {"resource": STATE}):
        # What an error sends back to the client is the client's own state and nothing else.
        refused = await door.authorize(**{"state": STATE, **changes})
        assert TOKEN not in refused.text
        assert refused.headers.get("location", "").count(STATE) <= 1
    code = code_request(client_id=None, code=CODE, code_verifier=VERIFIER, redirect_uri=None)
    for form, authorization in itertools.product(
        [code, refresh_request(client_id=None, refresh_token=TOKEN), {**code, "grant_type": SECRET},
         {**code, "code_verifier": CODE[:20]}, {**code, "redirect_uri": f"https://x.example/{CODE}"},
         {**code, "scope": CODE, "resource": CODE}],
        [f"Basic {good}", f"Basic {wrong}", f"Bearer {TOKEN}", f"Basic {SECRET}"],
    ):  # fmt: skip
        responses.append(await door.token(form, headers={"Authorization": authorization}))
        data = {"token": TOKEN, "token_type_hint": CODE}
        responses.append(await door.http.post("/oauth/revoke", data=data, headers={"Authorization": authorization}))
    responses.append(await door.http.post("/oauth/token", content=f"code={CODE}&code={CODE}"))
    responses.append(await door.http.post(f"/oauth/token?code={CODE}&state={STATE}", data={"code": CODE}))
    for client_id in (PUBLISHED, DOCUMENT_GONE, DOCUMENT_DOWN):
        form = {**code, "client_id": client_id, "client_assertion_type": ASSERTION_TYPE}
        assertions = (SECRET, unsigned_jwt(client_id))
        responses += [await door.token({**form, "client_assertion": assertion}) for assertion in assertions]
        responses.append(await door.authorize(client_id=client_id, state=STATE))
    responses.append(await door.http.post("/oauth/register", json={"redirect_uris": [SECRET], "client_secret": SECRET}))
    responses.append(await door.http.get(f"/oauth/callback?code={CODE}&state={STATE}"))
    return responses


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_canaries_are_found_nowhere_but_where_they_belong(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    seen: list[str] = []
    with logging_as(log_format):
        await play_everywhere(tracer_provider, seen)
    out, err = capsys.readouterr()
    assert out.count('"outcome"' if log_format == "json" else "outcome=") > 500
    recorded = [span.to_json() for span in spans.get_finished_spans()]
    assert len(recorded) > 20
    seen += [out, err, *recorded]
    for canary in CANARIES:
        for spelling in spellings(canary):
            assert not [text for text in seen if spelling in text], canary[:13]


@dataclass
class Login:
    """A login in the broker flow that carries canaries, and everything secret that was made in it."""

    door: BrokerDoor
    secrets: set[str] = field(default_factory=set)
    answers: list[httpx.Response] = field(default_factory=list)

    async def play(self) -> None:
        """Every step once as it should be, and in every way in which it goes wrong."""
        person, other = self.door.somebody(), self.door.somebody()
        await other.opens()
        # Where the identity provider gives no tokens, there is no code of ours.
        code = await self._come_back(person, other, await self._consent(person, other)) or CODE
        self.secrets |= {code, *person.http.cookies.values(), *other.http.cookies.values()}
        bound = code_request(code=code)
        wrong = ({"code_verifier": "v" * 43}, {"redirect_uri": "http://127.0.0.1/callback"}, {"code": code[:-9]},
                 {"client_id": "post", "client_secret": SECRET}, {"resource": CODE})  # fmt: skip
        for form in ({**bound, **changes} for changes in wrong):
            self.answers.append(await self.door.token(form))
        tokens = await self._exchange(bound)
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}", "traceparent": CODE, "tracestate": f"a={CODE}"}
            self.answers.append(await self.door.http.post(f"/mcp?code={CODE}", headers=headers))
            for form in (refresh_request(refresh_token=token, scope=CODE), refresh_request(refresh_token=token[:-9]),
                         refresh_request(refresh_token=token), refresh_request(refresh_token=token)):  # fmt: skip
                await self._exchange(form)
            revocation = {"token": token, "client_id": "public"}
            self.answers.append(await self.door.http.post("/oauth/revoke", data=revocation))
            self.answers.append(await self.door.token(refresh_request(refresh_token=token)))
        for sent in self.door.idp_requests:
            self.secrets |= {
                form_of(sent)[name] for name in ("code_verifier", "refresh_token") if name in form_of(sent)
            }

    async def _consent(self, person: Person, other: Person) -> str:
        page = await person.opens(state=STATE, scope="mail")
        envelope = request_in(page)
        self.secrets.add(envelope)
        for changes in ({"request": envelope[:-9]}, {"decision": CODE}, {"decision": ""}):
            self.answers.append(await person.decides(page, **changes))
        self.answers.append(await other.decides(page))
        return target_of(await person.decides(page, remember="on"))

    async def _come_back(self, person: Person, other: Person, onward: str) -> str | None:
        state = query_of(onward)["state"]
        self.secrets |= {state, query_of(onward)["code_challenge"]}
        good = {"code": CODE, "state": state}
        for changes in ({"state": state[:-9]}, {"state": STATE}, {"iss": TOKEN}):
            self.answers.append(await person.returns(**{**good, **changes}))
        self.answers.append(await other.returns(**good))
        self.answers.append(await person.returns(state=state, error=CODE, error_description=CODE, error_uri=CODE))
        returned = await person.returns(**good)
        self.answers.append(returned)
        return query_of(returned.headers["location"]).get("code") if returned.is_redirect else None

    async def _exchange(self, form: dict[str, str]) -> list[str]:
        """The tokens that came of it, the refresh token last."""
        response = await self.door.token(form)
        self.answers.append(response)
        members = json_of(response)
        tokens = [str(members[name]) for name in ("access_token", "refresh_token") if name in members]
        self.secrets |= set(tokens)
        return tokens


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_nothing_that_is_made_in_a_login_is_found_but_where_it_belongs(
    log_format: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Envelopes, cookies, codes, verifiers and tokens of the broker flow (THREATS 12)."""
    spans = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    seen, secrets = [], set(CANARIES)
    settings = {"idp_client_secret": PROXY_SECRET, "idp_scopes": "openid", "access_tokens": "own"}
    settings["audit_log"] = str(tmp_path / "audit.jsonl")
    settings["mcp_server"] = f"http://127.0.0.1:{free_port()}/mcp"
    metadata = PlayedMetadata(METADATA)
    with logging_as(log_format):
        for idp in idps():
            door = BrokerDoor(settings=settings, pipeline=Pipeline(tracer_provider), idp=idp, metadata=metadata)
            async with door:
                login = Login(door)
                await login.play()
                seen.append(await door.scrape())
                secrets |= login.secrets
                seen += [answer.text + repr(answer.headers) for answer in login.answers if answer.is_error]
    out, err = capsys.readouterr()
    recorded = [span.to_json() for span in spans.get_finished_spans()]
    names = {(span.kind, span.name) for span in spans.get_finished_spans()}
    assert names >= {(SpanKind.INTERNAL, WAIT), (SpanKind.CLIENT, "POST"), (SpanKind.SERVER, "POST /mcp")}
    assert len(secrets) > 60
    for row in ("exchanged", "refreshed", "bad_envelope", "bad_state", "other_browser", "refresh_token_revoked"):
        assert row in out
    audited = (tmp_path / "audit.jsonl").read_text()
    assert "grant_issued" in audited
    seen += [out, err, audited, *recorded]
    for secret in secrets:
        for spelling in spellings(secret):
            assert not [text for text in seen if spelling in text], secret[:13]


async def play_everywhere(tracer_provider: TracerProvider, seen: list[str]) -> None:
    """Play against every identity provider and every trouble; `seen` gets all that was told."""
    for idp in idps():
        door = RelayDoor(
            settings={"idp_client_secret": PROXY_SECRET, "idp_token_auth_method": "client_secret_post"},
            pipeline=Pipeline(tracer_provider),
            idp=idp,
            documents=documents,
        )
        async with door:
            for response in await play(door):
                told = response.text if response.status_code >= 400 else ""
                seen.append(told + repr(response.headers if response.status_code != 302 else ""))
            seen.append(await door.scrape())
    async with RelayDoor(clients=BrokenStore(RuntimeError(SECRET))) as door:
        responses = [
            await door.http.get("/oauth/authorize", params=authorization_request(state=STATE)),
            await door.token(code_request(code=CODE)),
            await door.register(),
        ]
        assert {response.status_code for response in responses} == {500}
        seen += [response.text for response in responses]
