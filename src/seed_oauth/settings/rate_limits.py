"""What rate limits may be, and who may say whose request it is."""

from ipaddress import IPv6Network, ip_network
from typing import Annotated

from limits import parse_many
from pydantic import AfterValidator

from seed_oauth.settings.validators import Names


def _rate_limit(value: str) -> str:
    """The limit itself, in the notation of the `limits` library; empty when there is none."""
    value = value.strip()
    try:
        allowed = [item.amount for item in parse_many(value)] if value else []
    except ValueError:
        raise ValueError(
            "must be a limit such as 60/minute, or several: 60/minute;1000/hour; or empty for none"
        ) from None
    if 0 in allowed:
        raise ValueError("must allow for one request at least, such as 1/minute; empty means no limit")
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            network = ip_network(text)
        except ValueError:
            raise ValueError(
                "must be addresses and networks such as 10.1.2.3 or 10.1.0.0/16, without host bits"
            ) from None
        if network.prefixlen == 0:
            # Whoever is trusted says who the client is, so then every client would say who it is.
            raise ValueError("must not be everybody: name the addresses of your reverse proxies")
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            raise ValueError("must name IPv4 networks as such: 10.1.0.0/16, not ::ffff:10.1.0.0/112")
    return value


RateLimit = Annotated[str, AfterValidator(_rate_limit)]
Networks = Annotated[Names, AfterValidator(_networks)]
