"""A name server of the tests' own, over UDP: it answers for the names that it knows, and drops every other question."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

_HEADER = 12  # bytes (RFC 1035 §4.1.1)
_ANSWERED = b"\x81\x80\x00\x01"  # a response to one question, without an error
_A = b"\x00\x01\x00\x01"  # type A, class IN
_POINTER = b"\xc0\x0c"  # to the name in the question (RFC 1035 §4.1.4)
_TTL = b"\x00\x00\x00\x00"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Knows `addresses`; `dropped` are the names that it was asked for and does not know."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    port: int = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # it is one
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, end = _name(data)
        question = data[_HEADER : end + 4]
        if name not in self.addresses:
            self.dropped.append(name)
            return
        answers = b""
        if data[end : end + 4] == _A:
            packed = IPv4Address(self.addresses[name]).packed
            answers = _POINTER + _A + _TTL + len(packed).to_bytes(2, "big") + packed
        counts = (b"\x00\x01" if answers else b"\x00\x00") + b"\x00\x00\x00\x00"
        self._transport.sendto(data[:2] + _ANSWERED + counts + question + answers, addr)

    @property
    def options(self) -> dict[str, object]:
        """What has a resolver ask this server alone."""
        return {"nameservers": ["127.0.0.1"], "udp_port": self.port, "tcp_port": self.port, "lookups": "b"}


@asynccontextmanager
async def name_server(**addresses: str) -> AsyncIterator[NameServer]:
    """A name server on loopback; `_` in a name stands for a dot."""
    server = NameServer({name.replace("_", "."): address for name, address in addresses.items()})
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()


def _name(query: bytes) -> tuple[str, int]:
    """The name in a question, and where it ends."""
    labels, at = [], _HEADER
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    return ".".join(labels), at + 1
