"""The half of the state machine that browsers see: clients that register, and people who log in."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seed_oauth.outcomes import AuthorizationOutcome, Outcome, RegistrationOutcome
from tests.harness import json_of
from tests.model.invariants import no_redirect_before_consent
from tests.model.model import RESOURCES, Predicted
from tests.model.things import UNKNOWN, Asked, Browser, IdpCode, Login, Question, Software, challenge_of
from tests.model.world import World

Step = TypeVar("Step", bound=Callable[..., None])

VERIFIERS = ("the-first-verifier-of-forty-three-characters", "the-other-verifier-of-forty-three-characters")
REDIRECT_URIS = (
    "https://app.example/callback",
    "https://app.example/callback?tenant=1",
    "http://127.0.0.1/callback",
    "com.example.app:/oauth2redirect",
)
FOREIGN = "https://elsewhere.example/mcp"


def near(uri: str, twist: str) -> str:
    """A redirect_uri that is not the registered one, nor any other that is registered (THREATS 7)."""
    scheme, colon, rest = uri.partition(":")
    return {
        "longer": f"{uri}.evil",
        "shorter": uri[:-1],
        "deeper": f"{uri}/../evil",
        "with a query": f"{uri}{'&' if '?' in uri else '?'}next=evil",
        "with a fragment": f"{uri}#evil",
        "in upper case": f"{scheme.upper()}{colon}{rest}",
        "of a host that begins so": "https://app.example.evil.example/callback",
        "with a user": f"https://app.example@evil.example/{colon}",
        "elsewhere": "https://evil.example/callback",
    }[twist]


def from_another_port(uri: str) -> str:
    """What a native app sends: on loopback the port is free (RFC 8252 §7.3)."""
    return uri.replace("127.0.0.1", "127.0.0.1:51004")


twists = st.sampled_from(["longer", "shorter", "deeper", "with a query", "with a fragment", "in upper case",
                          "of a host that begins so", "with a user", "elsewhere"])  # fmt: skip
scopes = st.sampled_from([None, "mail", "mail files", "openid mail"])
resources = st.sampled_from(
    [(None, RESOURCES[0]), *((one, one) for one in RESOURCES), (f"{RESOURCES[0]}/", RESOURCES[0])]
)
states = st.sampled_from(["opaque", "a&b=c d", None])
rarely = st.sampled_from([False] * 7 + [True])


def one_of(things: str) -> st.SearchStrategy[Any]:
    """Any of what there is by now."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine.world, things)))


def one_or_none(things: str) -> st.SearchStrategy[Any]:
    return st.runner().flatmap(lambda machine: st.sampled_from([None, *getattr(machine.world, things)]))


def there_are(things: str) -> Callable[[Step], Step]:
    """The step is possible while there are such things."""
    return precondition(lambda machine: bool(getattr(machine.world, things)))


class Logins(RuleBasedStateMachine):
    """Clients register, and people go through logins with them, rightly or not."""

    steps = 0
    """Of all machines there have been."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self._key = 0
        self.world = World(Path(self._folder.name))
        self.run(self.world.opens(self.next_key()))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def teardown(self) -> None:
        self.run(self.world.closes())
        self._runner.close()
        self._folder.cleanup()

    def next_key(self) -> str:
        self._key += 1
        return f"key number {self._key:04} that seals, of random characters"

    @invariant()
    def counts_equal_requests(self) -> None:
        Logins.steps += 1
        self.run(self.world.settles())
        self.world.counts_as_expected()

    # Clients register.

    @precondition(lambda self: len(self.world.software) < 4)
    @rule(
        method=st.sampled_from(["none", "client_secret_basic", "client_secret_post"]),
        uris=st.lists(st.sampled_from(REDIRECT_URIS), min_size=1, unique=True),
        also_bad=st.booleans(),
    )
    def registers(self, method: str, uris: list[str], *, also_bad: bool) -> None:
        """PROTOCOL R4: one bad redirect_uri does not sink those beside it."""
        sent = [*uris, "javascript:alert(1)"] if also_bad else uris
        response = self.run(self.world.door.register(redirect_uris=sent, token_endpoint_auth_method=method))
        self.world.ends(response, Predicted(row=RegistrationOutcome.REGISTERED), None)
        told = json_of(response)
        assert told["redirect_uris"] == uris
        self.world.software.append(
            Software(
                client_id=told["client_id"],
                secret=told.get("client_secret"),
                method=method,
                redirect_uris=tuple(uris),
            )
        )

    @rule(
        wrong=st.sampled_from(
            [
                ({"redirect_uris": ["javascript:alert(1)"]}, RegistrationOutcome.BAD_REDIRECT_URI),
                ({"redirect_uris": ["http://evil.example/"]}, RegistrationOutcome.BAD_REDIRECT_URI),
                ({"token_endpoint_auth_method": "private_key_jwt"}, RegistrationOutcome.BAD_CLIENT_METADATA),
            ]
        )
    )
    def registers_badly(self, wrong: tuple[dict[str, object], Outcome]) -> None:
        changes, row = wrong
        self.world.ends(self.run(self.world.door.register(**changes)), Predicted(row=row), None)

    # Browsers go through logins.

    @rule(
        client=one_of("software"),
        browser=one_of("browsers"),
        number=st.integers(0, 3),
        verifier=st.sampled_from(VERIFIERS),
        scope=scopes,
        resource=resources,
        state=states,
    )
    def asks(
        self,
        client: Software,
        browser: Browser,
        number: int,
        verifier: str,
        scope: str | None,
        resource: tuple[str | None, str],
        state: str | None,
    ) -> None:
        asked = Asked(
            client=client,
            browser=browser,
            redirect_uri=from_another_port(client.redirect_uris[number % len(client.redirect_uris)]),
            state=state,
            verifier=verifier,
            scope=scope,
            resource=resource[1],
        )
        self.run(self.world.asks(_parameters(asked, resource=resource[0]), asked))

    @rule(
        client=one_of("software"),
        browser=one_of("browsers"),
        twist=twists | st.none(),
        wrong=st.sampled_from(
            [
                ({}, None),
                ({"code_challenge_method": "plain"}, AuthorizationOutcome.BAD_CODE_CHALLENGE_METHOD),
                ({"code_challenge_method": None}, AuthorizationOutcome.BAD_CODE_CHALLENGE_METHOD),
                ({"code_challenge": "short"}, AuthorizationOutcome.BAD_CODE_CHALLENGE_LENGTH),
                ({"code_challenge": "+" * 43}, AuthorizationOutcome.BAD_CODE_CHALLENGE_FORMAT),
                ({"client_id": UNKNOWN.client_id}, AuthorizationOutcome.UNKNOWN_CLIENT),
                ({"client_id": None}, AuthorizationOutcome.UNKNOWN_CLIENT),
                ({"redirect_uri": None}, AuthorizationOutcome.BAD_REDIRECT_URI),
                ({"response_type": None}, AuthorizationOutcome.MISSING_RESPONSE_TYPE),
                ({"response_type": "token"}, AuthorizationOutcome.UNSUPPORTED_RESPONSE_TYPE),
                ({"scope": "mail  files"}, AuthorizationOutcome.BAD_SCOPE),
                ({"resource": FOREIGN}, AuthorizationOutcome.BAD_RESOURCE),
            ]
        ),
    )
    def asks_wrongly(
        self,
        client: Software,
        browser: Browser,
        twist: str | None,
        wrong: tuple[dict[str, str | None], AuthorizationOutcome | None],
    ) -> None:
        """The first check that fails is the row, and nothing is redirected to a URI that is not the client's."""
        changes, row = wrong
        uri = client.redirect_uris[0]
        if twist is not None:
            uri = near(uri, twist)
            checked_before = row is not None and row.value < AuthorizationOutcome.BAD_REDIRECT_URI.value
            row = row if checked_before else AuthorizationOutcome.BAD_REDIRECT_URI
        if row is None:
            return
        asked = Asked(
            client=client,
            browser=browser,
            redirect_uri=uri,
            state="state",
            verifier=VERIFIERS[0],
            scope=None,
            resource="",
        )
        parameters = {**_parameters(asked), **changes}
        sent = {name: value for name, value in parameters.items() if value is not None}
        response = self._is_refused(sent, asked, row)
        # PROTOCOL A4, A5 and A14
        consented = self.world.model.has_consented(asked)
        no_redirect_before_consent(response, consented)
        is_known = {"client_id", "redirect_uri"}.isdisjoint(changes) and twist is None
        with self.world.predictions():
            expected = is_known and consented
            assert response.is_redirect == expected, "an error goes to the client once it is known and trusted"

    @rule(client=one_of("software"), browser=one_of("browsers"), twist=twists)
    def asks_for_a_redirect_elsewhere(self, client: Software, browser: Browser, twist: str) -> None:
        """THREATS 7: everything is right but for the redirect_uri."""
        asked = Asked(
            client=client,
            browser=browser,
            redirect_uri=near(client.redirect_uris[0], twist),
            state="state",
            verifier=VERIFIERS[0],
            scope=None,
            resource="",
        )
        self._is_refused(_parameters(asked), asked, AuthorizationOutcome.BAD_REDIRECT_URI)

    def _is_refused(self, parameters: dict[str, str], asked: Asked, row: AuthorizationOutcome) -> httpx.Response:
        """The answer to a bad authorization request. If a page asks all the same, its user approves and logs in."""
        browses = self.world.browses(asked.browser, "GET", "/oauth/authorize", params=parameters)
        response: httpx.Response = self.run(browses)
        if response.status_code == 200:
            response = self.run(self.world.is_taken_in(asked.browser, response))
        self.world.ends(response, Predicted(row=row), asked.client, asked.state)
        return response

    @there_are("questions")
    @rule(question=one_of("questions"))
    def asks_again_before_anybody_has_logged_in(self, question: Question) -> None:
        """THREATS 4: a consent is remembered, and nobody knows whose; who logs in is asked once more."""
        self.approves(question, remember=True)
        asked = question.asked
        self.run(self.world.asks(_parameters(asked, resource=asked.resource), asked))
        if self.world.logins:
            self.logs_in(self.world.logins[-1])
            self.returns(self.world.idp_codes[-1])
        if self.world.questions[-1].waiting is not None:
            self.approves(self.world.questions[-1], remember=False)

    @there_are("questions")
    @rule(question=one_of("questions"), remember=rarely)
    def approves(self, question: Question, remember: bool) -> None:
        self.run(self.world.decides(question, question.asked.browser, "approve", remember=remember))

    @there_are("questions")
    @rule(
        question=one_of("questions"),
        browser=one_of("browsers"),
        decision=st.sampled_from(["approve", "deny", "maybe", None]),
    )
    def decides_somehow(self, question: Question, browser: Browser, decision: str | None) -> None:
        """THREATS 4: perhaps in another browser."""
        self.run(self.world.decides(question, browser, decision))

    @there_are("logins")
    @rule(login=one_of("logins"))
    def logs_in(self, login: Login) -> None:
        self.run(self.world.logs_in(login))

    @there_are("idp_codes")
    @rule(code=one_of("idp_codes"))
    def returns(self, code: IdpCode) -> None:
        self.run(self.world.returns(code.login, code.login.asked.browser, code))

    @there_are("logins")
    @rule(
        login=one_of("logins"),
        browser=one_of("browsers") | st.none(),
        code=one_or_none("idp_codes"),
        iss=st.sampled_from(["https://idp.example"] * 3 + ["https://evil.example", None]),
        error=st.sampled_from([None] * 3 + ["access_denied", "something_else"]),
    )
    def returns_somehow(
        self, login: Login, browser: Browser | None, code: IdpCode | None, iss: str | None, error: str | None
    ) -> None:
        """THREATS 5 and 6: perhaps with another login's code, in another browser, or from elsewhere."""
        self.run(self.world.returns(login, browser or login.asked.browser, code, iss=iss, error=error))


def _parameters(asked: Asked, resource: str | None = None) -> dict[str, str]:
    parameters = {
        "response_type": "code",
        "client_id": asked.client.client_id,
        "redirect_uri": asked.redirect_uri,
        "code_challenge": challenge_of(asked.verifier),
        "code_challenge_method": "S256",
        "state": asked.state,
        "scope": asked.scope,
        "resource": resource,
    }
    return {name: value for name, value in parameters.items() if value is not None}
