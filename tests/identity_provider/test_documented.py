"""What widely used identity providers send, after their documentation, and what comes of it here.

Each file in `documented` is one of them: its metadata, its keys, what it answers at the token endpoint and what it
sends browsers back with, each with the page that describes it. Members, codes and forms are those of the pages; tokens
and identifiers are examples.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from structlog.testing import capture_logs

from seed_oauth.outcomes import CallbackOutcome, TokenOutcome
from seed_oauth.protocol.jwk import usable_keys
from tests.broker import BrokerDoor
from tests.harness import SETTINGS, code_request, json_of, query_of, refresh_request

pytestmark = pytest.mark.anyio

FILES = sorted((Path(__file__).parent / "documented").glob("*.json"))
DOCUMENTED: Mapping[str, Any] = {path.stem: json.loads(path.read_text()) for path in FILES}

REFUSALS = ("idp_error", "idp_said", "idp_status")


@dataclass(frozen=True)
class Sent:
    """Something that an identity provider sends, and the row it ends in."""

    idp: str
    what: Mapping[str, Any]

    @property
    def said(self) -> str:
        """What the log tells of it, at least."""
        return str(self.what.get("said", ""))


def sent(kind: str) -> list[Any]:
    listed = [(name, number, one) for name in DOCUMENTED for number, one in enumerate(DOCUMENTED[name].get(kind, []))]
    return [pytest.param(Sent(name, one), id=f"{name}-{one['row']}-{number}") for name, number, one in listed]


class Replayed(BrokerDoor):
    """A door before one of them, which gives what the test says at its token endpoint."""

    def __init__(self, name: str) -> None:
        known = DOCUMENTED[name]
        self.metadata_document = known.get("metadata", {}).get("body")
        self.answers: list[httpx.Response] = []
        none_set = {key: None for key in SETTINGS if key.startswith("idp_") and key.endswith("_url")}
        super().__init__(idp=self._answer, settings={**none_set, **known["settings"]})

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if "/.well-known/" in request.url.path:
            return httpx.Response(200, json=self.metadata_document)
        if str(request.url) == "https://api.github.com/user":
            return httpx.Response(200, json={"id": 583231, "login": "octocat"})
        return self.answers.pop(0)

    async def at_idp(self, **changes: str | None) -> dict[str, str]:
        """What the identity provider is asked, by a browser."""
        return query_of(await self.person.reaches_idp(**changes))

    async def redeems(self, answer: httpx.Response, **changes: str | None) -> httpx.Response:
        """A whole login whose code the identity provider answers like this."""
        state = (await self.at_idp(**changes))["state"]
        self.answers.append(answer)
        returned = await self.person.returns(code="the code of the identity provider", state=state)
        code = query_of(returned.headers["location"]).get("code")
        return returned if code is None else await self.token(code_request(code=code))


GOOD = {"access_token": "at", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "the refresh token"}


@pytest.mark.parametrize("name", DOCUMENTED)
async def test_the_authorization_request_asks_for_what_the_identity_provider_documents(name: str) -> None:
    documented = DOCUMENTED[name]["authorization"]
    async with Replayed(name) as door:
        onward = await door.person.reaches_idp()
    asked = query_of(onward)
    metadata = DOCUMENTED[name].get("metadata")
    if metadata:
        assert onward.startswith(f"{metadata['body']['authorization_endpoint']}?")
    assert asked.get("scope") == documented["scope"]
    assert asked["code_challenge_method"] == "S256"
    assert not asked.keys() & set(documented["without"])
    assert ("nonce" in asked) == ("openid" in (documented["scope"] or "").split())


@pytest.mark.parametrize("case", sent("callbacks"))
async def test_a_return_ends_in_its_row_and_its_words_are_in_the_log_alone(case: Sent) -> None:
    row = next(row for row in CallbackOutcome if row.reason == case.what["row"])
    async with Replayed(case.idp) as door:
        state = (await door.at_idp())["state"]
        door.answers.append(httpx.Response(200, json=GOOD))
        with capture_logs() as lines:
            url = f"/oauth/callback?{case.what['query']}&state={quote(state)}"
            response = await door.person.http.get(url)
        told = query_of(response.headers["location"])
        assert told.get("error") == row.error
        assert ("code" in told) == (row is CallbackOutcome.RETURNED)
        if row.cause:
            assert await door.error_count(row) == 1
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["outcome"] == row.reason
    assert case.said in line.get("idp_said", "")
    assert not case.said or case.said[:20] not in response.text + str(told)
    assert state not in str(lines)


@pytest.mark.parametrize("case", sent("tokens"))
async def test_an_answer_of_the_token_endpoint_ends_in_its_row_and_its_words_are_in_the_log_alone(case: Sent) -> None:
    is_refusal_of_a_code = case.what["grant_type"] == "authorization_code" and case.what["row"] != "exchanged"
    rows = CallbackOutcome if is_refusal_of_a_code else TokenOutcome
    row = next(row for row in rows if row.reason == case.what["row"])
    # The ID tokens of examples are no JWTs.
    body = {name: value for name, value in case.what["body"].items() if name != "id_token" or row.cause}
    answer = httpx.Response(case.what["status"], json=body)
    async with Replayed(case.idp) as door:
        with capture_logs() as lines:
            if case.what["grant_type"] == "authorization_code":
                response = await door.redeems(answer, scope=case.what.get("asked"))
            else:
                tokens = json_of(await door.redeems(httpx.Response(200, json=GOOD)))
                door.answers.append(answer)
                response = await door.token(refresh_request(refresh_token=tokens["refresh_token"]))
        assert response.status_code == row.status
        members = query_of(response.headers["location"]) if is_refusal_of_a_code else json_of(response)
        if row.cause:
            assert members.keys() - {"state", "iss"} == {"error", "error_description"}
            assert members["error"] == row.error
            assert await door.error_count(row) == 1
        else:
            assert members.get("scope") == case.what["scope"]
            assert (members["token_type"], type(members["expires_in"])) == ("Bearer", int)
    line = [line for line in lines if line["event"] == "request"][-1]
    assert line["outcome"] == row.reason
    if row.cause:
        assert line["idp_status"] == case.what["status"]
        assert line.get("idp_error") == case.what["body"].get("error", case.what["body"].get("errorCode"))
        assert case.said in line.get("idp_said", "")
    assert not case.said or case.said[:20] not in response.text
    for secret in ("the refresh token", "the code of the identity provider", *_secrets(case.what["body"])):
        assert secret not in str(lines)


def _secrets(body: Mapping[str, Any]) -> list[str]:
    return [str(body[name]) for name in ("access_token", "refresh_token", "id_token") if name in body]


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if "key_members" in DOCUMENTED[name]])
def test_a_key_with_the_members_that_are_documented_can_be_used(name: str) -> None:
    key = RSAKey.generate_key(2048).as_dict(private=False)
    members = {**key, **DOCUMENTED[name]["key_members"]["body"]}
    keys, skipped = usable_keys({"keys": [members]})
    assert [one.get("kid") for one in keys] == [members["kid"]]
    assert skipped == {}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_everything_names_the_page_that_says_so(name: str) -> None:
    def entries(value: object) -> list[Mapping[str, Any]]:
        listed = value if isinstance(value, list) else [value]
        return [one for one in listed if isinstance(one, dict)]

    for part, value in DOCUMENTED[name].items():
        for entry in entries(value) if part != "settings" else []:
            assert urlsplit(entry["source"]).scheme == "https", (part, entry)
