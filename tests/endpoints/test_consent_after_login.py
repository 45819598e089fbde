"""A consent that a browser remembers is its user's: anybody else is asked after their login, before there is a code."""

from typing import Any

import httpx
import pytest

from seed_oauth.clients import Client
from seed_oauth.envelopes.seal import Purpose, Sealer
from seed_oauth.outcomes import CallbackOutcome, ConsentOutcome, TokenOutcome
from tests.broker import BrokerDoor, Clock, KnownClients, id_jwt, link_in, request_in, target_of
from tests.harness import CALLBACK, SETTINGS, code_request, increases, json_of, query_of

pytestmark = pytest.mark.anyio

APP = KnownClients(Client(client_id="public", issued_at=1, redirect_uris=(CALLBACK,), metadata={"client_name": "App"}))


class Door(BrokerDoor):
    """A door at which a test decides who logs in."""

    def __init__(self, **options: Any) -> None:
        self.user, self.nonce = "ann", ""
        super().__init__(idp=self._answer, clients=APP, **options)
        self.settings = {"idp_scopes": "openid", **self.settings}

    def _answer(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": "at", "id_token": id_jwt(sub=self.user, nonce=self.nonce)})

    async def comes_back(self, at_idp: str) -> httpx.Response:
        asked = query_of(at_idp)
        self.nonce = asked["nonce"]
        return await self.person.returns(code="c", state=asked["state"])

    async def ann_has_consented(self, *, until_the_end: bool = True) -> None:
        page = await self.person.opens(scope="mail")
        onward = target_of(await self.person.decides(page, remember="on"))
        if until_the_end:
            assert (await self.comes_back(onward)).is_redirect

    async def logs_in_without_being_asked(self) -> httpx.Response:
        return await self.comes_back((await self.person.opens(scope="mail")).headers["location"])


async def test_who_has_consented_before_is_not_asked_again() -> None:
    async with Door() as door:
        await door.ann_has_consented()
        for _ in range(2):
            returned = await door.logs_in_without_being_asked()
            code = query_of(returned.headers["location"])["code"]
            assert (await door.token(code_request(code=code))).status_code == 200


async def test_somebody_else_at_the_browser_is_asked_after_their_login_and_before_there_is_a_code() -> None:
    """THREATS 24"""
    async with Door() as door:
        await door.ann_has_consented()
        door.user = "bob"
        before = await door.samples()
        page = await door.logs_in_without_being_asked()
        assert page.status_code == 200
        assert "wants to use" in page.text
        assert "Unnamed application" not in page.text
        assert "code=" not in page.text
        grown = increases(before, await door.samples())
        assert {name: by for name, by in grown.items() if "idp" not in name and "exchange" not in name} == {
            'oauth_authorization_requests_total{result="success"}': 1,
            "oauth_authorization_wait_seconds_count{}": 1,
            'oauth_callbacks_total{result="success"}': 1,
        }
        before = await door.samples()
        allowed = await door.person.decides(page)
        answer = query_of(target_of(allowed))
        assert (answer["state"], answer["iss"]) == ("opaque state", "https://door.example")
        assert increases(before, await door.samples()) == {'oauth_consent_decisions_total{decision="approved"}': 1}
        assert (await door.token(code_request(code=answer["code"]))).status_code == 200
        # Nothing is remembered of Bob, who has not ticked the box.
        assert (await door.logs_in_without_being_asked()).status_code == 200


async def test_who_denies_after_their_login_lets_no_code_out() -> None:
    async with Door() as door:
        await door.ann_has_consented()
        door.user = "bob"
        page = await door.logs_in_without_being_asked()
        before = await door.samples()
        denied = await door.person.decides(page, "deny")
        assert denied.status_code == 200
        assert "You denied access" in denied.text
        assert query_of(link_in(denied))["error"] == "access_denied"
        assert "code" not in query_of(link_in(denied))
        assert increases(before, await door.samples()) == {
            'oauth_consent_decisions_total{decision="denied"}': 1,
            'oauth_errors_total{cause="user",endpoint="consent",reason="denied_after_login"}': 1,
        }
        assert await door.error_count(ConsentOutcome.DENIED_AFTER_LOGIN) == 1


async def test_who_ticks_the_box_after_their_login_is_remembered_in_place_of_the_other() -> None:
    async with Door() as door:
        await door.ann_has_consented()
        door.user = "bob"
        await door.person.decides(await door.logs_in_without_being_asked(), remember="on")
        assert (await door.logs_in_without_being_asked()).is_redirect
        door.user = "ann"
        assert (await door.logs_in_without_being_asked()).status_code == 200


async def test_a_consent_whose_login_never_ended_is_nobodys() -> None:
    async with Door() as door:
        await door.ann_has_consented(until_the_end=False)
        page = await door.logs_in_without_being_asked()
        assert page.status_code == 200
        await door.person.decides(page, remember="on")
        assert (await door.logs_in_without_being_asked()).is_redirect


async def test_a_consent_that_an_earlier_version_remembered_is_nobodys() -> None:
    async with Door() as door:
        await door.ann_has_consented()
        sealer = Sealer(list(SETTINGS["secret_keys"]), "https://door.example")
        (cookie,) = [one for one in door.person.http.cookies.jar if "consent" in one.name]
        given = sealer.open(Purpose.REMEMBERED_CONSENT, cookie.value or "", lifetime=9e9, now=door.now())
        cookie.value = sealer.seal(Purpose.REMEMBERED_CONSENT, given[:5], door.now())
        assert (await door.logs_in_without_being_asked()).status_code == 200


async def test_nobody_else_can_answer_for_who_has_logged_in() -> None:
    """THREATS 4"""
    async with Door() as door:
        await door.ann_has_consented()
        door.user = "bob"
        page = await door.logs_in_without_being_asked()
        refused = await door.somebody().http.post(
            "/oauth/consent", data={"request": request_in(page), "decision": "approve"}
        )
        assert refused.status_code == 403
        assert await door.error_count(ConsentOutcome.OTHER_BROWSER) == 1


@pytest.mark.parametrize(("seconds", "row"), [(600, None), (601, ConsentOutcome.EXPIRED)])
async def test_the_tokens_wait_as_long_as_the_page(seconds: int, row: ConsentOutcome | None) -> None:
    clock = Clock()
    async with Door(now=clock) as door:
        await door.ann_has_consented()
        door.user = "bob"
        page = await door.logs_in_without_being_asked()
        clock.seconds += seconds
        answer = await door.person.decides(page)
        if row is not None:
            assert await door.error_count(row) == 1
            return
        clock.seconds += 59
        code = query_of(target_of(answer))["code"]
        assert (await door.token(code_request(code=code))).status_code == 200


async def test_who_allows_twice_gets_no_second_grant() -> None:
    async with Door() as door:
        await door.ann_has_consented()
        door.user = "bob"
        page = await door.logs_in_without_being_asked()
        codes = [query_of(target_of(await door.person.decides(page)))["code"] for _ in range(2)]
        answers = [await door.token(code_request(code=code)) for code in codes]
        assert [answer.status_code for answer in answers] == [200, 400]
        assert json_of(answers[1])["error"] == "invalid_grant"
        assert await door.error_count(TokenOutcome.CODE_REUSED) == 1


async def test_who_may_not_come_in_is_not_even_asked() -> None:
    async with Door(settings={"allowed_subjects": "ann"}) as door:
        await door.ann_has_consented()
        door.user = "bob"
        assert (await door.logs_in_without_being_asked()).status_code == 403
        assert await door.error_count(CallbackOutcome.NOT_ALLOWED) == 1
