"""Who a user is: from the ID token, from userinfo and from GitHub's API, as they are documented."""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256, sha384
from typing import Any

import httpx
import pytest

from seed_oauth import Pipeline, Settings
from seed_oauth.access.identity import Identity
from seed_oauth.identity_provider.failures import IdentityProviderError, IdentityProviderFailure
from seed_oauth.identity_provider.metadata import ProviderMetadata
from seed_oauth.identity_provider.open import open_identity_provider
from tests.harness import FrontDoor
from tests.resource_server.issuing import IDP, NOW, SETTINGS, ec_key, rsa_key, signed

pytestmark = pytest.mark.anyio

METADATA = ProviderMetadata(issuer=IDP, jwks_uri=f"{IDP}/keys", userinfo_endpoint=f"{IDP}/userinfo")
API = "https://api.github.com/user"
GITHUB: Mapping[str, Any] = {"idp_issuer": "https://github.com/login/oauth", "idp_preset": "github"}
FOR_ADDRESSES: Mapping[str, Any] = {"allowed_emails": "ann@example.com"}


class Played:
    """An identity provider with keys, and what it answers at each URL; it remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.answers = {**(answers or {})}
        self.requests: list[httpx.Request] = []
        self.pipeline = Pipeline()
        parts = open_identity_provider(
            Settings(**{**SETTINGS, **settings}), self.pipeline, transport=httpx.MockTransport(self), now=lambda: NOW
        )
        self.identification = parts.identification

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [rsa_key().as_dict(private=False)]})
        self.requests.append(request)
        answer = self.answers[str(request.url)]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    async def identify(
        self,
        id_token: object = None,
        *,
        metadata: ProviderMetadata = METADATA,
        has_asked: bool = True,
        subject: str | None = None,
    ) -> Identity | None:
        tokens = {"access_token": "at"} | ({} if id_token is None else {"id_token": id_token})
        return await self.identification.identify(tokens, metadata, has_asked=has_asked, subject=subject)

    async def fails(self, *args: Any, **options: Any) -> IdentityProviderError:
        with pytest.raises(IdentityProviderError) as failure:
            await self.identify(*args, **options)
        return failure.value

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]


def id_token(key: Any = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """A good ID token, but for `changes`; None leaves a claim out."""
    good = {"iss": IDP, "aud": "proxy", "sub": "ann", "exp": NOW + 300, "iat": NOW}
    said = {name: value for name, value in {**good, **changes}.items() if value is not None}
    return signed(said, key, **{"typ": "JWT", **(header or {})})


def at_hash(access_token: str, algorithm: Any = sha256) -> str:
    digest = algorithm(access_token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": ["proxy"]},
        {"aud": ["proxy", "other"], "azp": "proxy"},
        {"azp": "proxy"},
        {"exp": NOW - 59},
        {"at_hash": at_hash("at")},
    ],
)
async def test_an_id_token_for_this_server_says_who_it_is_without_another_request(changes: Mapping[str, Any]) -> None:
    idp = Played(**FOR_ADDRESSES)
    told = await idp.identify(id_token(email="ann@example.com", email_verified=True, **changes))
    assert told == Identity(IDP, "ann", "ann@example.com", email_verified=True)
    assert idp.requests == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"aud": "other"}, "is for another client"),
        ({"aud": None}, "is for another client"),
        ({"aud": ["proxy", "other"]}, "is for another client"),
        ({"aud": ["proxy", "other"], "azp": "other"}, "is for another client"),
        ({"azp": "other"}, "is for another client"),
        ({"iss": "https://other.example"}, "is of another issuer"),
        ({"iss": None}, "is of another issuer"),
        ({"exp": NOW - 60}, "has expired, or a clock is wrong"),
        ({"exp": "soon"}, "has expired, or a clock is wrong"),
        ({"exp": None}, "has expired, or a clock is wrong"),
        ({"at_hash": at_hash("other")}, "belongs to another access token"),
        ({"at_hash": at_hash("at", sha384)}, "belongs to another access token"),
        ({"at_hash": 7}, "belongs to another access token"),
        ({"key": rsa_key("other")}, "is not signed with a key that the identity provider publishes"),
        ({"key": ec_key(), "header": {"kid": "rsa"}}, "is not signed with a key that the identity provider publishes"),
    ],
)
async def test_an_id_token_that_is_not_for_this_login_is_refused(changes: dict[str, Any], problem: str) -> None:
    """THREATS 37 (OpenID Connect Core §3.1.3.7)"""
    failure = await Played().fails(id_token(**changes))
    assert (failure.failure, str(failure)) == (IdentityProviderFailure.BAD_ID_TOKEN, f"the ID token {problem}")


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "é.é.é", ""])
async def test_what_is_no_id_token_is_refused_where_one_was_asked_for(token: str) -> None:
    assert str(await Played().fails(token)) == "the ID token is not a JWT"
    assert await Played().identify(token, has_asked=False) is None


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_an_id_token_that_no_public_key_verifies_is_refused(algorithm: str) -> None:
    """THREATS 37"""
    header, payload, signature = id_token().split(".")
    header = urlsafe_b64encode(b'{"alg":"%s"}' % algorithm.encode()).rstrip(b"=").decode()
    told = str(await Played().fails(f"{header}.{payload}.{signature}"))
    assert told == "the ID token is not signed with a public key: choose RS256 or ES256 for this client"


async def test_without_known_keys_tls_vouches_for_the_id_token() -> None:
    """OpenID Connect Core §3.1.3.7, number 6."""
    metadata = ProviderMetadata(issuer=None)
    told = await Played().identify(id_token(rsa_key("other")), metadata=metadata)
    assert told == Identity(None, "ann")
    assert (await Played().fails(id_token(aud="other"), metadata=metadata)).failure.value == "bad_id_token"


async def test_an_issuer_for_several_tenants_vouches_for_each_of_them() -> None:
    tenant = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
    metadata = ProviderMetadata(issuer="https://login.example/{tenantid}/v2.0", jwks_uri=f"{IDP}/keys")
    idp = Played(idp_tenant_claim="tid", allowed_tenants=tenant)
    issuer = f"https://login.example/{tenant}/v2.0"
    told = await idp.identify(id_token(iss=issuer, tid=tenant), metadata=metadata)
    assert told is not None
    assert told.tenant == tenant
    other = "9eaef023-2b34-4da1-9baa-8bc8c9d6a490"
    assert str(await idp.fails(id_token(iss=issuer, tid=other), metadata=metadata)) == (
        "the ID token is of another issuer"
    )


async def test_userinfo_says_what_the_id_token_does_not_and_is_sent_no_credentials_of_ours() -> None:
    userinfo = {"sub": "ann", "email": "ann@example.com", "email_verified": True, "groups": ["staff"]}
    idp = Played({f"{IDP}/userinfo": userinfo}, **FOR_ADDRESSES)
    told = await idp.identify(id_token(name="Ann"))
    assert told == Identity(IDP, "ann", "ann@example.com", email_verified=True, name="Ann", groups=("staff",))
    (request,) = idp.requests
    assert (request.method, request.headers["authorization"], request.content) == ("GET", "Bearer at", b"")
    labels = {"operation": "userinfo", "outcome": "ok"}
    assert await FrontDoor(pipeline=idp.pipeline).value("oauth_idp_requests_total", **labels) == 1
    assert await FrontDoor(pipeline=idp.pipeline).value("oauth_idp_request_duration_seconds_count", **labels) == 1


async def test_userinfo_about_another_user_is_refused() -> None:
    """THREATS 37 (OpenID Connect Core §5.3.2)"""
    idp = Played({f"{IDP}/userinfo": {"sub": "bob", "email": "bob@example.com", "email_verified": True}},
                 **FOR_ADDRESSES)  # fmt: skip
    failure = await idp.fails(id_token())
    assert failure.failure is IdentityProviderFailure.WRONG_SUBJECT


@pytest.mark.parametrize("answer", [{"email": "ann@example.com"}, [], ["sub"]])
async def test_userinfo_without_a_subject_is_no_answer(answer: object) -> None:
    failure = await Played({f"{IDP}/userinfo": answer}, **FOR_ADDRESSES).fails(id_token())
    assert failure.failure is IdentityProviderFailure.INVALID_RESPONSE


async def test_an_address_of_userinfo_is_not_verified_because_that_of_the_id_token_is() -> None:
    idp = Played({f"{IDP}/userinfo": {"sub": "ann", "email": "boss@example.com"}}, allowed_groups="a", **FOR_ADDRESSES)
    told = await idp.identify(id_token(email="ann@evil.example", email_verified=True))
    assert told is not None
    assert (told.email, told.email_verified) == ("boss@example.com", False)


async def test_without_rules_nothing_is_looked_up() -> None:
    idp = Played()
    assert await idp.identify(id_token()) == Identity(IDP, "ann")
    assert await idp.identify() is None
    assert idp.requests == []


async def test_without_an_id_token_userinfo_says_who_it_is() -> None:
    idp = Played({f"{IDP}/userinfo": {"sub": "ann"}}, allowed_subjects="ann")
    assert await idp.identify() == Identity(IDP, "ann")
    # At a refresh the subject is known.
    assert await idp.identify(subject="ann") is None
    assert len(idp.requests) == 1
    assert await Played(allowed_subjects="ann").identify(metadata=ProviderMetadata(issuer=IDP)) is None


async def test_userinfo_that_refuses_our_access_tokens_is_not_asked() -> None:
    """Entra ID's is Microsoft Graph's."""
    idp = Played(idp_preset="entra", **FOR_ADDRESSES)
    told = await idp.identify(id_token(email="ann@example.com", email_verified=True))
    assert told is not None
    assert not told.email_verified
    assert idp.requests == []


async def test_an_id_token_of_another_user_than_the_one_who_has_logged_in_is_refused() -> None:
    """THREATS 37 (OpenID Connect Core §12.2)"""
    failure = await Played().fails(id_token(sub="bob"), subject="ann")
    assert failure.failure is IdentityProviderFailure.WRONG_SUBJECT
    assert await Played().identify(id_token(), subject="ann") == Identity(IDP, "ann")


FAILURES = {
    401: (httpx.Response(401, json={"error": "invalid_token"}), "unexpected_status", None),
    403: (httpx.Response(403, json={"message": "Forbidden"}), "unexpected_status", None),
    404: (httpx.Response(404), "unexpected_status", None),
    429: (httpx.Response(429, headers={"Retry-After": "7"}), "rate_limited", 7),
    # https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors
    "primary": (httpx.Response(403, headers={"X-RateLimit-Remaining": "0"}), "rate_limited", None),
    "secondary": (httpx.Response(403, headers={"Retry-After": "60"}), "rate_limited", 60),
    500: (httpx.Response(500), "server_error", None),
    "text": (httpx.Response(200, text="<html>"), "invalid_response", None),
    "number": (httpx.Response(200, json=7), "invalid_response", None),
    "large": (httpx.Response(200, content=b" " * (1024 * 1024 + 1)), "invalid_response", None),
    "slow": (httpx.ReadTimeout("slow"), "timeout", None),
    "gone": (httpx.ConnectError("gone"), "unreachable", None),
}


@pytest.mark.parametrize(("answer", "failure", "retry_after"), FAILURES.values(), ids=map(str, FAILURES))
async def test_a_look_up_that_fails_is_never_a_refusal(answer: object, failure: str, retry_after: int | None) -> None:
    """THREATS 37"""
    found = await Played({f"{IDP}/userinfo": answer}, **FOR_ADDRESSES).fails(id_token())
    assert (found.failure.value, found.retry_after) == (failure, retry_after)
    assert "at" not in found.log_fields.values()


async def test_an_idp_that_does_not_respond_is_not_asked_who_a_user_is_for_a_while() -> None:
    idp = Played({f"{IDP}/userinfo": httpx.ConnectError("gone")}, **FOR_ADDRESSES)
    failures = [(await idp.fails(id_token())).failure.value for _ in range(11)]
    assert failures == ["unreachable"] * 10 + ["circuit_open"]


# What GitHub's API answers, in the forms of its documentation:
# https://docs.github.com/en/rest/users/users#get-the-authenticated-user
USER = {"login": "octocat", "id": 583231, "name": "The Octocat", "email": "public@example.com", "type": "User"}
# https://docs.github.com/en/rest/users/emails#list-email-addresses-for-the-authenticated-user
EMAILS = [
    {"email": "other@example.com", "verified": True, "primary": False, "visibility": None},
    {"email": "octocat@github.com", "verified": True, "primary": True, "visibility": "public"},
]
# https://docs.github.com/en/rest/orgs/orgs#list-organizations-for-the-authenticated-user
ORGS = [{"login": "github", "id": 1, "url": "https://api.github.com/orgs/github", "description": "A great org"}]
# https://docs.github.com/en/rest/teams/teams#list-teams-for-the-authenticated-user
TEAMS = [{"id": 1, "name": "Justice League", "slug": "justice-league", "organization": {"login": "github", "id": 1}}]
PAGE = "?per_page=100&page={}"
GITHUB_METADATA = ProviderMetadata(issuer=GITHUB["idp_issuer"], userinfo_endpoint=API)


def github(answers: Mapping[str, Any] | None = None, **settings: Any) -> Played:
    documented = {
        API: USER,
        f"{API}/emails{PAGE.format(1)}": EMAILS,
        f"{API}/orgs{PAGE.format(1)}": ORGS,
        f"{API}/teams{PAGE.format(1)}": TEAMS,
    }
    return Played({**documented, **(answers or {})}, **GITHUB, **settings)


@pytest.mark.parametrize(
    ("settings", "paths", "changes"),
    [
        ({"allow_everybody": True}, ["/user"], {}),
        ({"allowed_subjects": "583231"}, ["/user"], {}),
        ({"allowed_emails": "octocat@github.com"}, ["/user", "/user/emails"],
         {"email": "octocat@github.com", "email_verified": True}),
        ({"allowed_github_orgs": "github"}, ["/user", "/user/orgs"], {"groups": ("github",)}),
        ({"denied_github_teams": "github/x", "allow_everybody": True}, ["/user", "/user/teams"],
         {"groups": ("github/justice-league",)}),
    ],
)  # fmt: skip
async def test_github_is_asked_for_no_more_than_the_rules_need(
    settings: Mapping[str, Any], paths: list[str], changes: Mapping[str, Any]
) -> None:
    idp = github(**settings)
    told = await idp.identify(metadata=GITHUB_METADATA, has_asked=False)
    expected = Identity(GITHUB["idp_issuer"], "583231", name="The Octocat")
    assert told == expected._replace(**changes)
    assert idp.paths == paths


async def test_at_a_refresh_github_is_asked_again_only_where_a_rule_needs_more_than_the_subject() -> None:
    idp = github(allowed_subjects="583231")
    assert await idp.identify(metadata=GITHUB_METADATA, subject="583231") is None
    assert idp.requests == []
    idp = github(allowed_github_orgs="github")
    told = await idp.identify(metadata=GITHUB_METADATA, subject="583231")
    assert told is not None
    assert told.groups == ("github",)
    assert (await github(allowed_github_orgs="x").fails(metadata=GITHUB_METADATA, subject="7")).failure.value == (
        "wrong_subject"
    )


async def test_an_address_of_github_counts_only_if_it_is_the_primary_one() -> None:
    unverified = [{**EMAILS[1], "verified": False}, EMAILS[0]]
    for emails, email in ((unverified, "octocat@github.com"), ([EMAILS[0]], None), ([], None)):
        idp = github({f"{API}/emails{PAGE.format(1)}": emails}, **FOR_ADDRESSES)
        told = await idp.identify(metadata=GITHUB_METADATA)
        assert told is not None
        assert (told.email, told.email_verified) == (email, False)


async def test_a_user_without_a_name_goes_by_their_login() -> None:
    idp = github({API: {**USER, "name": None}}, allow_everybody=True)
    told = await idp.identify(metadata=GITHUB_METADATA)
    assert told is not None
    assert told.name == "octocat"


@pytest.mark.parametrize(
    ("number", "pages", "known"), [(100, 2, True), (150, 2, True), (200, 3, True), (300, 3, False)]
)
async def test_long_lists_are_read_page_by_page_and_no_further_than_they_are_of_use(
    number: int, pages: int, known: bool
) -> None:
    orgs = [{"login": f"org{one}"} for one in range(number)]
    answers = {f"{API}/orgs{PAGE.format(page)}": orgs[100 * (page - 1) : 100 * page] for page in (1, 2, 3, 4)}
    idp = github(answers, allowed_github_orgs="org1")
    told = await idp.identify(metadata=GITHUB_METADATA)
    assert told is not None
    assert len(idp.requests) == 1 + pages
    assert told.has_too_many_groups is not known
    assert told.groups == (tuple(org["login"] for org in orgs) if known else None)


@pytest.mark.parametrize(
    "answers",
    [
        {API: []},
        {API: {"login": "octocat"}},
        {f"{API}/emails{PAGE.format(1)}": {"message": "x"}},
        {f"{API}/emails{PAGE.format(1)}": ["x"]},
        {f"{API}/orgs{PAGE.format(1)}": [{"id": 1}]},
        {f"{API}/teams{PAGE.format(1)}": [{"slug": "x", "organization": None}]},
    ],
)
async def test_answers_of_another_form_say_nothing(answers: Mapping[str, Any]) -> None:
    rules = {"allowed_emails": "a@b.example", "allowed_github_orgs": "x", "allowed_github_teams": "x/y"}
    failure = await github(answers, **rules).fails(metadata=GITHUB_METADATA)
    assert failure.failure is IdentityProviderFailure.INVALID_RESPONSE
