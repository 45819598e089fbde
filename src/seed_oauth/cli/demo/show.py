"""`seed-oauth demo`: runs traffic in the environment and shows the view of `seed-oauth watch`."""

import webbrowser
from collections.abc import Sequence

import anyio
import httpx
from anyio.to_thread import run_sync
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from seed_oauth.cli.demo.environment import Environment, open_environment
from seed_oauth.cli.demo.traffic import Scenario, Traffic, play, play_on
from seed_oauth.cli.demo.user import Sample
from seed_oauth.cli.watch import Watcher, display
from seed_oauth.telemetry.contract import CONTRACT

_TITLE = "seed-oauth demo"


async def show(
    console: Console,
    *,
    port: int,
    metrics_port: int,
    per_second: float,
    latency: float,
    error_rate: float,
    in_browser: bool,
) -> None:
    """Run logins and show the view, until cancelled; `in_browser` opens the page of the metrics listener, too.

    Raises:
        SettingsError: a port is in use.
    """
    async with (
        open_environment(port, metrics_port) as environment,
        Traffic(environment) as traffic,
        Watcher(environment.metrics) as watcher,
    ):
        login = f"try a login: {environment.visit}"
        # Also for whoever reads the output afterwards, because the view is on a screen of its own.
        console.print(f"{login} · Ctrl-C to quit", markup=False, highlight=False)
        page = f"in the browser: {environment.page}"
        console.print(page, markup=False, highlight=False)
        if in_browser:
            # In a thread, because it waits for browsers that run in the terminal.
            await run_sync(webbrowser.open, environment.page, abandon_on_cancel=True)
        environment.identity_provider.faults.latency = latency
        environment.identity_provider.faults.error_rate = error_rate
        async with anyio.create_task_group() as group:
            group.start_soon(play_on, traffic, per_second)
            with display(console) as draw:
                while True:
                    await watcher.poll()
                    draw(
                        watcher.view(
                            title=f"{_TITLE} · {login}", footer=f"{page} · front door {environment.front_door}"
                        )
                    )
                    await anyio.sleep(1)


async def show_once(console: Console, *, port: int, metrics_port: int, logins: int) -> tuple[bool, str]:
    """Run `logins` logins and every failure, then compare what the clients counted with the metrics.

    Returns:
        Whether all counts are equal, and the last scrape.

    Raises:
        SettingsError: a port is in use.
    """
    async with (
        open_environment(port, metrics_port) as environment,
        Traffic(environment) as traffic,
        Watcher(environment.metrics) as watcher,
    ):
        console.print(_addresses(environment))
        await _play_through(console, traffic.scenarios(logins), watcher)
        console.print(watcher.view(title=_TITLE))
        exposition = await _scrape(environment.metrics)
    return _compare(console, traffic, _counts(exposition)), exposition


async def _play_through(console: Console, scenarios: Sequence[Scenario], watcher: Watcher) -> None:
    async def keep_watching() -> None:
        while True:
            await watcher.poll()
            await anyio.sleep(1)

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Running logins", total=len(scenarios))
        async with anyio.create_task_group() as group:
            group.start_soon(keep_watching)
            await play(scenarios, tick=lambda: progress.advance(task))
            group.cancel_scope.cancel()
    await watcher.poll()


async def _scrape(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(url)).text


def _counts(exposition: str) -> dict[Sample, float]:
    """The samples of the scrape, with label values in the order of the contract."""
    labels = {f"{series.name}{suffix}": series.labels for series in CONTRACT for suffix in ("", "_count")}
    return {
        (sample.name, tuple(sample.labels[label] for label in labels[sample.name])): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name in labels
    }


def _compare(console: Console, traffic: Traffic, counts: dict[Sample, float]) -> bool:
    table = Table("series", Column("clients", justify="right"), Column("metrics", justify="right"), box=None)
    equal = True
    for (name, labels), seen in sorted(traffic.tally.items()):
        counted = counts.get((name, labels), 0)
        equal &= seen == counted
        style = "" if seen == counted else "bold red"
        table.add_row(f"{name} {' '.join(labels)}", str(seen), f"{counted:g}", style=style)
    console.print(table)
    if equal:
        console.print("[green]The metrics match what the clients counted.[/]")
    else:
        console.print("[bold red]The metrics do not match what the clients counted.[/]")
    return equal


def _addresses(environment: Environment) -> str:
    return f"front door {environment.front_door} · metrics {environment.metrics}"
