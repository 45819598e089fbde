"""Which browser is asking, and what its user has consented to before."""

import pytest
from starlette.requests import Request
from starlette.responses import Response

from seed_oauth.envelopes.seal import Sealer
from seed_oauth.flows.browser_cookies import BrowserCookies, Consent
from seed_oauth.flows.transaction import Transaction
from tests.broker import BrokerDoor
from tests.harness import json_of

SEALER = Sealer(["the-key-that-seals-of-random-characters"], "https://door.example")
NOW = 1_800_000_000.0


def browser(cookie: str = "") -> BrowserCookies:
    request = Request({"type": "http", "headers": [(b"cookie", cookie.encode("latin-1"))]})
    return BrowserCookies(request, SEALER, secure=True, consent_days=30)


def consent_to(redirect_uri: str) -> Consent:
    transaction = Transaction(
        client_id="client", client_family="other", redirect_uri=redirect_uri, state=None,
        code_challenge="c", scope="a b", resource="https://door.example/mcp", browser="b",
    )  # fmt: skip
    return Consent.to(transaction)


@pytest.mark.parametrize(
    ("redirect_uri", "host"),
    [
        ("https://app.example/callback", "app.example"),
        ("https://APP.example:8443/callback", "app.example"),
        ("http://127.0.0.1:53682/callback", "127.0.0.1"),
        ("http://[::1]/callback", "::1"),
        ("com.example.app:/callback", "com.example.app:"),
        ("cursor://anysphere.cursor-mcp/callback", "cursor:"),
        ("com.example.app://app.example/callback", "com.example.app:"),
    ],
)
def test_consent_is_to_a_host_or_to_a_native_apps_scheme(redirect_uri: str, host: str) -> None:
    consent = consent_to(redirect_uri)
    assert consent == Consent("client", host, ("a", "b"), "https://door.example/mcp")


def test_what_things_are_bound_by_does_not_tell_the_cookie() -> None:
    secret = "s" * 22
    known = browser(f"__Host-seed-oauth-1={secret}")
    assert secret not in known.binding
    assert known.is_bound_by(known.binding)
    assert not browser(f"__Host-seed-oauth-1={'t' * 22}").is_bound_by(known.binding)


@pytest.mark.parametrize(
    "cookie", ["", "__Host-seed-oauth-1=", "seed-oauth=x", "__Host-seed-oauth-consent-0=x", "=", ";;"]
)
def test_a_browser_without_our_cookie_is_nobodys_and_gets_one(cookie: str) -> None:
    stranger = browser(cookie)
    assert not stranger.is_bound_by(stranger.binding)
    assert stranger.keep_on(Response()).headers["set-cookie"].startswith("__Host-seed-oauth-")


@pytest.mark.parametrize("space", ["\x1f", "\x85", "\xa0"])
def test_a_cookie_that_only_python_reads_as_ours_is_not(space: str) -> None:
    """A browser takes the character for a part of the name, so another host of the domain may set it."""
    cookie = f"__Host-seed-oauth-1={'s' * 22}"
    assert browser(f"{space}{cookie}").binding != browser(cookie).binding


@pytest.mark.parametrize("value", ['"\\777\\000"', "\xff", "a" * 10_000, "=;=", '"'])
def test_a_strange_cookie_is_a_browser_like_any_other(value: str) -> None:
    strange = browser(f"__Host-seed-oauth-1={value}")
    assert len(strange.binding) == 22


@pytest.mark.anyio
async def test_only_so_many_consents_are_remembered_and_the_oldest_is_forgotten_first() -> None:
    """Clients that register anew each time would fill the Cookie header until web servers refuse it."""
    async with BrokerDoor() as door:
        clients = []
        for _ in range(14):
            client = str(json_of(await door.register(client_name="An application"))["client_id"])
            clients.append(client)
            page = await door.person.opens(client_id=client, scope="openid profile email")
            await door.person.decides(page, remember="on")
        kept = [cookie for cookie in door.person.http.cookies.jar if "consent" in cookie.name]
        assert len(kept) == 12
        assert sum(len(cookie.name) + len(cookie.value or "") + 3 for cookie in kept) < 8 * 1024 - 1024
        statuses = [(await door.person.opens(client_id=client, scope="openid")).status_code for client in clients]
        assert statuses == [200] * 2 + [302] * 12
        # Consenting again to one that is known makes none of the others forgotten.
        page = await door.person.opens(client_id=clients[-1], scope="more")
        await door.person.decides(page, remember="on")
        assert (await door.person.opens(client_id=clients[2], scope="openid")).status_code == 302
