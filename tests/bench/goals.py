"""How fast the server is to be, and how fast it is: the table in docs/explanation/performance.md, in one run.

    python tests/bench/goals.py --record

Each figure comes from one of the other benchmarks here. All but those of many MCP servers are CPU time, on a machine
that may have other things to do: what is compared is measured in turns within seconds, and the median of all rounds
counts. It takes seven minutes, and builds oauth2-proxy the first time.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import broker
import history
import many_servers
import protected_resource
import table
from contenders import CONTENDERS, Site
from load import BenchmarkError, Request
from login import valid_requests
from protected_resource import PEERS, Asked, Samples, in_turns, medians
from run import identity_provider
from servers import free_port, running
from streams import event_streams, large_answers

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
BENCHMARK = "goals"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """At most so much, or at least."""

    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"

    def met_by(self, figure: float) -> bool:
        return (self.at_most is None or figure <= self.at_most) and (self.at_least is None or figure >= self.at_least)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the CPU of one request is to be as a multiple of another's."""

    request: str
    other: str
    goal: Goal
    connections: tuple[int, ...] = protected_resource.CONNECTIONS
    throughput: bool = False
    """Compared is the inverse: the requests that the same CPU answers."""

    def named(self) -> dict[str, int]:
        """The numbers of connections, by what is in the table."""
        before = "throughput of " if self.throughput else ""
        return {f"{before}{self.request} @{number} / {self.other}": number for number in self.connections}

    def measured(self, samples: Samples) -> dict[str, float]:
        if not {self.request, self.other} <= samples.keys():
            return {}
        found = {}
        for name, connections in self.named().items():
            costs, others = (samples[request][f"@{connections}"] for request in (self.request, self.other))
            # Of each round by itself: they were measured one right after the other.
            ratio = median(cost / other for cost, other in zip(costs, others, strict=True))
            found[name] = 1 / ratio if self.throughput else ratio
        return found


RESOURCE = (
    Comparison(request="proxied call", other="floor", goal=Goal(at_most=0.8)),
    Comparison(request="proxied call", other="oauth2-proxy", goal=Goal(at_most=1.5)),
    Comparison(request="proxied call with ES256", other="proxied call", goal=Goal(at_most=1.1)),
    Comparison(request="proxied call with RS256", other="proxied call", goal=Goal(at_most=1.1)),
    Comparison(request="/oauth/verify", other="empty route", goal=Goal(at_most=1.6)),
    Comparison(request="/oauth/verify", other="/oauth2/auth", goal=Goal(at_most=0.5)),
    Comparison(request="nginx, cached", other="proxied call", goal=Goal(at_least=20), throughput=True),
)
RELAY = (
    Comparison(request="token", other="floor's token", goal=Goal(at_most=1.5), connections=(16,)),
    Comparison(request="authorize", other="floor's authorize", goal=Goal(at_most=1.6), connections=(16,)),
)
COMPARED = ("oauth2-proxy", "nginx")
"""The peers that goals name."""

STREAM_MEMORY = "memory of each of 1,000 event streams (kB)"
STREAM_CPU = "10 events/s to each of 1,000 streams (cores)"
LARGE = "throughput of answers of 10 MB / floor"
LARGE_MEMORY = "rise of memory by answers of 10 MB (MB)"
LOGIN = "broker login / relay login"
MANY = "200 MCP servers / one, the dearest path (instructions)"

GOALS: Mapping[str, Goal] = {
    **{name: comparison.goal for comparison in RESOURCE for name in comparison.named()},
    STREAM_MEMORY: Goal(at_most=25),
    STREAM_CPU: Goal(at_most=0.5),
    LARGE: Goal(at_least=0.8),
    LARGE_MEMORY: Goal(at_most=10),  # less than one of them
    **{name: comparison.goal for comparison in RELAY for name in comparison.named()},
    LOGIN: Goal(at_most=1.4),
    MANY: Goal(at_most=1.03),
}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: int
    logins: int
    streams: int = 1_000
    many_servers: bool = True


def of_resource(effort: Effort, peers: Collection[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of the protected resource that have goals, and the CPU microseconds that they come from."""
    with protected_resource.started(peers) as asked:
        samples = in_turns(asked, rounds=effort.rounds, seconds=effort.seconds)
        found = {name: figure for comparison in RESOURCE for name, figure in comparison.measured(samples).items()}
        kilobytes, cores = asyncio.run(
            event_streams(asked["proxied call"], number=effort.streams, seconds=2 * effort.seconds)
        )
        large = [
            {name: large_answers(asked[name], seconds=effort.seconds) for name in ("proxied call", "floor")}
            for _ in range(effort.rounds)
        ]
    found |= {
        STREAM_MEMORY: kilobytes,
        STREAM_CPU: cores,
        LARGE: median(each["floor"][0] / each["proxied call"][0] for each in large),
        LARGE_MEMORY: max(each["proxied call"][1] for each in large),
    }
    return found, _flat(samples)


def of_relay(effort: Effort) -> tuple[dict[str, float], dict[str, float]]:
    """The same of the relay flow."""
    with relay_and_floor() as asked:
        samples = in_turns(asked, rounds=effort.rounds, seconds=effort.seconds, connections=(16,))
    found = {name: figure for comparison in RELAY for name, figure in comparison.measured(samples).items()}
    return found, _flat(samples)


@contextmanager
def relay_and_floor() -> Iterator[dict[str, Asked]]:
    """What the relay flow and the floor are asked."""
    found = {}
    with (
        identity_provider() as url,
        tempfile.TemporaryDirectory(prefix="seed-oauth-bench-") as name,
        ExitStack() as stack,
    ):
        for contender_name, before in {"seed-oauth": "", "floor": "floor's "}.items():
            contender, folder = CONTENDERS[contender_name], Path(name) / contender_name
            folder.mkdir()
            site = Site(port=free_port(), identity_provider=url, folder=folder)
            ready = Request(url=site.url + contender.ready, status=contender.ready_status)
            environment = contender.environment(site)
            server = stack.enter_context(
                running(contender.command(site), ready=ready, environment=environment, folder=folder)
            )
            requests = valid_requests(site.url + contender.prefix, url, registers=contender.registers)
            for path in ("token", "authorize"):
                found[before + path] = Asked(request=requests[path], pids=(server.pid,))
        yield found


def of_logins(effort: Effort) -> tuple[dict[str, float], dict[str, float]]:
    """The same of whole logins."""
    samples: dict[str, list[float]] = {"relay": [], "broker": []}
    with identity_provider() as url:
        for _ in range(effort.rounds):
            for flow, costs in samples.items():
                with broker.served(flow, url) as server:
                    figures = asyncio.run(broker.measured(flow, server.base, server.pid, effort.logins))
                costs.append(figures["login"])
    ratio = median(one / other for one, other in zip(samples["broker"], samples["relay"], strict=True))
    return {LOGIN: ratio}, {f"{flow} login": median(costs) for flow, costs in samples.items()}


def _flat(samples: Samples) -> dict[str, float]:
    return {f"{name} {column}": figure for name, row in medians(samples).items() for column, figure in row.items()}


def measured(effort: Effort, peers: Collection[str] = COMPARED) -> tuple[dict[str, float], dict[str, float]]:
    """Every figure that has a goal, and the CPU microseconds that they come from.

    Raises:
        BenchmarkError: a figure would mean nothing.
    """
    parts = [of_resource(effort, peers), of_relay(effort), of_logins(effort)]
    if effort.many_servers:
        parts.append(({MANY: max(many_servers.ratios(("call", "verify")).values())}, {}))
    found, costs = ({name: figure for part in parts for name, figure in part[which].items()} for which in (0, 1))
    return {name: found[name] for name in GOALS if name in found}, costs


def goals_table(figures: Mapping[str, float]) -> str:
    """What was measured beside the goals."""
    rows = [
        f"| {name} | {table.in_figures(figure)} | {GOALS[name]} | {'yes' if GOALS[name].met_by(figure) else '**no**'} |"
        for name, figure in figures.items()
    ]
    return "\n".join(["| path | measured | goal | met |", "| --- | ---: | ---: | --- |", *rows])


def costs_table(costs: Mapping[str, float]) -> str:
    """CPU microseconds, by request and number of connections."""
    rows: dict[str, dict[str, float]] = {}
    for name, cost in costs.items():
        request, _, connections = name.rpartition(" @")
        if request:
            rows.setdefault(request, {})[f"@{connections}"] = cost
    return table.figures(rows, ("@16", "@128"), corner="CPU (µs)")


def written(page: str) -> str:
    """The page with the tables of the history between its comments."""
    runs = history.entries(BENCHMARK)
    last = runs[-1]
    about = f"{last.date}, commit {last.commit}, {last.machine}: " + ", ".join(map(" ".join, last.versions.items()))
    tables = {
        "goals": goals_table(last.ratios),
        "costs": f"{costs_table(last.costs)}\n\nMedians of one run, {about}.",
        "history": history.over_time(runs),
    }
    for name, text in tables.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not end:
            raise BenchmarkError(f"{PAGE.name} has no place for {name}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="of each load (2)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns (3)")
    parser.add_argument("--logins", type=int, default=300, help="in each round (300)")
    parser.add_argument("--peers", nargs="*", choices=COMPARED, default=list(COMPARED))
    parser.add_argument(
        "--record", action="store_true", help="append the figures to the history, and show them in the docs"
    )
    options = parser.parse_args()
    effort = Effort(rounds=options.rounds, seconds=options.seconds, logins=options.logins)
    try:
        versions = {name: PEERS[name]() for name in options.peers}
        figures, costs = measured(effort, options.peers)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    print(goals_table(figures), costs_table(costs), sep="\n\n")
    if options.record:
        history.append(BENCHMARK, figures, costs=costs, versions=versions)
        PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
