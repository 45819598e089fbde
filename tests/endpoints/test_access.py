"""Who may come in: at the callback, before there is a code, and at each refresh (THREATS 36, 37)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from seed_oauth import Settings
from seed_oauth.envelopes.access_token import AccessToken
from seed_oauth.envelopes.seal import Purpose
from seed_oauth.outcomes import CallbackOutcome, Outcome, TokenOutcome
from tests.broker import BrokerDoor, link_in
from tests.harness import CALLBACK, SETTINGS, code_request, form_of, increases, json_of, query_of, refresh_request
from tests.harness import sealer_of as sealed_by
from tests.resource_server.issuing import rsa_key, signed

pytestmark = pytest.mark.anyio

DOCUMENTED = Path(__file__).parents[1] / "identity_provider" / "documented"
API = "https://api.github.com/user"
ANN = {"email": "ann@example.com", "email_verified": True}
STRANGER = {"sub": "20", "email": "stranger@elsewhere.example", "email_verified": True}
FOR_EXAMPLE = {"allowed_email_domains": "example.com", "contact": "it@example.com"}

Answer = Callable[[httpx.Request], httpx.Response]


@dataclass
class Google:
    """Google, as https://developers.google.com/identity/openid-connect/openid-connect documents it."""

    claims: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    issuer = "https://accounts.google.com"
    metadata: Mapping[str, Any] = field(
        default_factory=lambda: json.loads((DOCUMENTED / "google.json").read_text())["metadata"]["body"]
    )
    key: Any = None
    answers: dict[str, Answer] = field(default_factory=dict)
    """What it answers instead, by URL."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        if url in self.answers:
            return self.answers[url](request)
        if url == self.metadata["jwks_uri"]:
            return httpx.Response(200, json={"keys": [rsa_key().as_dict(private=False)]})
        if url != self.metadata["token_endpoint"]:
            return httpx.Response(200, json=self.metadata)
        tokens = {"access_token": "ya29.opaque", "expires_in": 3920, "scope": "openid", "token_type": "Bearer"}
        if form_of(request)["grant_type"] == "authorization_code":
            tokens["refresh_token"] = "1//refresh"
        return httpx.Response(200, json={**tokens, **self.id_token()})

    def id_token(self) -> dict[str, str]:
        good = {
            "iss": self.issuer, "azp": "proxy", "aud": "proxy", "sub": "10769150350006150715113082367",
            "iat": time(), "exp": time() + 3600, "nonce": self.nonce, "name": "Ann Example",
        }  # fmt: skip
        said = {name: value for name, value in {**good, **self.claims}.items() if value is not None}
        return {"id_token": signed(said, self.key, typ="JWT")}


@dataclass
class Github:
    """GitHub, as https://docs.github.com/en/rest/users and …/apps/creating-github-apps document it."""

    emails: list[dict[str, Any]] = field(default_factory=list)
    orgs: list[str] = field(default_factory=list)
    issuer = "https://github.com/login/oauth"
    answers: dict[str, Answer] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        url, query = str(request.url).partition("?")[::2]
        if url in self.answers:
            return self.answers[url](request)
        if url == "https://github.com/login/oauth/access_token":
            return httpx.Response(
                200, json={"access_token": "ghu_x", "expires_in": 28_800, "refresh_token": "ghr_x", "scope": "",
                           "token_type": "bearer"},
            )  # fmt: skip
        assert request.headers["authorization"] == "Bearer ghu_x"
        assert request.method == "GET"
        assert query in {"", "per_page=100&page=1"}
        listed = {"/emails": self.emails, "/orgs": [{"login": name, "id": 1} for name in self.orgs]}
        user = {"login": "octocat", "id": 583231, "name": None, "email": None}
        return httpx.Response(200, json=user if url == API else listed[url.removeprefix(API)])


def door_to(idp: Google | Github, **settings: Any) -> BrokerDoor:
    urls = {name: None for name in SETTINGS if name.startswith("idp_") and name.endswith("_url")}
    return BrokerDoor(idp=idp, settings={**urls, "idp_issuer": idp.issuer, "access_tokens": "own", **settings})


async def logs_in(door: BrokerDoor, idp: Google | Github, **asked: str | None) -> httpx.Response:
    """The answer of the callback to somebody who comes back from the identity provider."""
    at_idp = query_of(await door.person.reaches_idp(**asked))
    if isinstance(idp, Google):
        idp.nonce = at_idp["nonce"]
    return await door.person.returns(code="the code", state=at_idp["state"], iss=idp.issuer)


async def tokens_after(door: BrokerDoor, returned: httpx.Response) -> dict[str, Any]:
    return json_of(await door.token(code_request(code=query_of(returned.headers["location"])["code"])))


def opened(door: BrokerDoor, access_token: str) -> AccessToken:
    return AccessToken.opened(sealed_by(Settings(**{**SETTINGS, **door.settings})), access_token, time())


async def test_with_the_google_preset_a_stranger_sees_the_page_and_gets_no_code() -> None:
    """THREATS 36"""
    idp = Google(STRANGER)
    async with door_to(idp, **FOR_EXAMPLE) as door:
        before = await door.samples()
        with capture_logs() as lines:
            page = await logs_in(door, idp)
        assert page.status_code == 403
        assert "location" not in page.headers
        assert "This account may not use this server: ask it@example.com for access" in page.text
        assert f'href="{CALLBACK}?error=access_denied' in page.text
        assert f'href="{CALLBACK}?code' not in page.text
        assert increases(before, await door.samples()) == {
            'oauth_authorization_requests_total{result="success"}': 1,
            'oauth_callbacks_total{result="denied"}': 1,
            'oauth_consent_decisions_total{decision="approved"}': 1,
            'oauth_errors_total{cause="user",endpoint="callback",reason="not_allowed"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="discovery",outcome="ok"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="jwks",outcome="ok"}': 1,
            'oauth_idp_request_duration_seconds_count{operation="token",outcome="ok"}': 1,
            'oauth_idp_requests_total{operation="discovery",outcome="ok"}': 1,
            'oauth_idp_requests_total{operation="jwks",outcome="ok"}': 1,
            'oauth_idp_requests_total{operation="token",outcome="ok"}': 1,
            'oauth_token_exchange_duration_seconds_count{grant_type="authorization_code"}': 1,
            'oauth_token_exchanges_total{grant_type="authorization_code",result="success"}': 1,
        }
    line = next(line for line in lines if line.get("outcome") == "not_allowed")
    assert line["access"] == "ALLOWED_EMAIL_DOMAINS: no match"
    assert "elsewhere.example" not in str(lines)


async def test_whom_a_rule_allows_comes_in_and_the_mcp_server_is_told_who_it_is() -> None:
    idp = Google({**ANN, "hd": "example.com"})
    async with door_to(idp, allowed_email_domains="example.com") as door:
        onward = query_of(await door.person.reaches_idp(scope="mail"))
        assert onward["scope"] == "mail openid email"
        tokens = await tokens_after(door, await logs_in(door, idp, scope="mail"))
        assert "openid" not in tokens.get("scope", "")
        token = opened(door, tokens["access_token"])
        assert (token.email, token.name, token.tenant) == ("ann@example.com", "Ann Example", "example.com")
        assert token.subject == "10769150350006150715113082367"
        refreshed = json_of(await door.token(refresh_request(refresh_token=tokens["refresh_token"])))
        assert opened(door, refreshed["access_token"]).email == "ann@example.com"
        # The ID token has all that is needed: nothing else was asked.
        assert {request.url.host for request in door.idp_requests} == {
            "accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com"
        }  # fmt: skip


NOBODY_COMES_IN = {
    "unverified e-mail": ({**ANN, "email_verified": False}, "the e-mail address is not verified"),
    "no word about it": ({"email": "ann@example.com"}, "the e-mail address is not verified"),
    "hd alone": ({"hd": "example.com"}, "no e-mail address"),
    "a suffix": ({**ANN, "email": "ann@notexample.com"}, "no match"),
    "a subdomain": ({**ANN, "email": "ann@sub.example.com"}, "no match"),
    "a longer domain": ({**ANN, "email": "ann@example.com.evil.example"}, "no match"),
    "two domains": ({**ANN, "email": "ann@example.com@evil.example"}, "no match"),
    "a letter's twin": ({**ANN, "email": "ann@ex\u0430mple.com"}, "no match"),
    "no address": ({**ANN, "email": "example.com"}, "the e-mail address cannot be read"),
}


@pytest.mark.parametrize(("claims", "reason"), NOBODY_COMES_IN.values(), ids=NOBODY_COMES_IN)
async def test_what_is_nearly_an_address_at_the_domain_lets_nobody_in(claims: dict[str, Any], reason: str) -> None:
    """THREATS 36"""
    idp = Google(claims)
    idp.answers["https://openidconnect.googleapis.com/v1/userinfo"] = lambda _: httpx.Response(
        200, json={"sub": "10769150350006150715113082367", **claims}
    )
    async with door_to(idp, **FOR_EXAMPLE) as door:
        with capture_logs() as lines:
            assert (await logs_in(door, idp)).status_code == 403
        assert await door.error_count(CallbackOutcome.NOT_ALLOWED) == 1
    line = next(line for line in lines if line.get("outcome") == "not_allowed")
    assert line["access"] == f"ALLOWED_EMAIL_DOMAINS: {reason}"


@pytest.mark.parametrize("email", ["Ann@EXAMPLE.com", "ann@b\u00fccher.example", "ann@xn--bcher-kva.example"])
async def test_case_and_unicode_do_not_keep_anybody_out(email: str) -> None:
    idp = Google({**ANN, "email": email})
    async with door_to(idp, allowed_email_domains="example.com, B\u00dcCHER.example") as door:
        assert "code" in query_of((await logs_in(door, idp)).headers["location"])


ENTRA_TENANT = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"


@dataclass
class Entra(Google):
    """Entra ID with one tenant, whose forms of a login are those of Google."""

    issuer = f"https://login.microsoftonline.com/{ENTRA_TENANT}/v2.0"

    def __post_init__(self) -> None:
        documented = json.loads((DOCUMENTED / "entra.json").read_text())["metadata"]["body"]
        self.metadata = {**documented, "issuer": self.issuer, "userinfo_endpoint": "https://graph.microsoft.com/oidc"}


@pytest.mark.parametrize(
    ("rule", "claims", "reason"),
    [
        # https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference#groups-overage-claim
        ({"allowed_groups": "g"}, {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "x"}}},
         "ALLOWED_GROUPS: too many groups to be listed"),
        ({"allowed_groups": "g"}, {"groups": ["g", *map(str, range(200))]},
         "ALLOWED_GROUPS: too many groups to be listed"),
        ({"allowed_groups": "g"}, {}, "ALLOWED_GROUPS: the groups are not known"),
        ({"allowed_groups": "g"}, {"groups": ["x"]}, "ALLOWED_GROUPS: no match"),
        ({"denied_groups": "x"}, {"groups": ["g", "x"]}, "DENIED_GROUPS: matches"),
        # Its tokens have no claim for users without a role.
        ({"allowed_roles": "r"}, {}, "ALLOWED_ROLES: the roles are not known"),
        ({"denied_roles": "r"}, {}, "DENIED_ROLES: the roles are not known"),
        ({"allowed_roles": "r"}, {"roles": ["r", *map(str, range(200))]}, "ALLOWED_ROLES: the roles are not known"),
        ({"allowed_roles": "r"}, {"roles": ["x"]}, "ALLOWED_ROLES: no match"),
        ({"allowed_groups": "g", "denied_subjects": "7"}, {"groups": ["g"], "sub": "7"}, "DENIED_SUBJECTS: matches"),
        # Anybody can write any address into a tenant of their own, and upn tells that it is another one.
        ({"allowed_emails": "ann@example.com"}, {**ANN, "upn": "mallory@evil.example"},
         "ALLOWED_EMAILS: the e-mail address is not verified"),
        ({"allowed_tenants": "other"}, {"tid": ENTRA_TENANT}, "ALLOWED_TENANTS: no match"),
    ],
)  # fmt: skip
async def test_what_entra_does_not_vouch_for_lets_nobody_in(
    rule: dict[str, str], claims: dict[str, Any], reason: str
) -> None:
    """THREATS 36"""
    idp = Entra(claims)
    async with door_to(idp, **rule) as door:
        with capture_logs() as lines:
            assert (await logs_in(door, idp)).status_code == 403
    line = next(line for line in lines if line.get("outcome") == "not_allowed")
    assert line["access"] == reason


@pytest.mark.parametrize(
    ("changes", "key", "row"),
    [
        ({"aud": "another client", "azp": None}, None, CallbackOutcome.IDP_BAD_ID_TOKEN),
        ({"at_hash": "that of another token"}, None, CallbackOutcome.IDP_BAD_ID_TOKEN),
        ({"exp": time() - 3600}, None, CallbackOutcome.IDP_BAD_ID_TOKEN),
        ({}, rsa_key("another key"), CallbackOutcome.IDP_BAD_ID_TOKEN),
        ({"nonce": "that of another login"}, None, CallbackOutcome.IDP_WRONG_NONCE),
        ({"nonce": None}, None, CallbackOutcome.IDP_NO_NONCE),
    ],
)
async def test_an_id_token_that_is_not_for_this_login_lets_nobody_in(
    changes: dict[str, Any], key: Any, row: Outcome
) -> None:
    """THREATS 37"""
    idp = Google({**ANN, **changes}, key=key)
    async with door_to(idp, **FOR_EXAMPLE) as door:
        told = query_of((await logs_in(door, idp)).headers["location"])
        assert (told["error"], "code" in told) == ("server_error", False)
        assert await door.error_count(row) == 1


@pytest.mark.parametrize(
    ("answer", "row", "error"),
    [
        (httpx.Response(200, json={"sub": "another user", **ANN}), "IDP_WRONG_SUBJECT", "server_error"),
        (httpx.Response(500), "IDP_SERVER_ERROR", "temporarily_unavailable"),
        (httpx.Response(401), "IDP_UNEXPECTED_STATUS", "temporarily_unavailable"),
        (httpx.Response(200, text="<html>"), "IDP_INVALID_RESPONSE", "temporarily_unavailable"),
    ],
)
async def test_userinfo_that_fails_lets_nobody_in_and_never_ends_a_grant(
    answer: httpx.Response, row: str, error: str
) -> None:
    """THREATS 37 (OpenID Connect Core §5.3.2)"""
    idp = Google(dict(ANN))
    async with door_to(idp, **FOR_EXAMPLE) as door:
        refresh_token = (await tokens_after(door, await logs_in(door, idp)))["refresh_token"]
        idp.claims = {}
        idp.answers["https://openidconnect.googleapis.com/v1/userinfo"] = lambda _: answer
        told = query_of((await logs_in(door, idp)).headers["location"])
        assert (told["error"], "code" in told) == (error, False)
        assert await door.error_count(CallbackOutcome[row]) == 1
        refused = await door.token(refresh_request(refresh_token=refresh_token))
        assert (refused.status_code in {502, 503}, json_of(refused)["error"]) == (True, error)
        assert await door.error_count(TokenOutcome[row]) == 1
        idp.claims = dict(ANN)
        user = {"sub": "10769150350006150715113082367", **ANN}
        idp.answers["https://openidconnect.googleapis.com/v1/userinfo"] = lambda _: httpx.Response(200, json=user)
        assert (await door.token(refresh_request(refresh_token=refresh_token))).status_code == 200


async def test_a_look_up_that_fails_does_not_cost_the_refresh_token_that_the_identity_provider_takes_once() -> None:
    """RFC 9700 §4.14.2: it answers with a successor, and refuses the first one from then on."""
    idp = Google(dict(ANN))
    userinfo = "https://openidconnect.googleapis.com/v1/userinfo"
    async with door_to(idp, **FOR_EXAMPLE) as door:
        refresh_token = (await tokens_after(door, await logs_in(door, idp)))["refresh_token"]
        idp.claims = {}
        idp.answers[userinfo] = lambda _: httpx.Response(503)
        for _ in range(2):
            assert (await door.token(refresh_request(refresh_token=refresh_token))).status_code == 502
        idp.answers[userinfo] = lambda _: httpx.Response(200, json={"sub": "10769150350006150715113082367", **ANN})
        assert (await door.token(refresh_request(refresh_token=refresh_token))).status_code == 200
        grants = [form_of(sent)["grant_type"] for sent in door.idp_requests if sent.url.host == "oauth2.googleapis.com"]
        assert grants == ["authorization_code", "refresh_token"]


async def test_who_has_left_the_group_is_out_at_the_next_refresh() -> None:
    """THREATS 36"""
    idp = Entra({"groups": ["staff"]})
    settings = {"allowed_groups": "staff", "mcp_server": "http://127.0.0.1:9/mcp"}
    async with door_to(idp, **settings) as door:
        tokens = await tokens_after(door, await logs_in(door, idp))
        idp.claims = {"groups": ["alumni"]}
        with capture_logs() as lines:
            refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert (refused.status_code, json_of(refused)["error"]) == (400, "invalid_grant")
        assert await door.error_count(TokenOutcome.NOT_ALLOWED) == 1
        assert [line["access"] for line in lines if line.get("outcome") == "not_allowed"] == [
            "ALLOWED_GROUPS: no match"
        ]
        # The grant is over, also for the access token and for who is back in the group.
        authorization = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await door.http.post("/mcp", headers=authorization)).status_code == 401
        idp.claims = {"groups": ["staff"]}
        again = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert json_of(again)["error"] == "invalid_grant"
        assert await door.error_count(TokenOutcome.REFRESH_TOKEN_REVOKED) == 1


async def test_a_refresh_about_another_user_is_not_answered() -> None:
    """THREATS 37 (OpenID Connect Core §12.2)"""
    idp = Google(dict(ANN))
    async with door_to(idp, **FOR_EXAMPLE) as door:
        tokens = await tokens_after(door, await logs_in(door, idp))
        idp.claims = {**ANN, "sub": "another"}
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert (refused.status_code, json_of(refused)["error"]) == (502, "server_error")
        idp.claims = {**ANN, "aud": "another client"}
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert (refused.status_code, json_of(refused)["error"]) == (502, "server_error")
        for row in (TokenOutcome.IDP_WRONG_SUBJECT, TokenOutcome.IDP_BAD_ID_TOKEN):
            assert await door.error_count(row) == 1


@pytest.mark.parametrize(("rule", "status"), [({"allowed_groups": "staff"}, 200), ({"allowed_groups": "ops"}, 400)])
async def test_where_nothing_is_said_anew_the_rules_of_today_judge_what_was_said_last(
    rule: dict[str, str], status: int, tmp_path: Path
) -> None:
    class Silent(Entra):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            answer = super().__call__(request)
            if request.method == "POST" and form_of(request)["grant_type"] == "refresh_token":
                return httpx.Response(200, json={"access_token": "at", "token_type": "Bearer"})
            return answer

    idp = Silent({"groups": ["staff"]})
    store = {"store_url": f"sqlite:///{tmp_path}/store.db"}
    async with door_to(idp, allowed_groups="staff", **store) as door:
        tokens = await tokens_after(door, await logs_in(door, idp))
    async with door_to(idp, **rule, **store) as door:
        response = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert response.status_code == status


async def test_a_member_of_the_github_organization_comes_in_and_nobody_else() -> None:
    """THREATS 36"""
    idp = Github(orgs=["Acme"])
    async with door_to(idp, allowed_github_orgs="acme") as door:
        assert query_of(await door.person.reaches_idp())["scope"] == "read:org"
        tokens = await tokens_after(door, await logs_in(door, idp))
        token = opened(door, tokens["access_token"])
        assert (token.subject, token.name, token.groups) == ("583231", "octocat", ("Acme",))
        assert "read:org" not in tokens.get("scope", "")
        # Left, or hidden from the app by the organization.
        idp.orgs = ["other"]
        with capture_logs() as lines:
            assert (await logs_in(door, idp)).status_code == 403
            refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert json_of(refused)["error"] == "invalid_grant"
    assert {line["access"] for line in lines if line.get("outcome") == "not_allowed"} == {
        "ALLOWED_GITHUB_ORGS: no match, or the organization hides itself from this app"
    }


async def test_githubs_rate_limit_lets_nobody_in_and_passes() -> None:
    """THREATS 37"""
    idp = Github(orgs=["acme"])
    async with door_to(idp, allowed_github_orgs="acme") as door:
        tokens = await tokens_after(door, await logs_in(door, idp))
        limited = httpx.Response(403, json={"message": "API rate limit exceeded"}, headers={"Retry-After": "60"})
        idp.answers[f"{API}/orgs"] = lambda _: limited
        told = query_of((await logs_in(door, idp)).headers["location"])
        assert told["error"] == "temporarily_unavailable"
        refused = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert json_of(refused)["error"] == "temporarily_unavailable"
        del idp.answers[f"{API}/orgs"]
        assert (await door.token(refresh_request(refresh_token=tokens["refresh_token"]))).status_code == 200


@pytest.mark.parametrize(("verified", "status"), [(True, 302), (False, 403)])
async def test_at_github_the_primary_address_counts_if_it_is_verified(verified: bool, status: int) -> None:
    emails = [{"email": "ann@example.com", "verified": verified, "primary": True, "visibility": None}]
    idp = Github(emails=emails)
    async with door_to(idp, **FOR_EXAMPLE) as door:
        assert (await logs_in(door, idp)).status_code == status


async def test_who_may_not_come_in_can_try_another_account() -> None:
    idp = Google(dict(STRANGER))
    async with door_to(idp, **FOR_EXAMPLE) as door:
        page = await logs_in(door, idp)
        assert "Sign in with another account" in page.text
        again = query_of(link_in(page))
        assert again["prompt"] == "consent select_account"
        idp.claims, idp.nonce = dict(ANN), again["nonce"]
        returned = await door.person.returns(code="the code", state=again["state"], iss=idp.issuer)
        assert "access_token" in await tokens_after(door, returned)


async def test_without_a_contact_the_operator_is_named_and_a_program_gets_json() -> None:
    idp = Entra({"groups": []})
    async with door_to(idp, allowed_groups="staff") as door:
        at_idp = query_of(await door.person.reaches_idp())
        idp.nonce = at_idp["nonce"]
        door.person.http.headers["accept"] = "application/json"
        refused = await door.person.returns(code="the code", state=at_idp["state"])
        assert json_of(refused) == {
            "error": "access_denied",
            "error_description": "this account may not use this server: ask its operator for access",
        }


async def test_whom_the_identity_provider_does_not_name_stays_out() -> None:
    def idp(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": "at"})

    async with BrokerDoor(settings={"denied_subjects": "somebody"}, idp=idp) as door:
        state = query_of(await door.person.reaches_idp())["state"]
        assert (await door.person.returns(code="c", state=state)).status_code == 403


@pytest.mark.parametrize(("subject", "status"), [("ann", 200), ("bob", 400), (None, 400)])
async def test_of_the_user_of_an_earlier_versions_grant_only_the_subject_is_known(
    subject: str | None, status: int
) -> None:
    def idp(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": "at"})

    async with BrokerDoor(settings={"allowed_subjects": "ann"}, idp=idp) as door:
        sealer = sealed_by(Settings(**{**SETTINGS, **door.settings}))
        grant = ["grant", 0, "public", "mail", "https://door.example/mcp", subject, int(time()), "rt", "mail", "mail"]
        refresh_token = sealer.seal(Purpose.REFRESH_TOKEN, grant, time())
        assert (await door.token(refresh_request(refresh_token=refresh_token))).status_code == status
