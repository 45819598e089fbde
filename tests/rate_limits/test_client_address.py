"""Whose request it is: nobody can say so of themselves, and no proxy is taken for everybody behind it."""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from seed_oauth.rate_limits.client_address import ClientAddresses
from seed_oauth.settings import Settings, SettingsError
from seed_oauth.settings.rate_limits import parse_rates
from tests.harness import SETTINGS, FrontDoor

pytestmark = pytest.mark.anyio

PROXIES = ("10.1.0.0/16", "2001:db8:1::/48", "127.0.0.1")
ANYTHING = st.lists(st.binary(max_size=80), max_size=4)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def scope(peer: str | None, *forwarded_for: str | bytes) -> dict[str, Any]:
    """A request from a peer, with these X-Forwarded-For headers."""
    values = (value.encode() if isinstance(value, str) else value for value in forwarded_for)
    headers = [(b"host", b"door.example"), *((b"x-forwarded-for", value) for value in values)]
    return {"type": "http", "client": (peer, 50_000) if peer is not None else None, "headers": headers}


def key_of(peer: str | None, *forwarded_for: str | bytes, trusted: tuple[str, ...] = PROXIES) -> bytes | None:
    return ClientAddresses(trusted).of(scope(peer, *forwarded_for))


def key(address: str) -> bytes:
    """What an address is counted by, written by hand."""
    return IPv6Address(address).packed[:8] if ":" in address else IPv4Address(address).packed


def is_proxy(address: IPv4Address | IPv6Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return any(plain in ip_network(network) for network in PROXIES)


@given(peer=ADDRESSES.filter(lambda address: not is_proxy(address)), sent=ANYTHING)
def test_nothing_that_an_untrusted_peer_sends_changes_its_key(
    peer: IPv4Address | IPv6Address, sent: list[bytes]
) -> None:
    """THREATS 15."""
    assert key_of(str(peer), *sent) == key_of(str(peer))


@given(peer=ADDRESSES, sent=ANYTHING)
def test_without_trusted_proxies_nothing_that_is_sent_changes_a_key(
    peer: IPv4Address | IPv6Address, sent: list[bytes]
) -> None:
    """THREATS 15."""
    assert key_of(str(peer), *sent, trusted=()) == key_of(str(peer), trusted=())


@given(
    client=ADDRESSES.filter(lambda address: not is_proxy(address)),
    hops=st.lists(st.sampled_from(["10.1.2.3", "10.1.255.1", "2001:db8:1::7", "::ffff:10.1.9.9", "127.0.0.1"])),
    made_up=ANYTHING,
    data=st.data(),
)
def test_a_chain_of_trusted_proxies_leads_to_the_rightmost_untrusted_address(
    client: IPv4Address | IPv6Address, hops: list[str], made_up: list[bytes], data: st.DataObject
) -> None:
    """THREATS 15: whatever the client itself sent stands left of what the first proxy wrote."""
    chain = [str(client), *hops]
    # Proxies append to the last header, or add one of their own.
    cut = data.draw(st.integers(0, len(chain) - 1))
    written = [", ".join(chain[:cut]), ",".join(chain[cut:])] if cut else [",".join(chain)]
    assert key_of("10.1.0.1", *made_up, *written) == key_of(str(client))


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (["52.1.2.3"], "52.1.2.3"),
        (["1.1.1.1, 52.1.2.3"], "52.1.2.3"),
        (["1.1.1.1", "52.1.2.3"], "52.1.2.3"),
        (["52.1.2.3, 10.1.0.9"], "52.1.2.3"),
        (["52.1.2.3:41000"], "52.1.2.3"),
        (["[2a00:1450:4001:1::5]:41000"], "2a00:1450:4001:1::5"),
        (["2a00:1450:4001:1::5"], "2a00:1450:4001:1:ffff::1"),
        (["::ffff:52.1.2.3"], "52.1.2.3"),
        (["64:ff9b::52.1.2.3"], "52.1.2.3"),
        # What cannot be read ends the walk at whoever is known last.
        (["52.1.2.3, unknown, 10.1.0.9"], "10.1.0.9"),
        (["52.1.2.3, , 10.1.0.9"], "10.1.0.9"),
        (["52.1.2.3, _hidden"], "10.1.0.1"),
        (["52.1.2.3, " + "1" * 100], "10.1.0.1"),
        ([""], "10.1.0.1"),
        ([], "10.1.0.1"),
        # A client in the network of the proxies.
        (["10.1.7.7"], "10.1.7.7"),
    ],
)
def test_what_a_trusted_proxy_says_is_read_from_the_right(sent: list[str], address: str) -> None:
    assert key_of("10.1.0.1", *sent) == key(address)


def test_an_ipv4_peer_of_an_ipv6_socket_is_an_ipv4_address() -> None:
    assert key_of("::ffff:52.1.2.3") == key("52.1.2.3")
    assert key_of("::ffff:10.1.0.1", "52.1.2.3") == key("52.1.2.3")


def test_the_forwarded_header_is_not_read() -> None:
    sent = scope("10.1.0.1", "52.1.2.3")
    sent["headers"].append((b"forwarded", b"for=9.9.9.9"))
    assert ClientAddresses(PROXIES).of(sent) == key("52.1.2.3")


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.1", "100.64.0.1", "fd00::1", "fe80::1%eth0"]
)
def test_without_trusted_proxies_a_peer_that_may_be_one_tells_nothing(peer: str) -> None:
    assert key_of(peer, trusted=()) is None
    assert key_of(peer, "52.1.2.3", trusted=()) is None


@pytest.mark.parametrize("peer", [None, "", "testclient", "/run/door.sock"])
@pytest.mark.parametrize("trusted", [(), PROXIES])
def test_a_peer_without_an_address_tells_nothing(peer: str | None, trusted: tuple[str, ...]) -> None:
    assert key_of(peer, "52.1.2.3", trusted=trusted) is None


def test_a_private_peer_is_limited_once_it_is_known_which_proxies_there_are() -> None:
    assert key_of("10.9.9.9") == key("10.9.9.9")


def test_a_reverse_proxy_that_is_not_trusted_is_told_of_once() -> None:
    addresses = ClientAddresses(())
    with capture_logs() as lines:
        addresses.of(scope("127.0.0.1"))
        addresses.of(scope("52.1.2.3", "1.1.1.1"))
        assert not lines
        for _ in range(3):
            addresses.of(scope("10.0.0.7", "52.1.2.3"))
    (line,) = lines
    assert line["log_level"] == "warning"
    assert "limits by address are off" in line["event"]
    assert line["remedy"] == "set SEED_OAUTH_TRUSTED_PROXIES to its address or network"


def test_a_trusted_proxy_that_does_not_tell_is_told_of_once() -> None:
    addresses = ClientAddresses(PROXIES)
    with capture_logs() as lines:
        addresses.of(scope("10.1.0.1", "52.1.2.3"))
        assert not lines
        for _ in range(3):
            addresses.of(scope("10.1.0.1"))
    (line,) = lines
    assert "share one limit" in line["event"]


async def test_nobody_is_locked_out_behind_a_reverse_proxy_by_default() -> None:
    """All of its users come from its address."""
    async with FrontDoor(settings={"rate_limit_authorize": "1/minute"}) as door:
        for number in range(20):
            response = await door.http.get("/oauth/authorize", headers={"X-Forwarded-For": f"52.1.2.{number}"})
            assert response.status_code != 429


async def test_behind_a_trusted_proxy_each_user_has_a_limit_of_their_own() -> None:
    settings = {"rate_limit_authorize": "1/minute", "trusted_proxies": ("127.0.0.1",)}
    async with FrontDoor(settings=settings) as door:

        async def status(address: str) -> int:
            response = await door.http.get("/oauth/authorize", headers={"X-Forwarded-For": f"1.1.1.1, {address}"})
            return response.status_code

        assert [await status(address) for address in ("52.1.2.3", "52.1.2.4", "52.1.2.3")] == [400, 400, 429]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("proxy.example", "addresses or networks .*10.1.2.3"),
        ("10.1.2.3/16", "without host bits"),
        ("*", "addresses or networks"),
        ("0.0.0.0/0", "must not contain every address"),
        ("10.0.0.1 ::/0", "must not contain every address"),
        ("::ffff:10.0.0.0/104", "must have IPv4 networks in IPv4 notation"),
    ],
)
def test_proxies_that_cannot_be_trusted_are_refused_at_start(
    value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED_OAUTH_TRUSTED_PROXIES", value)
    with pytest.raises(SettingsError, match=f"SEED_OAUTH_TRUSTED_PROXIES .*{told}"):
        Settings.load(**SETTINGS)


@pytest.mark.parametrize(
    ("limit", "rates"),
    [
        ("", ()),
        (" 60/minute ", ((60, 60),)),
        ("5/second;60/minute", ((5, 1), (60, 60))),
        ("600 / hour ; 5000 / day", ((600, 3600), (5000, 86_400))),
    ],
)
def test_a_limit_is_one_rate_or_several(limit: str, rates: tuple[tuple[int, int], ...]) -> None:
    assert parse_rates(limit) == rates


@pytest.mark.parametrize("value", ["0/minute", "60", "60/fortnight", "many", "60/minute;;5/hour", "-1/minute"])
@pytest.mark.parametrize("name", ["AUTHORIZE", "REGISTER", "TOKEN", "TOKEN_ADDRESS"])
def test_a_limit_that_cannot_be_read_is_refused_at_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SEED_OAUTH_RATE_LIMIT_{name}", value)
    with pytest.raises(SettingsError, match=f"SEED_OAUTH_RATE_LIMIT_{name} must .*/minute"):
        Settings.load()


def test_another_process_reads_the_same_limits_and_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(**SETTINGS, trusted_proxies=("10.1.0.0/16", "::1"), rate_limit_register="5/minute;100/hour")
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    again = Settings.load()
    assert again.trusted_proxies == settings.trusted_proxies
    assert (again.rate_limit_register, again.rate_limit_token) == ("5/minute;100/hour", "")
