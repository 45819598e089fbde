"""Validation of the rate limits and of the trusted proxies."""

from ipaddress import IPv6Network, ip_network
from typing import Annotated

from limits import parse_many
from pydantic import AfterValidator

from seed_oauth.settings.validators import Names


def _rate_limit(value: str) -> str:
    """The limit, in the notation of the `limits` library; empty means no limit."""
    value = value.strip()
    try:
        allowed = [item.amount for item in parse_many(value)] if value else []
    except ValueError:
        raise ValueError(
            "must be a limit such as 60/minute, several such as 60/minute;1000/hour, or empty for no limit"
        ) from None
    if 0 in allowed:
        raise ValueError("must allow at least one request, such as 1/minute; empty means no limit")
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            network = ip_network(text)
        except ValueError:
            raise ValueError(
                "must be addresses or networks without host bits, such as 10.1.2.3 or 10.1.0.0/16"
            ) from None
        if network.prefixlen == 0:
            # A trusted proxy states the client's address, so every client could state any address.
            raise ValueError("must not contain every address: list the addresses of your reverse proxies")
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            raise ValueError("must have IPv4 networks in IPv4 notation: 10.1.0.0/16, not ::ffff:10.1.0.0/112")
    return value


RateLimit = Annotated[str, AfterValidator(_rate_limit)]
Networks = Annotated[Names, AfterValidator(_networks)]
