"""`seed-oauth config`: check the settings, show where they come from, and print the schema of the settings file."""

import ast
import inspect
import json
import textwrap
from typing import Annotated, Any

import typer

from seed_oauth.cli.options import ConfigFile, EnvFile
from seed_oauth.cli.stored import AsJson, harmless, print_json, show_text, table_of
from seed_oauth.settings import PREFIX, Settings
from seed_oauth.settings.sources import SECRETS, without_queries
from seed_oauth.settings.store_url import shown

app = typer.Typer(help="Check the settings, and help to write the settings file.", no_args_is_help=True)


@app.command()
def check(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Show the defaults, too.")] = False,
    as_json: AsJson = False,
    _config: ConfigFile = None,
    _env_file: EnvFile = None,
) -> None:
    """Check the settings, and show which are set and where. Secrets are not shown.

    The exit status is 2 if the server would refuse to start with them.
    """
    settings = Settings.load()
    origins = Settings.origins()
    values = _values(settings)
    names = [name for name in Settings.model_fields if everything or name in origins]
    rows = [(name, values.get(name, ""), origins.get(name, "default")) for name in names]
    if as_json:
        print_json({name: {"value": value, "from": origin} for name, value, origin in rows})
        return
    table = table_of("setting", "value", "from")
    for row in rows:
        table.add_row(*map(harmless, row))
    if rows:
        show_text(table)
    show_text(f"The settings are valid. {len(origins)} are set, the others have their defaults.")


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings file, with which editors complete and check it."""
    found = Settings.model_json_schema()
    for name, text in descriptions().items():
        found["properties"][name]["description"] = text
    for name in SECRETS:
        found["properties"][f"{name}_file"] = {"type": "string", "description": f"Path of a file with `{name}`."}
    found |= {"title": "seed-oauth.toml", "description": "The settings file of seed-oauth."}
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **found}, indent=2))


def descriptions() -> dict[str, str]:
    """What each setting means: the docstring under its field, those of `Settings` itself first."""
    found = {}
    for part in (each for each in Settings.__mro__ if each.__module__.startswith("seed_oauth.")):
        fields: Any = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        for field, after in zip(fields.body, fields.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(after.value).split())
    return found


def _values(settings: Settings) -> dict[str, str]:
    """The values as environment variables have them, without secrets."""
    environment = settings.as_environment()
    values = {name.removeprefix(PREFIX).lower(): without_queries(value) for name, value in environment.items()}
    values |= {name: "(secret)" for name in SECRETS if values.get(name)}
    return {
        **values,
        "store_url": shown(settings.store_url),
        "clients": " ".join(client.client_id for client in settings.clients),
        "idp_authorization_parameters": " ".join(settings.idp_authorization_parameters),
        "idp_token_parameters": " ".join(settings.idp_token_parameters),
    }
