"""What the tests share: a front door with its identity provider played by `httpx.MockTransport`."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from seed_oauth import Pipeline, Settings, create_app, create_metrics_app
from seed_oauth.clients import Client, ClientStore, hash_secret
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.grants import GrantStore
from seed_oauth.flows.held_responses import HeldResponseStore
from seed_oauth.identity_provider.metadata import MetadataSource
from seed_oauth.outcomes import EndpointOutcomes, Outcome
from seed_oauth.outcomes.errors import StoreError
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.telemetry.contract import error_attributes

ISSUER = "https://door.example"
CALLBACK = "https://app.example/callback"
PREREGISTERED = "preregistered"
"""The client_id of a client in the settings that has no credentials."""
DOCUMENT_GONE = "https://gone.example/client.json"
DOCUMENT_DOWN = "https://down.example/client.json"
CODE_VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CODE_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
PUBLIC = Client(client_id="public", issued_at=1, redirect_uris=(CALLBACK, "http://127.0.0.1/callback"))
BASIC = Client(
    client_id="basic",
    issued_at=1,
    redirect_uris=(CALLBACK,),
    token_endpoint_auth_method="client_secret_basic",
    secret_hash=hash_secret("secret of basic"),
)
POST = Client(
    client_id="post",
    issued_at=1,
    redirect_uris=(CALLBACK,),
    token_endpoint_auth_method="client_secret_post",
    secret_hash=hash_secret("secret of post"),
)
TOKENS = {"access_token": "at", "token_type": "bearer", "expires_in": 300, "refresh_token": "rt"}

SETTINGS: Mapping[str, Any] = {
    "issuer": ISSUER,
    "secret_keys": ("the-key-that-seals-of-random-characters",),
    "idp_authorization_url": "https://idp.example/authorize",
    "idp_token_url": "https://idp.example/token",
    "idp_revocation_url": "https://idp.example/revoke",
    "idp_client_id": "proxy",
    "idp_client_secret": "secret of the proxy",
    "store_url": "sqlite:///:memory:",
    "clients": [{"client_id": PREREGISTERED, "redirect_uris": [CALLBACK, "http://127.0.0.1/callback"]}],
    # Tests send the same token as often as they like; those of the limits set one.
    "rate_limit_token": "",
}

IdentityProvider = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]
Documents = Callable[[httpx.Request], httpx.Response]
Headers = Sequence[tuple[bytes, bytes]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def authorization_request(**changes: str | None) -> dict[str, str]:
    """A good authorization request, but for `changes`; None leaves a parameter out."""
    return _changed(
        {
            "response_type": "code",
            "client_id": PUBLIC.client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": CODE_CHALLENGE,
            "code_challenge_method": "S256",
            "state": "opaque state",
        },
        changes,
    )


def code_request(**changes: str | None) -> dict[str, str]:
    """A good token request for a code, but for `changes`."""
    return _changed(
        {
            "grant_type": "authorization_code",
            "code": "the code",
            "code_verifier": CODE_VERIFIER,
            "redirect_uri": CALLBACK,
            "client_id": PUBLIC.client_id,
        },
        changes,
    )


def refresh_request(**changes: str | None) -> dict[str, str]:
    """A good token request for a refresh token, but for `changes`."""
    return _changed(
        {"grant_type": "refresh_token", "refresh_token": "the token", "client_id": PUBLIC.client_id}, changes
    )


def registration_request(**changes: object) -> dict[str, object]:
    """A good registration, but for `changes`."""
    return {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", **changes}


def query_of(url: str) -> dict[str, str]:
    """The query parameters of a URL, none of which may come twice."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def form_of(request: httpx.Request) -> dict[str, str]:
    """The form that the identity provider was sent."""
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))


def document(url: str, /, **changes: object) -> dict[str, object]:
    """A good Client ID Metadata Document, but for `changes`; None leaves a member out."""
    good = {"client_id": url, "client_name": "Documented", "redirect_uris": [CALLBACK]}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def sealer_of(settings: Settings) -> Sealer:
    """What a door with these settings seals with."""
    return Sealer([key.get_secret_value() for key in settings.secret_keys], settings.issuer)


class BrokenStore:
    """A `ClientStore` that is down."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure or StoreError("OperationalError")

    async def get(self, client_id: str) -> Client | None:
        raise self._failure

    async def add(self, client: Client) -> None:
        raise self._failure

    async def mark_used(self, client_id: str, subject: str | None = None) -> None:
        raise self._failure

    async def check(self) -> None:
        raise self._failure

    async def aclose(self) -> None:
        pass


@dataclass
class FrontDoor:
    """The real app on a registry of its own; `idp` plays the identity provider, `documents` those who publish them."""

    idp: IdentityProvider = lambda _: httpx.Response(200, json=TOKENS)
    documents: Documents = lambda request: httpx.Response(503 if request.url.host == "down.example" else 404)
    settings: Mapping[str, Any] = field(default_factory=dict)
    clients: ClientStore | None = None
    grants: GrantStore | None = None
    held: HeldResponseStore | None = None
    metadata: MetadataSource | None = None
    now: Callable[[], float] = time
    clock: Callable[[], float] = perf_counter
    known: Iterable[Client] = (PUBLIC, BASIC, POST)
    pipeline: Pipeline = field(default_factory=Pipeline)
    idp_requests: list[httpx.Request] = field(default_factory=list)
    document_requests: list[httpx.Request] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        clients = self.clients
        if clients is None:
            clients = SqliteClientStore(Database("sqlite:///:memory:"))
            for client in self.known:
                await clients.add(client)
        self.app = create_app(
            Settings(**{**SETTINGS, **self.settings}),
            pipeline=self.pipeline,
            clients=clients,
            grants=self.grants,
            held=self.held,
            metadata=self.metadata,
            transport=httpx.MockTransport(self._idp),
            client_documents=httpx.MockTransport(self._document),
            now=self.now,
            clock=self.clock,
        )
        self._lifespan = self.app.router.lifespan_context(self.app)
        await self._lifespan.__aenter__()
        self.http = self.client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()
        await self._lifespan.__aexit__(kind, error, trace)

    async def _idp(self, request: httpx.Request) -> httpx.Response:
        self.idp_requests.append(request)
        answer = self.idp(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def _document(self, request: httpx.Request) -> httpx.Response:
        self.document_requests.append(request)
        return self.documents(request)

    def client(self, address: str = "127.0.0.1", headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """What sends requests from an address, as a browser navigates; to be closed where many are made."""
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        headers = {"Sec-Fetch-Mode": "navigate", **(headers or {})}
        return httpx.AsyncClient(transport=transport, base_url=ISSUER, headers=headers)

    async def authorize(self, **changes: str | None) -> httpx.Response:
        """A good authorization request, but for `changes`."""
        return await self.http.get("/oauth/authorize", params=authorization_request(**changes))

    async def token(self, form: Mapping[str, str], **options: Any) -> httpx.Response:
        """A token request."""
        return await self.http.post("/oauth/token", data=form, **options)

    async def receive(
        self, method: str, name: str, query: bytes = b"", headers: Headers = (), body: bytes = b""
    ) -> httpx.Response:
        """One request as a server would pass it on, with bytes that no client library would let through."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": f"/oauth/{name}", "query_string": query, "headers": headers}
        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)

    async def register(self, **changes: object) -> httpx.Response:
        """A good registration, but for `changes`."""
        return await self.http.post("/oauth/register", json=registration_request(**changes))

    async def scrape(self) -> str:
        """The text of a scrape, through the metrics listener's own app."""
        app = create_metrics_app(self.pipeline.registry)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics") as http:
            response = await http.get("/metrics")
        assert response.status_code == 200
        return response.text

    async def samples(self) -> Samples:
        """Every sample of a scrape; none may come twice."""
        return samples_of(await self.scrape())

    async def value(self, name: str, **labels: str) -> float:
        """One sample, which must be there."""
        return (await self.samples())[name, frozenset(labels.items())]

    async def error_count(self, outcome: Outcome) -> float:
        """How often `oauth_errors_total` has counted a row."""
        return await self.value("oauth_errors_total", **error_attributes(outcome))


@dataclass
class RelayDoor(FrontDoor):
    """The real app in the relay flow, in which the client's own code and state go to the identity provider."""

    def __post_init__(self) -> None:
        self.settings = {"flow": "relay", **self.settings}


def rows_of_every_endpoint(outcomes: EndpointOutcomes) -> set[Outcome]:
    """The rows that test_boundary.py reaches for each endpoint, and test_rate_limits.py for each that has a limit."""
    return {row for row in outcomes if row.name == "RATE_LIMITED"} | {
        outcomes.METHOD_NOT_ALLOWED,
        outcomes.BODY_TOO_LARGE,
        outcomes.MALFORMED_REQUEST,
        outcomes.CANCELLED,
        outcomes.UNEXPECTED,
    }


def samples_of(exposition: str) -> Samples:
    """Read a scrape; a sample that comes twice is an error, as it is for Prometheus."""
    samples: Samples = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
    return samples


_BY_FAMILY = {"oauth_flow_steps_total", "oauth_client_errors_total"}


def increases(before: Samples, after: Samples) -> dict[str, float]:
    """The counters that grew, as `name{labels}` → by how much; those by client family have tests of their own."""
    grown = {}
    for (name, labels), value in after.items():
        counted = name.startswith("oauth_") and name.endswith(("_total", "_count"))
        if counted and name not in _BY_FAMILY and (increase := value - before.get((name, labels), 0)):
            text = ",".join(f'{label}="{content}"' for label, content in sorted(labels))
            grown[f"{name}{{{text}}}"] = increase
    return grown


def apart_from_documents(grown: Mapping[str, float], requests: int) -> dict[str, float]:
    """What has grown apart from the series of clients' documents, which have counted so many requests."""
    of_documents = {name: by for name, by in grown.items() if name.startswith("oauth_client_document_")}
    for kind in ("requests_total", "duration_seconds_count"):
        assert sum(by for name, by in of_documents.items() if kind in name) == requests
    return {name: by for name, by in grown.items() if name not in of_documents}


def json_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in a response."""
    content = json.loads(response.content)
    assert isinstance(content, dict)
    return content


def _changed(good: dict[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**good, **changes}
    return {name: value for name, value in merged.items() if value is not None}
