"""The state machine: who sends what to the door, in any order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from seed_oauth.outcomes import CallbackOutcome, ConsentOutcome, RevocationOutcome, TokenOutcome
from tests.model.logins import FOREIGN, REDIRECT_URIS, VERIFIERS, Logins, one_of, one_or_none, rarely, scopes, there_are
from tests.model.model import RESOURCES, Predicted, Redemption, Refresh
from tests.model.things import UNKNOWN, AccessToken, Code, Granted, Login, Question, RefreshToken, Software
from tests.model.world import Auth


@dataclass(frozen=True)
class Credentials:
    """How a client says who it is, and what comes of that."""

    form: dict[str, str]
    auth: Auth = None
    refusal: str | None = None


def credentials(client: Software, how: str = "right") -> Credentials:
    public = {"client_id": client.client_id}
    if how == "unknown":
        return Credentials({"client_id": UNKNOWN.client_id}, refusal="UNKNOWN_CLIENT")
    if how == "wrong secret":
        return Credentials({**public, "client_secret": "guessed"}, refusal="BAD_CLIENT_AUTHENTICATION")
    if client.secret is None:
        return Credentials(public)
    if how == "no secret":
        return Credentials(public, refusal="BAD_CLIENT_AUTHENTICATION")
    if client.method == "client_secret_basic":
        return Credentials({}, (client.client_id, client.secret))
    return Credentials({**public, "client_secret": client.secret})


ways_to_authenticate = st.sampled_from(["right"] * 9 + ["wrong secret", "no secret", "unknown"])
named_resources = st.sampled_from([None, None, *RESOURCES, FOREIGN])


class FlowMachine(Logins):
    """Clients, browsers, the identity provider, whoever steals from them, and the door's operator."""

    @initialize()
    def somebody_has_logged_in(self) -> None:
        """Something of every kind is there from the beginning, to be stolen, sent again or left to expire."""
        world = self.world
        world.gets_a_browser()
        world.gets_a_browser()
        self.registers("none", list(REDIRECT_URIS), also_bad=False)
        self.registers("client_secret_basic", list(REDIRECT_URIS), also_bad=False)
        for verifier in VERIFIERS:
            self.asks(world.software[0], world.browsers[0], 0, verifier, "mail files", (None, RESOURCES[0]), "opaque")
            self.approves(world.questions[-1], remember=verifier == VERIFIERS[1])
        self.logs_in_and_gets_tokens(world.logins[0], sends_redirect_uri=True, twice=False)
        self.logs_in(world.logins[1])
        self.returns(world.idp_codes[1])
        # Somebody whose name the identity provider tells.
        self.asks(world.software[0], world.browsers[1], 0, VERIFIERS[0], "openid mail", (None, RESOURCES[0]), "opaque")
        self.approves(world.questions[-1], remember=False)
        self.logs_in(world.logins[2])
        self.returns(world.idp_codes[2])
        # Their consent to a program on their machine is not to be remembered.
        self.asks(world.software[0], world.browsers[0], 2, VERIFIERS[0], "mail files", (None, RESOURCES[0]), "opaque")
        self.approves(world.questions[-1], remember=True)

    # Clients redeem codes.

    @there_are("logins")
    @rule(login=one_of("logins"), sends_redirect_uri=st.booleans(), twice=rarely)
    def logs_in_and_gets_tokens(self, login: Login, sends_redirect_uri: bool, twice: bool) -> None:
        """THREATS 3: perhaps redeemed twice at once."""
        idp = self.run(self.world.logs_in(login))
        code = self.run(self.world.returns(login, login.asked.browser, idp))
        if code is not None:
            uri = code.asked.redirect_uri if sends_redirect_uri else None
            self._redeems(_rightly(code, uri), credentials(code.asked.client), times=1 + twice)

    @there_are("codes")
    @rule(code=one_of("codes"), twice=rarely)
    def redeems(self, code: Code, twice: bool) -> None:
        """THREATS 2: perhaps again, perhaps late."""
        self._redeems(_rightly(code, code.asked.redirect_uri), credentials(code.asked.client), times=1 + twice)

    @there_are("unused_codes")
    @rule(code=one_of("unused_codes"))
    def redeems_and_redeems_again(self, code: Code) -> None:
        """THREATS 2: which ends the grant."""
        self.redeems(code, twice=False)
        self.redeems(code, twice=False)
        self._uses_all_of(code.grant)

    @there_are("codes")
    @rule(
        code=one_of("codes"),
        client=one_of("software") | st.none(),
        how=ways_to_authenticate,
        verifier=st.sampled_from([None, *VERIFIERS, "short"]),
        redirect_uri=st.sampled_from([None, *REDIRECT_URIS, "https://evil.example/callback"]),
        resource=named_resources,
    )
    def redeems_somehow(
        self,
        code: Code,
        client: Software | None,
        how: str,
        verifier: str | None,
        redirect_uri: str | None,
        resource: str | None,
    ) -> None:
        """THREATS 1 and 2: a stolen code, with whatever the thief can think of."""
        sent = Redemption(
            client=client or code.asked.client,
            code=code,
            verifier=verifier,
            redirect_uri=redirect_uri,
            resource=resource,
        )
        self._redeems(sent, credentials(sent.client, how))

    @there_are("unused_codes")
    @rule(code=one_of("unused_codes"), verifier=st.sampled_from([None, "", *VERIFIERS]))
    def redeems_with_another_verifier(self, code: Code, verifier: str | None) -> None:
        """THREATS 1: everything is right but for the verifier, which may be absent."""
        sent = Redemption(client=code.asked.client, code=code, verifier=verifier, redirect_uri=None, resource=None)
        self._redeems(sent, credentials(sent.client))

    @there_are("unused_codes")
    @rule(code=one_of("unused_codes"), client=one_of("software"))
    def another_client_redeems(self, code: Code, client: Software) -> None:
        """THREATS 2: everything is right but for the client, which may have stolen the code with its verifier."""
        sent = Redemption(client=client, code=code, verifier=code.asked.verifier, redirect_uri=None, resource=None)
        self._redeems(sent, credentials(client))

    @there_are("questions")
    @rule(number=st.integers(0, 9), as_what=st.sampled_from(["code", "refresh_token", "request", "state"]))
    def confuses_envelopes(self, number: int, as_what: str) -> None:
        """Each envelope is good for one thing."""
        world = self.world
        kept: dict[str, Sequence[Code | RefreshToken | Question | Login]] = {
            "code": world.codes,
            "refresh_token": world.refresh_tokens,
            "request": world.questions,
            "state": world.logins,
        }
        others = [thing.sealed.envelope for what, things in kept.items() if what != as_what for thing in things]
        self._presents(as_what, others[number % len(others)])

    def _presents(self, as_what: str, envelope: str) -> None:
        world, client = self.world, self.world.software[0]
        browser = world.browsers[0]
        if as_what == "request":
            response = self.run(
                world.browses(browser, "POST", "/oauth/consent", data={"request": envelope, "decision": "approve"})
            )
            world.ends(response, Predicted(row=ConsentOutcome.BAD_ENVELOPE), None)
        elif as_what == "state":
            response = self.run(
                world.browses(browser, "GET", "/oauth/callback", params={"state": envelope, "code": "x"})
            )
            world.ends(response, Predicted(row=CallbackOutcome.BAD_STATE), None)
        elif as_what == "code":
            form = _code_form(VERIFIERS[0], None, None) | {"code": envelope} | credentials(client).form
            world.ends(self.run(world.sends("/oauth/token", form, None)), Predicted(row=TokenOutcome.BAD_CODE), None)
        else:
            form = {"grant_type": "refresh_token", "refresh_token": envelope, **credentials(client).form}
            response = self.run(world.sends("/oauth/token", form, None))
            world.ends(response, Predicted(row=TokenOutcome.BAD_REFRESH_TOKEN), None)

    def _redeems(self, sent: Redemption, presented: Credentials, times: int = 1) -> None:
        form = _code_form(sent.verifier, sent.redirect_uri, sent.resource)
        form |= {"code": sent.code.sealed.envelope} | presented.form
        predicted = [self._unless_refused(presented, sent) for _ in range(times)]
        answers = self._answers(form, presented.auth, times)
        for response, one in zip(answers, predicted, strict=True):
            self.world.got_tokens(response, sent, one)

    def _unless_refused(self, presented: Credentials, sent: Redemption | Refresh) -> Predicted:
        if presented.refusal is not None:
            return Predicted(row=TokenOutcome[presented.refusal])
        return self.world.model.redeems(sent) if isinstance(sent, Redemption) else self.world.model.refreshes(sent)

    def _answers(self, form: dict[str, str | None], auth: Auth, times: int) -> list[httpx.Response]:
        """The answers to so many requests at once, those that were granted first."""

        async def at_once() -> list[httpx.Response]:
            return await asyncio.gather(*(self.world.sends("/oauth/token", form, auth) for _ in range(times)))

        return sorted(self.run(at_once()), key=lambda response: response.status_code)

    # Clients refresh, and revoke.

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), twice=rarely)
    def refreshes(self, token: RefreshToken, twice: bool) -> None:
        """THREATS 3 and 17: perhaps again, within the grace or after it, or twice at once."""
        sent = Refresh(client=token.grant.asked.client, token=token, scope=None, resource=None)
        self._refreshes(sent, credentials(sent.client), times=1 + twice)

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), after=st.sampled_from([1, 29, 31, 45]))
    def refreshes_and_refreshes_again(self, token: RefreshToken, after: int) -> None:
        """THREATS 17: with the same refresh token, before and after the end of the grace."""
        self.refreshes(token, twice=False)
        self.time_passes(after)
        self.refreshes(token, twice=False)
        self._uses_all_of(token.grant)

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), scope=scopes)
    def refreshes_narrowed(self, token: RefreshToken, scope: str | None) -> None:
        """THREATS 17: everything is right, and the scope may be a part of what was granted."""
        sent = Refresh(client=token.grant.asked.client, token=token, scope=scope, resource=None)
        self._refreshes(sent, credentials(sent.client))

    @there_are("logins")
    @rule(login=one_of("logins"), scope=st.sampled_from(["mail", "files"]))
    def logs_in_and_narrows(self, login: Login, scope: str) -> None:
        """THREATS 17: the first refresh asks for a part, perhaps one that was not granted."""
        before = len(self.world.refresh_tokens)
        self.logs_in_and_gets_tokens(login, sends_redirect_uri=True, twice=False)
        if len(self.world.refresh_tokens) > before:
            self.refreshes_narrowed(self.world.refresh_tokens[-1], scope)

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"))
    def refreshes_after_a_logout_at_the_identity_provider(self, token: RefreshToken) -> None:
        """THREATS 17: which refuses to refresh until there is a session again."""
        self.world.model.has_idp_session = False
        self.refreshes(token, twice=False)
        self.world.model.has_idp_session = True
        self.refreshes(token, twice=False)

    @there_are("refresh_tokens")
    @rule(
        token=one_of("refresh_tokens"),
        client=one_of("software") | st.none(),
        how=ways_to_authenticate,
        scope=scopes | st.just("mail  files"),
        resource=named_resources,
    )
    def refreshes_somehow(
        self, token: RefreshToken, client: Software | None, how: str, scope: str | None, resource: str | None
    ) -> None:
        """THREATS 17: a stolen refresh token, or a scope that was not granted."""
        sent = Refresh(client=client or token.grant.asked.client, token=token, scope=scope, resource=resource)
        self._refreshes(sent, credentials(sent.client, how))

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"))
    def refreshes_at_a_door_with_a_newer_key(self, token: RefreshToken) -> None:
        """While keys rotate, not all replicas have the newest: what it sealed comes back to one that has not."""
        self.the_door_restarts("rotate")
        self.refreshes(token, twice=False)
        self.counts_equal_requests()
        self.the_door_restarts("take back")

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), client=one_of("software"))
    def another_client_refreshes(self, token: RefreshToken, client: Software) -> None:
        """THREATS 17: everything is right but for the client."""
        sent = Refresh(client=client, token=token, scope=None, resource=None)
        self._refreshes(sent, credentials(client))

    def _refreshes(self, sent: Refresh, presented: Credentials, times: int = 1) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": sent.token.sealed.envelope, "scope": sent.scope}
        form |= {"resource": sent.resource} | presented.form
        predicted = [self._unless_refused(presented, sent) for _ in range(times)]
        answers = self._answers(form, presented.auth, times)
        for response, one in zip(answers, predicted, strict=True):
            self.world.got_tokens_again(response, sent, one)

    @rule(token=one_or_none("refresh_tokens"), client=one_of("software"), right=st.booleans(), how=ways_to_authenticate)
    def revokes(self, token: RefreshToken | None, client: Software, right: bool, how: str) -> None:
        """PROTOCOL V1: perhaps a token of another client, or none at all."""
        if token is not None and right:
            client = token.grant.asked.client
        presented = credentials(client, how)
        form = {"token": token.sealed.envelope if token else "an access token", **presented.form}
        predicted = Predicted(row=RevocationOutcome[presented.refusal]) if presented.refusal else None
        predicted = predicted or self.world.model.revokes(token, client)
        self.world.ends(self.run(self.world.sends("/oauth/revoke", form, presented.auth)), predicted, None)

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"))
    def revokes_and_goes_on(self, token: RefreshToken) -> None:
        """THREATS 17: with every access token of the grant."""
        self.revokes(token, token.grant.asked.client, right=True, how="right")
        self._uses_all_of(token.grant)

    @there_are("access_tokens")
    @rule(token=one_of("access_tokens"))
    def goes_to_the_mcp_server(self, token: AccessToken) -> None:
        self.run(self.world.uses(token))

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), login=one_of("logins"))
    def has_left_the_group_for_a_while(self, token: RefreshToken, login: Login) -> None:
        """THREATS 36: out at the next refresh and at the next login, and back with a new one."""
        self.world.model.is_member = False
        self.refreshes(token, twice=False)
        self.logs_in_and_gets_tokens(login, sends_redirect_uri=True, twice=False)
        self._uses_all_of(token.grant)
        self.world.model.is_member = True
        self.refreshes(token, twice=False)

    def _uses_all_of(self, grant: Granted) -> None:
        for access_token in self.world.access_tokens:
            if access_token.grant is grant:
                self.goes_to_the_mcp_server(access_token)

    # Time passes, and the operator does things.

    @there_are("refresh_tokens")
    @rule(
        token=one_of("refresh_tokens"),
        code=one_or_none("unused_codes"),
        how=st.sampled_from(["grant"] * 3 + ["user", "client", "everybody"]),
    )
    def the_operator_ends_access(self, token: RefreshToken, code: Code | None, how: str) -> None:
        """THREATS 29: of a grant, or of all that are like it, perhaps during a login."""
        if how == "user":
            code = next(iter(self.world.unused_codes), None)
        self.run(self.world.operator_ends(how, code.grant if code and how != "grant" else token.grant))
        self.refreshes(token, twice=False)
        self._uses_all_of(token.grant)
        if code:
            self.redeems(code, twice=False)

    @there_are("unused_codes")
    @rule(code=one_of("unused_codes"), how=st.sampled_from(["user", "client", "everybody"]))
    def the_operator_ends_access_during_a_login(self, code: Code, how: str) -> None:
        """THREATS 29: of all that are like it."""
        self.run(self.world.operator_ends(how, code.grant))
        self.redeems(code, twice=False)

    @there_are("refresh_tokens")
    @rule(token=one_of("refresh_tokens"), code=one_or_none("unused_codes"), everything=st.booleans())
    def the_user_ends_access(self, token: RefreshToken, code: Code | None, everything: bool) -> None:
        """THREATS 38: of an application, or of all, perhaps during a login."""
        self.run(self.world.user_ends(token.grant, everything=everything))
        self.refreshes(token, twice=False)
        self._uses_all_of(token.grant)
        if code:
            self.redeems(code, twice=False)

    @rule(seconds=st.sampled_from([1, 1, 1, 5, 5, 20, 29, 31, 31, 31, 59, 61, 61, 601, 1801, 43_201, 86_401]))
    def time_passes(self, seconds: int) -> None:
        self.world.model.elapsed += seconds

    @rule(hours=st.sampled_from([-1, 1]))
    def the_clock_of_the_door_steps(self, hours: int) -> None:
        self.world.model.ahead += hours * 3600

    @rule(what=st.sampled_from(["restart", "restart", "rotate", "rotate", "take back"]))
    def the_door_restarts(self, what: str) -> None:
        """On the same store; the newest of at most two keys seals."""
        keys = list(self.world.model.keys)
        if what == "rotate":
            keys = [self.next_key(), keys[0]]
        elif what == "take back":
            keys = keys[-1:]
        self.run(self.world.closes())
        self.run(self.world.opens(*keys))


def _rightly(code: Code, redirect_uri: str | None) -> Redemption:
    return Redemption(
        client=code.asked.client, code=code, verifier=code.asked.verifier, redirect_uri=redirect_uri, resource=None
    )


def _code_form(verifier: str | None, redirect_uri: str | None, resource: str | None) -> dict[str, str | None]:
    return {
        "grant_type": "authorization_code",
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
        "resource": resource,
    }
