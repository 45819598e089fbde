"""PROTOCOL R5 and THREATS 9: which document makes a client of a URL."""

from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from seed_oauth.clients import BadClientDocumentError, Client
from seed_oauth.clients.metadata_document import MAXIMUM_DOCUMENT, ClientDocuments, is_well_formed
from seed_oauth.protocol.redirect_uri import RedirectUriRules, is_registered
from tests.harness import CALLBACK, ISSUER, document

pytestmark = pytest.mark.anyio

URL = "https://app.example/oauth/client.json"
RULES = RedirectUriRules(ISSUER)
PUBLIC_JWKS = {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}
PRIVATE_JWKS = {"keys": [ECKey.generate_key("P-256").as_dict(private=True)]}


async def client_of(content: object, url: str = URL) -> Client:
    """The client whose document has this content."""
    documents = ClientDocuments(httpx.MockTransport(lambda _: httpx.Response(200, json=content)), RULES)
    return await documents.get(url)


async def objection_to(content: object, url: str = URL) -> str:
    with pytest.raises(BadClientDocumentError) as refused:
        await client_of(content, url)
    return str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://app.example/",
        "https://app.example:8443/client",
        "https://app.example/%7Euser/client.json",
        "https://xn--bcher-kva.example/client.json",
        "https://[2001:db8::1]/client.json",
        "https://claude.ai/oauth/claude-code-client-metadata",
        "https://app.example/...",
    ],
)
def test_a_client_identifier_url_is_an_https_url_with_a_path(url: str) -> None:
    assert is_well_formed(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example",
        "http://app.example/client.json",
        "HTTPS://app.example/client.json",
        "https:///client.json",
        "https://user@app.example/client.json",
        "https://app.example@evil.example/client.json",
        "https://app.example/client.json#fragment",
        "https://app.example/client.json#",
        "https://app.example/client.json?a=1",
        "https://app.example/client.json?",
        "https://app.example/a/../client.json",
        "https://app.example/./client.json",
        "https://app.example/a/%2e%2E/client.json",
        "https://app.example/.%2e/client.json",
        "https://app.example/a/..",
        "https://app.example\\@evil.example/",
        "https://app.example/a b",
        "https://app.example/\r\nHost: evil.example",
        "https://app.example/\x00",
        "https://app.example/%zz",
        "https://аpp.example/client.json",  # a Cyrillic letter that looks like an a  # noqa: RUF001
        "https://app.example:port/client.json",
        "https://app.example/" + "a" * 1024,
        "",
    ],
)
async def test_no_other_url_is_fetched(url: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(404)

    documents = ClientDocuments(httpx.MockTransport(answer), RULES)
    with pytest.raises(BadClientDocumentError, match="must be at an https URL with a host and a path"):
        await documents.get(url)
    assert asked == []


def test_a_url_has_1024_characters_at_most() -> None:
    longest = "https://app.example/".ljust(1024, "a")
    assert is_well_formed(longest)
    assert not is_well_formed(longest + "a")


@given(st.text() | st.from_regex(r"https://[a-z.\[\]:@%]{0,20}/[a-z./%2eE?#]{0,20}", fullmatch=True))
def test_what_is_well_formed_is_asked_for_as_it_is(url: str) -> None:
    """The client_id is the document's name: nothing between may read it in another way."""
    if is_well_formed(url):
        try:
            asked = httpx.URL(url)
        except httpx.InvalidURL:
            return  # a host that is none; it is not asked at all
        assert asked.raw_path.decode() == url.split("/", 3)[3].join(["/", ""])
        assert asked.userinfo == b""


async def test_a_document_makes_a_client() -> None:
    client = await client_of(
        document(
            URL,
            redirect_uris=[CALLBACK, "javascript:alert(1)", "cursor://anysphere.cursor-mcp/oauth/callback"],
            client_uri="https://app.example/",
            grant_types=["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
            unheard_of=1,
        )
    )
    assert client == Client(
        client_id=URL,
        issued_at=0,
        redirect_uris=(
            CALLBACK,
            "cursor://anysphere.cursor-mcp/oauth/callback",
        ),  # PROTOCOL R4: the others are left out
        metadata={
            "client_name": "Documented",
            "client_uri": "https://app.example/",
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
        },
    )
    assert not client.trusted


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"client_id": "https://app.example/other.json"}, "must have its own URL as its client_id"),
        ({"client_id": URL + "/"}, "must have its own URL as its client_id"),
        ({"client_id": "https://app.example:443/oauth/client.json"}, "must have its own URL as its client_id"),
        ({"client_id": None}, "must have its own URL as its client_id"),
        ({"client_id": [URL]}, "must have its own URL as its client_id"),
        ({"client_secret": "s"}, "must not have a client_secret"),
        ({"client_secret_expires_at": 0}, "must not have a client_secret"),
        ({"redirect_uris": None}, "redirect_uris is missing"),
        ({"redirect_uris": ["http://app.example/"]}, "no redirect_uri is acceptable; the first must use https"),
        ({"redirect_uris": [CALLBACK] * 33}, "redirect_uris must not have more than 32 members"),
        ({"redirect_uris": "https://app.example/"}, "redirect_uris must be a list of strings"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "must be one of private_key_jwt, none"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "must be one of private_key_jwt, none"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "must be one of private_key_jwt, none"),
        ({"token_endpoint_auth_method": {}}, "must be one of private_key_jwt, none"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "must list private_key_jwt or none"),
        ({"token_endpoint_auth_methods_supported": []}, "must list private_key_jwt or none"),
        ({"token_endpoint_auth_methods_supported": "none"}, "must be a list"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "needs either jwks or jwks_uri"),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks": PUBLIC_JWKS, "jwks_uri": "https://app.example/"},
            "needs either jwks or jwks_uri",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example/jwks"},
            "jwks_uri must be an https URL",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example%E3%80%82evil.example/"},
            "jwks_uri must be an https URL",
        ),
        ({"redirect_uris": ["https://app.example%E3%80%82evil.example/"]}, "without percent-encoding"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": PRIVATE_JWKS}, "must have public keys only"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}}, "no usable key"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks": "keys"}, "must be a JWK Set"),
        ({"grant_types": ["client_credentials"]}, "grant_types must include authorization_code"),
        ({"client_name": "\u202egnp.exe"}, "client_name must be there, of at most 256 printable characters"),
        ({"client_name": None}, "client_name must be there"),
        ({"client_name": ""}, "client_name must be there"),
    ],
)
async def test_a_document_that_breaks_a_rule_is_told_which(changes: dict[str, Any], objection: str) -> None:
    """THREATS 9: the client_id of another, too. PROTOCOL R8: a missing name."""
    assert objection in await objection_to(document(URL, **changes))


@pytest.mark.parametrize(
    "name", ["client_id", "redirect_uris", "client_name", "token_endpoint_auth_method", "jwks", "jwks_uri"]
)
async def test_what_a_document_says_is_never_repeated(name: str) -> None:
    content = document(URL, token_endpoint_auth_methods_supported=["private_key_jwt"], **{name: ["hunter2"]})
    assert "hunter2" not in await objection_to(content)


@pytest.mark.parametrize("url", ["https://[::1/", "https://[:.]/x"])
async def test_a_host_that_is_none_is_refused(url: str) -> None:
    assert await objection_to(document(url), url)


async def test_a_client_that_says_nothing_of_authentication_is_a_public_one() -> None:
    """RFC 7591's default, a client_secret, cannot be meant."""
    client = await client_of(document(URL))
    assert client.token_endpoint_auth_method == "none"


async def test_keys_come_with_the_document_or_from_where_it_says() -> None:
    with_keys = await client_of(document(URL, token_endpoint_auth_method="private_key_jwt", jwks=PUBLIC_JWKS))
    assert (with_keys.jwks, with_keys.jwks_uri) == (PUBLIC_JWKS, None)
    elsewhere = document(URL, token_endpoint_auth_method="private_key_jwt", jwks_uri="https://app.example/jwks.json")
    client = await client_of(elsewhere)
    assert (client.jwks, client.jwks_uri) == (None, "https://app.example/jwks.json")
    assert client.token_endpoint_auth_method == "private_key_jwt"


@pytest.mark.parametrize(
    ("listed", "single", "method"),
    [
        (["none", "private_key_jwt", "tls_client_auth"], None, "private_key_jwt"),
        (["private_key_jwt", "none"], None, "private_key_jwt"),
        (["none"], None, "none"),
        # SEP-3149: servers that read the list ignore the single method.
        (["private_key_jwt"], "none", "private_key_jwt"),
        (["none"], "private_key_jwt", "none"),
        (["none"], "client_secret_basic", "none"),
        (None, "private_key_jwt", "private_key_jwt"),
        (None, None, "none"),
    ],
)
async def test_of_the_methods_that_a_client_lists_the_strongest_is_required(
    listed: list[str] | None, single: str | None, method: str
) -> None:
    """What ChatGPT publishes. Whoever steals a code would choose `none`."""
    client = await client_of(
        document(
            URL,
            token_endpoint_auth_methods_supported=listed,
            token_endpoint_auth_method=single,
            jwks_uri="https://app.example/jwks.json",
        )
    )
    assert client.token_endpoint_auth_method == method


@pytest.mark.parametrize(
    "description",
    [
        {"client_uri": "http://localhost:3000"},
        {"logo_uri": "data:image/png;base64,AAAA"},
        {"logo_uri": "javascript:alert(1)"},
        {"contacts": "me@app.example"},
        {"software_version": 7},
    ],
)
async def test_a_description_that_cannot_be_used_is_left_out(description: dict[str, object]) -> None:
    client = await client_of(document(URL, **description))
    assert not client.metadata.keys() & description.keys()


async def test_a_null_member_is_no_member() -> None:
    """PROTOCOL R8."""
    nulls = dict.fromkeys(("client_secret", "logo_uri", "scope", "grant_types", "jwks", "token_endpoint_auth_method"))
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={**document(URL), **nulls}))
    assert (await ClientDocuments(transport, RULES).get(URL)).token_endpoint_auth_method == "none"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_loopback_redirect_uri_without_a_port_stands_for_every_port(host: str) -> None:
    """PROTOCOL A6, as Claude Code publishes it."""
    client = await client_of(document(URL, redirect_uris=["http://localhost/callback", "http://127.0.0.1/callback"]))
    assert is_registered(f"http://{host}:49152/callback", client.redirect_uris)
    assert is_registered(f"http://{host}/callback", client.redirect_uris)
    assert not is_registered(f"http://{host}:49152/other", client.redirect_uris)
    assert not is_registered(f"https://{host}:49152/callback", client.redirect_uris)


async def test_the_operators_private_use_schemes_hold_for_documents_too() -> None:
    content = document(URL, redirect_uris=["acme://callback"])
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=content))
    rules = RedirectUriRules(ISSUER, frozenset({"acme"}))
    assert (await ClientDocuments(transport, rules).get(URL)).redirect_uris == ("acme://callback",)


async def test_no_document_has_this_server_as_its_client() -> None:
    """RFC 9700 §4.11.2: no answer of ours is to be a request to us."""
    assert "at this server itself" in await objection_to(document(URL, redirect_uris=[f"{ISSUER}/oauth/callback"]))


async def test_a_document_over_5_kib_is_refused() -> None:
    """THREATS 9: huge bodies."""
    fitting = document(URL, padding="")
    room = MAXIMUM_DOCUMENT - len(httpx.Response(200, json=fitting).content)
    assert (await client_of({**fitting, "padding": "x" * room})).client_id == URL
    assert "must not have more than 5120 bytes" in await objection_to({**fitting, "padding": "x" * (room + 1)})


@given(
    st.dictionaries(
        st.sampled_from(
            ["client_id", "redirect_uris", "token_endpoint_auth_method", "token_endpoint_auth_methods_supported",
             "jwks", "jwks_uri", "grant_types", "response_types", "client_name", "logo_uri", "scope", "contacts"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(codec="utf-8")) | st.sampled_from([URL, CALLBACK, "none", "private_key_jwt"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                st.sampled_from(["keys", "kty", "n", "e", "crv", "x", "y", "kid", "use", "alg"]), inner, max_size=5),
            max_leaves=8,
        ),
    )
)  # fmt: skip
async def test_whatever_a_document_says_it_makes_a_client_or_breaks_a_rule(changes: dict[str, Any]) -> None:
    with suppress(BadClientDocumentError):
        client = await client_of(document(URL, **changes))
        assert client.client_id == URL
        assert client.redirect_uris
