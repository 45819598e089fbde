"""The notation of rate limits, and the networks whose X-Forwarded-For is trusted."""

import re
from ipaddress import IPv6Network, ip_network
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from seed_oauth.settings.validators import Names

_RATE = re.compile(r"\s*([1-9][0-9]{0,8})\s*/\s*(second|minute|hour|day)\s*")

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class Rate(NamedTuple):
    """So many requests in so many seconds."""

    amount: int
    seconds: int


def parse_rates(text: str) -> tuple[Rate, ...]:
    """The rates of a limit such as `60/minute;1000/hour`; none for an empty one.

    Raises:
        ValueError: one of them cannot be read; the message says what to write.
    """
    return tuple(map(_parse_rate, text.split(";"))) if text.strip() else ()


def _parse_rate(text: str) -> Rate:
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(
            "must be a limit such as 60/minute, or several such as 60/minute;1000/hour: a number of at least 1 per "
            f"{', '.join(_SECONDS)}; empty means no limit"
        )
    return Rate(int(found[1]), _SECONDS[found[2]])


def _rate_limit(value: str) -> str:
    parse_rates(value)
    return value.strip()


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
