"""The real door with its identity provider, and everything that was handed out by either of them."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
from hypothesis import assume

from seed_oauth import Pipeline
from seed_oauth.cli.demo.identity_provider import DevelopmentIdentityProvider
from seed_oauth.cli.demo.tokens import SUBJECT
from seed_oauth.envelopes.access_token import AccessToken as SealedAccessToken
from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.grant_revocation import GrantRevocation
from seed_oauth.flows.grants import Selection
from seed_oauth.flows.revocations import Revocations
from seed_oauth.flows.revoked import hashed
from seed_oauth.outcomes import AccountOutcome, CallbackOutcome, GrantType, Outcome
from seed_oauth.resource_server import AccessTokenError
from seed_oauth.storage.sqlite.clients import SqliteClientStore
from seed_oauth.storage.sqlite.database import Database
from seed_oauth.storage.sqlite.grants import SqliteGrantStore
from seed_oauth.storage.sqlite.revocations import SqliteRevocationStore
from tests.broker import IDP, METADATA, PlayedMetadata, request_in, target_of
from tests.harness import ISSUER, FrontDoor, form_of, json_of, query_of
from tests.model import invariants
from tests.model.counting import Counts, counted, counts_of
from tests.model.model import (
    CONSENT_DAYS,
    DAY,
    GROUP,
    REFRESH_TOKEN_DAYS,
    RESOURCES,
    UNASKED,
    Model,
    Predicted,
    Redemption,
    Refresh,
    granted,
    host_of,
)
from tests.model.things import (
    AccessToken,
    Asked,
    Browser,
    Code,
    Granted,
    IdpCode,
    IdpRefreshToken,
    Login,
    Question,
    RefreshToken,
    Software,
    Waiting,
)
from tests.resource_server.issuing import Checker

Auth = tuple[str, str] | None

_TURNS = 200  # of the event loop


class World:
    """The door, whoever uses it, and what a model says of both."""

    only_promises: ClassVar[bool] = False
    """Whether a walk goes no further, and nobody minds, where the door does not do what the model predicts."""
    ended: ClassVar[Counter[tuple[Outcome, bool]]] = Counter()
    """How often requests ended in which row, and whether that was the answer given before, in all worlds."""

    def __init__(self, folder: Path) -> None:
        self.model = Model()
        self.provider = DevelopmentIdentityProvider("proxy", "secret of the proxy", clock=lambda: self.model.elapsed)
        # As with several workers, what is counted outlives the process that counted it.
        self._pipeline = Pipeline()
        self._idp_requests: list[httpx.Request] = []
        self.expected, self._looked_at = Counts(), Counts()
        self._store = f"sqlite:///{folder}/clients.db"
        self.software: list[Software] = []
        self.browsers: list[Browser] = []
        self.questions: list[Question] = []
        self.logins: list[Login] = []
        self.idp_codes: list[IdpCode] = []
        self.codes: list[Code] = []
        self.refresh_tokens: list[RefreshToken] = []
        self.access_tokens: list[AccessToken] = []

    async def opens(self, *keys: str) -> None:
        """Start the door with these keys, on the store that was there before."""
        self.model.keys = keys
        self.door = FrontDoor(
            idp=self._generous_idp,
            settings={
                "secret_keys": keys,
                "store_url": self._store,
                "resources": RESOURCES,
                "access_tokens": "own",
                "refresh_token_days": REFRESH_TOKEN_DAYS,
                "consent_days": CONSENT_DAYS,
                "allowed_groups": GROUP,
            },
            clients=SqliteClientStore(Database(self._store)),
            metadata=PlayedMetadata(replace(METADATA, sends_issuer=True, userinfo_endpoint=f"{IDP}/userinfo")),
            now=self.model.now,
            pipeline=self._pipeline,
            idp_requests=self._idp_requests,
        )
        await self.door.__aenter__()
        self._database = Database(self._store)
        self._revocations = Revocations(SqliteRevocationStore(self._database), self.model.now)
        self._mcp_server = Checker(settings={"secret_keys": keys}, revocations=self._revocations)

    async def _generous_idp(self, request: httpx.Request) -> httpx.Response:
        """The identity provider, which grants one scope more than it is asked for, and knows who is in which group."""
        if request.url.path == "/userinfo":
            return httpx.Response(200, json={"sub": SUBJECT, "groups": [GROUP] if self.model.is_member else []})
        refreshes = request.url.path == "/token" and form_of(request)["grant_type"] == "refresh_token"
        if refreshes and not self.model.has_idp_session:
            return httpx.Response(400, json={"error": "invalid_grant"})
        response = await httpx.ASGITransport(self.provider.app).handle_async_request(request)
        content = await response.aread()
        if response.status_code != 200 or not content:
            return httpx.Response(response.status_code, headers=response.headers, content=content)
        members = json_of(response)
        # Its ID tokens would expire with the clock of the door, which steps.
        members.pop("id_token", None)
        return httpx.Response(200, json={**members, "scope": f"{members.get('scope', '')} {UNASKED}".strip()})

    async def closes(self) -> None:
        await self._revocations.aclose()
        await self._database.aclose()
        await self.door.__aexit__(None, None, None)

    @property
    def unused_codes(self) -> list[Code]:
        """The codes that a thief would go for."""
        return [code for code in self.codes if not code.grant.redeemed and self.model.is_fresh(code)]

    def gets_a_browser(self) -> Browser:
        browser = Browser(len(self.browsers))
        self.browsers.append(browser)
        return browser

    async def settles(self) -> None:
        """Let the door finish what no client waits for."""
        for _ in range(_TURNS):
            if self.only_promises or self._looked_at == self.expected or counted(self._pipeline) == self.expected:
                return
            await asyncio.sleep(0)

    def counts_as_expected(self) -> None:
        """Every request is counted once, as what it was."""
        if self.only_promises or self._looked_at == self.expected:
            return  # what is counted is predicted; and nothing new if nothing was asked since
        self._looked_at = self.expected.copy()
        is_counted = counted(self._pipeline)
        exchanges = sum(request.url.path == "/token" for request in self._idp_requests)
        told = sum(value for (name, _), value in is_counted.items() if name == "oauth_token_exchanges_total")
        assert exchanges == told, "exchanges at the identity provider are those that are counted"
        assert is_counted == self.expected, (
            f"counts equal requests: {is_counted - self.expected} too many, {self.expected - is_counted} too few"
        )

    @contextmanager
    def predictions(self) -> Iterator[None]:
        """What is checked in here is predicted, not promised."""
        try:
            yield
        except AssertionError:
            assume(not self.only_promises)
            raise

    def ends(
        self, response: httpx.Response, predicted: Predicted, client: Software | None, state: str | None = None
    ) -> None:
        """Check the answer against what must always hold, and against what was predicted."""
        invariants.no_redirect_to_where_the_client_did_not_register(response, client)
        invariants.no_unforeseen_trouble(response, predicted.row)
        if self.only_promises and response.status_code >= 400 and predicted.row.error is not None:
            return  # refused for another reason, which broke nothing
        with self.predictions():
            invariants.every_error_is_well_formed(response, predicted.row, state)
            invariants.every_success_is_one(response, predicted.row)
        self.expected += counts_of(predicted)
        self.ended[predicted.row, predicted.again] += 1

    # What a browser does.

    async def browses(self, browser: Browser, method: str, path: str, **sent: Any) -> httpx.Response:
        """A request as a browser sends it."""
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.door.app),
            base_url=ISSUER,
            headers={"Accept": "text/html"},
            cookies=browser.cookies,
        )
        async with http:
            response = await http.request(method, path, **sent)
        browser.cookies = http.cookies
        return response

    async def asks(self, parameters: Mapping[str, str], asked: Asked) -> None:
        """A good authorization request."""
        predicted = self.model.asks(asked)
        response = await self.browses(asked.browser, "GET", "/oauth/authorize", params=parameters)
        if response.is_redirect:
            invariants.no_login_begins_unasked_that_others_may_have_begun(asked)
        self.ends(response, predicted, asked.client)
        if response.is_redirect:
            given = asked.browser.consents[asked.client.client_id, host_of(asked)]
            self._goes_on(asked, response.headers["location"], is_nobodys=not given.has_logged_in)
        else:
            self.questions.append(Question(asked=asked, sealed=self.model.sealed(request_in(response))))

    def _goes_on(self, asked: Asked, url: str, *, remember: bool = False, is_nobodys: bool = False) -> None:
        sealed = self.model.sealed(query_of(url)["state"])
        self.logins.append(Login(asked=asked, url=url, sealed=sealed, remember=remember, is_nobodys=is_nobodys))

    async def decides(
        self, question: Question, browser: Browser, decision: str | None, *, remember: bool = False
    ) -> None:
        predicted = self.model.decides(question, browser, decision)
        form = {"request": question.sealed.envelope}
        form |= ({"decision": decision} if decision else {}) | ({"remember": "on"} if remember else {})
        response = await self.browses(browser, "POST", "/oauth/consent", data=form)
        asked = question.asked
        if response.status_code == 200:
            invariants.no_login_ends_in_another_browser(asked, browser)
        self.ends(response, predicted, asked.client, asked.state)
        if predicted.row.error is None:
            if question.waiting is not None:
                self._gets_code(target_of(response), question.waiting)
            else:
                self._goes_on(asked, target_of(response), remember=remember)
            if remember:
                self.model.remembers(asked, has_logged_in=question.waiting is not None)

    async def is_taken_in(self, browser: Browser, page: httpx.Response) -> httpx.Response:
        """The end of a login that should not have begun."""
        form = {"request": request_in(page), "decision": "approve"}
        approved = await self.browses(browser, "POST", "/oauth/consent", data=form)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.provider.app)) as http:
            returned = query_of((await http.get(target_of(approved))).headers["location"])
        return await self.browses(browser, "GET", "/oauth/callback", params=returned)

    async def user_ends(self, grant: Granted, *, everything: bool) -> None:
        """End a grant, or all there are, on the account page, in a browser that nobody has used before."""
        browser = Browser(len(self.browsers))
        response = await self.browses(browser, "GET", "/oauth/account")
        self.ends(response, Predicted(row=AccountOutcome.REDIRECTED_TO_IDP), None)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.provider.app)) as http:
            returned = query_of((await http.get(response.headers["location"])).headers["location"])
        response = await self.browses(browser, "GET", "/oauth/callback", params=returned)
        exchange = (GrantType.AUTHORIZATION_CODE, True)
        self.ends(response, Predicted(row=CallbackOutcome.SIGNED_IN, exchange=exchange, looks_up=True), None)
        page = await self.browses(browser, "GET", "/oauth/account")
        self.ends(page, Predicted(row=AccountOutcome.SHOWN), None)
        form = {"request": request_in(page), "grant": "all" if everything else grant.grant_id}
        response = await self.browses(browser, "POST", "/oauth/account", data=form)
        self.ends(response, self.model.user_ends(grant, everything=everything), None)

    async def logs_in(self, login: Login) -> IdpCode:
        """Log in at the identity provider, which lets everybody in."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.provider.app)) as http:
            returned = query_of((await http.get(login.url)).headers["location"])
        assert returned["state"] == login.sealed.envelope
        code = IdpCode(login=login, value=returned["code"], issued_at=self.model.elapsed)
        self.idp_codes.append(code)
        return code

    async def returns(
        self,
        login: Login,
        browser: Browser,
        code: IdpCode | None,
        *,
        iss: str | None = "https://idp.example",
        error: str | None = None,
    ) -> Code | None:
        predicted = self.model.returns(login, browser, iss, error, code)
        parameters = {"state": login.sealed.envelope, "iss": iss, "error": error, "code": code.value if code else None}
        sent = {name: value for name, value in parameters.items() if value is not None}
        response = await self.browses(browser, "GET", "/oauth/callback", params=sent)
        asked = login.asked
        if response.is_redirect:
            invariants.no_login_ends_in_another_browser(asked, browser)
        if response.is_redirect and "code" in query_of(response.headers["location"]):
            invariants.nobody_gets_a_code_whom_the_rules_keep_out(is_member=self.model.is_member)
        self.ends(response, predicted, asked.client, asked.state)
        if predicted.row.error is not None:
            return None
        grant = Granted(asked=asked, login_at=int(self.model.now()))
        self.model.grants.append(grant)
        waiting = Waiting(login=login, idp=code, grant=grant, issued_at=self.model.elapsed)
        if predicted.row is CallbackOutcome.CONSENT_ASKED:
            sealed = self.model.sealed(request_in(response))
            self.questions.append(Question(asked=asked, sealed=sealed, waiting=waiting))
            return None
        if login.remember:
            self.model.remembers(asked, has_logged_in=True)
        return self._gets_code(response.headers["location"], waiting)

    def _gets_code(self, location: str, waiting: Waiting) -> Code:
        told = query_of(location)
        assert told.get("state") == waiting.login.asked.state
        code = Code(
            login=waiting.login,
            idp=waiting.idp,
            sealed=self.model.sealed(told["code"]),
            grant=waiting.grant,
            issued_at=waiting.issued_at,
        )
        self.codes.append(code)
        return code

    # What a client does.

    async def sends(self, path: str, form: Mapping[str, str | None], auth: Auth) -> httpx.Response:
        sent = {name: value for name, value in form.items() if value is not None}
        return (
            await self.door.http.post(path, data=sent, auth=auth)
            if auth
            else await self.door.http.post(path, data=sent)
        )

    def got_tokens(self, response: httpx.Response, sent: Redemption, predicted: Predicted) -> None:
        """Check the answer to a code, and keep the refresh token in it."""
        if response.status_code == 200:
            grant = sent.code.grant
            invariants.no_token_once_the_operator_has_ended_access(self.model.is_ended(grant, grant.login_at))
            invariants.no_token_without_the_matching_verifier(sent, sent.code)
            invariants.no_code_works_twice_or_late_or_for_others(sent, sent.code)
        self.ends(response, predicted, None)
        if response.status_code == 200:
            tokens, asked = json_of(response), sent.code.asked
            invariants.no_scope_that_the_user_was_not_shown(tokens.get("scope"), asked.scope)
            assert tokens.get("scope") == granted(asked.scope)
            self._keeps(tokens, sent.code.grant, 0, sent.code.issued_at)

    def got_tokens_again(self, response: httpx.Response, sent: Refresh, predicted: Predicted) -> None:
        """Check the answer to a refresh token, and keep the next one."""
        if response.status_code == 200:
            if not predicted.again:
                invariants.nobody_is_refreshed_whom_the_rules_keep_out(is_member=self.model.is_member)
            token, tokens = sent.token, json_of(response)
            grant = token.grant
            invariants.no_refresh_token_works_twice_or_for_others(sent, token, tokens, self.model.now())
            invariants.no_refresh_once_the_grant_is_revoked(grant)
            invariants.no_token_once_the_operator_has_ended_access(self.model.is_ended(grant, grant.login_at))
            self.ends(response, predicted, None)
            if not predicted.again:
                exchange = [request for request in self._idp_requests if request.url.path == "/token"][-1]
                invariants.no_refresh_widens_what_was_granted(form_of(exchange).get("scope"), tokens.get("scope"), sent)
                shown = token.grant.asked.scope if sent.scope is None else sent.scope
                invariants.no_scope_that_the_user_was_not_shown(tokens.get("scope"), shown)
                assert tokens.get("scope") == granted(shown)
                self._keeps(tokens, token.grant, token.generation + 1, self.model.elapsed)
            return
        self.ends(response, predicted, None)

    async def uses(self, token: AccessToken) -> None:
        """Go to the MCP server, which has read what is in the store by now."""
        await self._revocations.read()
        self._mcp_server.now = self.model.now()
        try:
            await self._mcp_server.tokens.verify(token.sealed.envelope, token.grant.asked.resource)
        except AccessTokenError:
            works = False
        else:
            works = True
            invariants.no_access_once_the_grant_is_revoked(token)
        with self.predictions():
            assert works == self.model.admits(token), "an access token works until it expires or is revoked"

    async def operator_ends(self, how: str, grant: Granted) -> None:
        """Do what `seed-oauth grants revoke` does."""
        chosen = {
            "grant": Selection(grant_id=grant.grant_id),
            "user": Selection(subject_hash=hashed(SUBJECT)),
            "client": Selection(client_id=grant.asked.client.client_id),
            "everybody": Selection(),
        }[how]
        database, now = Database(self._store), self.model.now
        revocations = Revocations(SqliteRevocationStore(database), now)
        lifetime = REFRESH_TOKEN_DAYS * DAY
        await GrantRevocation(SqliteGrantStore(database), revocations, now, lifetime=lifetime).revoke(chosen)
        await database.aclose()
        self.model.ends(how, grant)

    def _keeps(self, tokens: Mapping[str, Any], grant: Granted, generation: int, issued_at: float) -> None:
        assert tokens["token_type"] == "Bearer"
        sealer = Sealer(self.model.keys, ISSUER)
        grant.grant_id = SealedAccessToken.opened(sealer, tokens["access_token"], self.model.now()).grant_id
        self.access_tokens.append(
            AccessToken(
                grant=grant,
                sealed=self.model.sealed(tokens["access_token"]),
                expires_at=int(self.model.now()) + tokens["expires_in"],
            )
        )
        self.refresh_tokens.append(
            RefreshToken(
                grant=grant,
                generation=generation,
                idp=IdpRefreshToken(issued_at=issued_at),
                sealed=self.model.sealed(tokens["refresh_token"]),
            )
        )
