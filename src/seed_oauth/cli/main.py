"""The command line: `seed-oauth init`, `serve`, `demo`, `watch`, `doctor`, `explain` and the groups of commands."""

import logging
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from seed_oauth.cli import clients as clients_command
from seed_oauth.cli import config as config_command
from seed_oauth.cli import grants as grants_command
from seed_oauth.cli.options import ConfigFile, EnvFile, use_variables
from seed_oauth.settings import PREFIX, Settings, SettingsError
from seed_oauth.settings.sources import CONFIG

app = typer.Typer(
    help="An OAuth front door for MCP servers, with metrics of every login.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(clients_command.app, name="clients")
app.add_typer(grants_command.app, name="grants")
app.add_typer(config_command.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"seed-oauth {version('seed-oauth')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="The settings file to write.")] = Path("seed-oauth.toml"),
    *,
    issuer: Annotated[str | None, typer.Option(help="URL at which clients reach this server.")] = None,
    idp_issuer: Annotated[
        str | None, typer.Option(help="Issuer of the identity provider, or the name of its preset.")
    ] = None,
    idp_client_id: Annotated[str | None, typer.Option(help="The client_id that it issued.")] = None,
    idp_client_secret: Annotated[
        str | None,
        typer.Option(help="The client_secret. On a command line, others see it.", envvar=f"{PREFIX}IDP_CLIENT_SECRET"),
    ] = None,
    allow: Annotated[
        str | None, typer.Option(help="Who may come in: domains or addresses of e-mail, or everybody.")
    ] = None,
    mcp_server: Annotated[str | None, typer.Option(help="URL of the MCP server; empty forwards nothing.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file without asking.")] = False,
) -> None:
    """Ask for what every deployment needs, write the settings file, and check it. Options answer questions."""
    from seed_oauth.cli.init import ask_for_settings, write

    if file.exists() and not overwrite:
        typer.confirm(f"{file} exists. Replace it?", abort=True)
    given = {
        "issuer": issuer,
        "idp_issuer": idp_issuer,
        "idp_client_id": idp_client_id,
        "idp_client_secret": idp_client_secret,
        "allow": allow,
        "mcp_server": mcp_server,
    }
    values = ask_for_settings(given)
    settings = Settings.load(**values)  # which refuses what does not fit together
    write(file, values)
    print(f"\n{file} is written. Start the server with: seed-oauth serve --config {file}")
    for server in settings.forwarded:
        print(f"MCP clients connect to: {server.resource}")
    print()
    os.environ[CONFIG] = str(file)
    _fails()  # `doctor` says so with its exit status


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help=f"Address to listen on ({PREFIX}HOST).")] = None,
    port: Annotated[int | None, typer.Option(help=f"Port to listen on ({PREFIX}PORT, 8000).")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help=f"Port of the metrics listener ({PREFIX}METRICS_PORT, 9464).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help=f"Number of worker processes ({PREFIX}WORKERS, 1).")] = None,
    mcp_server: Annotated[
        str | None,
        typer.Option(help=f"URL of the MCP server, such as http://127.0.0.1:9000/mcp ({PREFIX}MCP_SERVER)."),
    ] = None,
    *,
    reload_on_change: Annotated[
        bool, typer.Option("--reload-on-change", help="Reload when the settings file changes, as SIGHUP does.")
    ] = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> None:
    """Run the front door. SEED_OAUTH_* environment variables and the settings file set everything else.

    SIGHUP reads them again, and drops no request.
    """
    from seed_oauth.server import single, supervisor, worker
    from seed_oauth.server.fork_server import fork_server
    from seed_oauth.server.signals import end_beside_threads, run
    from seed_oauth.telemetry import logs

    options = {"host": host, "port": port, "metrics_port": metrics_port, "workers": workers, "mcp_server": mcp_server}
    given = {name: value for name, value in options.items() if value is not None}

    def load(**kept: object) -> Settings:
        use_variables(env_file)
        return Settings.load(**{**given, **kept})

    settings = load()
    logs.configure(settings)
    watched = config if reload_on_change else None
    if settings.workers == 1:
        run(single.serve(settings, load, watched))
    else:
        worker.rehearse(settings)
        with fork_server(worker.main) as forks:
            run(supervisor.serve(settings, forks, load, watched))
    end_beside_threads()


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Run some logins, check the metrics, and exit.")] = False,
    logins: Annotated[int, typer.Option(min=1, help="Number of logins with --once.")] = 40,
    save_scrape: Annotated[Path | None, typer.Option(help="File for the last scrape of --once.")] = None,
    per_second: Annotated[float, typer.Option(min=0.1, max=50, help="Logins per second.")] = 3,
    latency: Annotated[
        float, typer.Option(min=0, max=30, help="Default latency of the identity provider, in seconds.")
    ] = 0,
    error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of token exchanges that fail at the identity provider.")
    ] = 0,
    in_browser: Annotated[
        bool, typer.Option("--open", help="Open the page of the metrics listener in the browser.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the front door; 0 picks a free one.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="Port of the metrics listener; 0 picks a free one.")] = 9464,
) -> None:
    """Show logins against a built-in identity provider. Needs no setup."""
    from rich.console import Console

    from seed_oauth.cli.demo.show import show, show_once
    from seed_oauth.server.signals import run
    from seed_oauth.telemetry import logs

    logs.configure(Settings.load(log_level="error"))
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # log lines would disturb the view
    console = Console()
    if once:
        agrees, scrape = run(show_once(console, port=port, metrics_port=metrics_port, logins=logins))
        if save_scrape is not None:
            save_scrape.write_text(scrape)
        sys.exit(0 if agrees else 1)
    run(
        show(
            console,
            port=port,
            metrics_port=metrics_port,
            per_second=per_second,
            latency=latency,
            error_rate=error_rate,
            in_browser=in_browser,
        )
    )


@app.command()
def watch(
    metrics_url: Annotated[str, typer.Argument(help="URL of the metrics listener.")] = "http://127.0.0.1:9464/metrics",
    *,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two scrapes.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Show one view and exit.")] = False,
) -> None:
    """Watch the logins of a running instance, from its metrics."""
    from rich.console import Console

    from seed_oauth.cli.watch import WatchError
    from seed_oauth.cli.watch import watch as show
    from seed_oauth.server.signals import run

    try:
        run(show(metrics_url, interval=interval, console=Console(), once=once))
    except WatchError as error:
        raise SettingsError(str(error)) from None


@app.command()
def doctor(
    *,
    alert: Annotated[
        str | None,
        typer.Option(help="Name of an alert: print its runbook, and only the findings that bear on it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    _config: ConfigFile = None,
    _env_file: EnvFile = None,
) -> None:
    """Check the settings, the identity provider, the store, the MCP server and the ports, and show what to change."""
    sys.exit(1 if _fails(alert=alert, as_json=as_json) else 0)


def _fails(*, alert: str | None = None, as_json: bool = False) -> bool:
    """Whether the doctor finds something that has to be fixed; its findings are printed."""
    from rich.console import Console
    from rich.markdown import Markdown

    from seed_oauth.cli.doctor import examine
    from seed_oauth.cli.doctor.finding import about, as_json_text, has_failed, show
    from seed_oauth.cli.doctor.runbook import runbooks
    from seed_oauth.server.signals import run

    runbook = None if alert is None else runbooks().get(alert)
    if alert is not None and runbook is None:
        raise typer.BadParameter(f"there is no alert {alert}; there are {', '.join(runbooks())}")
    findings = run(examine())
    if runbook is not None:
        findings = about(findings, runbook.checks)
    if as_json:
        print(as_json_text(findings))
        return has_failed(findings)
    console = Console()
    if runbook is not None:
        console.print(Markdown(f"# {runbook.alert}\n\n{runbook.text}"), "")
    show(findings, console)
    return has_failed(findings)


@app.command()
def explain(
    identifier: Annotated[
        str, typer.Argument(help="The reference on the error page, or a flow_id, correlation_id, trace_id or grant_id.")
    ],
    log: Annotated[
        typer.FileText,
        typer.Argument(
            errors="replace", help="The log as JSON lines, with or without what a log driver puts before each."
        ),
    ] = "-",  # type: ignore[assignment]  # typer opens it
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what happened in one login, where it ended and who has to act, from the log on standard input or in a file.

    For example: journalctl -u seed-oauth -o cat | seed-oauth explain 4be0f2b0c1a2
    """
    from rich.console import Console

    from seed_oauth.cli.explain import show
    from seed_oauth.cli.explain.log import ExplainError, lines_of
    from seed_oauth.cli.explain.story import tell

    with tempfile.TemporaryFile("w+", encoding="utf-8") as copy:
        # A pipe cannot be read twice.
        shutil.copyfileobj(log, copy)
        copy.seek(0)
        try:
            story = tell(lines_of(identifier, copy))
        except ExplainError as error:
            print(f"seed-oauth: {error}", file=sys.stderr)
            sys.exit(1)
    if as_json:
        print(show.as_json(story))
    else:
        show.show(story, Console())


def main() -> None:
    """The entry point. An error that the user can fix is shown as one line, without a stack trace."""
    try:
        app()
    except SettingsError as error:
        print(f"seed-oauth: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
