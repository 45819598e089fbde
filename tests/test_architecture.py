"""The rules of the house that can be checked: which folder may import which, and one place for each thing.

Each rule is a function from the modules to what breaks it, and comes with a module that does.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "seed_oauth"

# A folder or module may import those on the lines above its own, and nothing else of the package.
LAYERS = """
    outcomes  protocol
    envelopes
    settings
    access
    http  http_client
    telemetry
    identity_provider  clients
    flows
    storage
    rate_limits  resource_server
    endpoints
    container  protect
    app
    server
    cli
    __main__
"""
FLOORS = [line.split() for line in LAYERS.split("\n") if line.strip()]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

MOST_ENTRIES = 22
MOST_LINES = 300

Modules = Mapping[str, str]
"""The source of each module by its dotted name below the package; packages end in `.__init__`."""


@cache
def imports(source: str, *, for_types: bool = True) -> frozenset[str]:
    """What a module imports: dotted names, with the last part for what is imported from a module."""
    found: set[str] = set()
    tree = ast.parse(source)
    if not for_types:
        tree.body = [node for node in tree.body if not _is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return frozenset(found)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def own(source: str, *, for_types: bool = True) -> set[str]:
    """What a module imports of the package, without the package's name."""
    found = imports(source, for_types=for_types)
    return {name.removeprefix("seed_oauth.") for name in found if name.startswith("seed_oauth.")}


def top(name: str) -> str:
    return name.split(".", 1)[0]


def importing(modules: Modules, who: Callable[[str], bool], what: Iterable[str]) -> list[str]:
    """The imports of `what`, modules with all that is in them, by the modules that `who` accepts."""
    forbidden = tuple(what)
    return [
        f"{module} imports {name}"
        for module, source in modules.items()
        if who(module)
        for name in sorted({one.removeprefix("seed_oauth.") for one in imports(source)})
        if any(f"{name}.".startswith(f"{one}.") for one in forbidden)
    ]


def every_folder_has_its_layer(modules: Modules) -> list[str]:
    return sorted({top(module) for module in modules} - {"__init__"} - FLOOR_OF.keys())


def imports_point_upwards(modules: Modules) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, source in modules.items()
        for name in sorted(own(source))
        if top(module) != "__init__"
        and top(name) != top(module)
        and FLOOR_OF.get(top(name), len(FLOORS)) >= FLOOR_OF.get(top(module), 0)
    ]


def there_is_no_circle_of_modules(modules: Modules) -> list[str]:
    def of(name: str) -> str | None:
        parents = (name, name.rpartition(".")[0])
        candidates = [one for parent in parents for one in (parent, f"{parent}.__init__")]
        return next((one for one in candidates if one in modules), None)

    graph = {
        module: {found for name in own(source, for_types=False) if (found := of(name))}
        for module, source in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return [" → ".join(circle.args[1])]
    return []


def endpoints_know_neither_each_other_nor_metrics(modules: Modules) -> list[str]:
    def is_endpoint(module: str) -> bool:
        return top(module) == "endpoints" and module != "endpoints.boundary" and ".openapi." not in module

    return importing(modules, is_endpoint, ("endpoints", "telemetry", "http.error_response"))


def flows_know_no_wire_and_no_metrics(modules: Modules) -> list[str]:
    return importing(modules, lambda module: top(module) == "flows", ("telemetry", "http.error_response", "httpx"))


def the_two_flows_do_not_know_each_other(modules: Modules) -> list[str]:
    of_the_broker = [
        module for module in modules if top(module) == "flows" and module not in {"flows.__init__", "flows.relay"}
    ]
    return [
        *importing(modules, lambda module: module == "flows.relay", of_the_broker),
        *importing(modules, lambda module: top(module) == "flows", ("flows.relay",)),
    ]


def only_composition_knows_how_things_are_stored(modules: Modules) -> list[str]:
    composing = {"storage", "container", "protect", "cli"}
    # Counts are shared through Redis, which is no store of the flows.
    return importing(
        modules,
        lambda module: top(module) not in composing and module != "rate_limits.shared",
        ("storage", "sqlite3", "redis"),
    )


def only_telemetry_imports_opentelemetry(modules: Modules) -> list[str]:
    return importing(modules, lambda module: top(module) != "telemetry", ("opentelemetry",))


def only_connections_to_others_import_aiohttp(modules: Modules) -> list[str]:
    connecting = {"http_client", "resource_server"}  # the latter for its reverse proxy
    return importing(modules, lambda module: top(module) not in connecting, ("aiohttp", "yarl"))


def no_file_is_too_long(modules: Modules) -> list[str]:
    return [module for module, source in modules.items() if len(source.splitlines()) > MOST_LINES]


def every_folder_says_what_it_is_for(modules: Modules) -> list[str]:
    return [
        module
        for module, source in modules.items()
        if module.endswith("__init__") and not ast.get_docstring(ast.parse(source))
    ]


def there_are_few_entries_at_the_top(modules: Modules) -> list[str]:
    entries = {top(module) for module in modules}
    return sorted(entries) if len(entries) > MOST_ENTRIES else []


Rule = Callable[[Modules], list[str]]

RULES: Mapping[Rule, Modules] = {
    every_folder_has_its_layer: {"new_folder.module": ""},
    imports_point_upwards: {"settings.module": "from seed_oauth.flows import Flow"},
    there_is_no_circle_of_modules: {
        "http.a": "from seed_oauth.http import b",
        "http.b": "from seed_oauth.http.a import A",
    },
    endpoints_know_neither_each_other_nor_metrics: {"endpoints.token": "from seed_oauth.endpoints import callback"},
    flows_know_no_wire_and_no_metrics: {"flows.broker": "import httpx"},
    the_two_flows_do_not_know_each_other: {"flows.broker": "from seed_oauth.flows.relay import RelayFlow"},
    only_composition_knows_how_things_are_stored: {"clients.module": "import sqlite3"},
    only_telemetry_imports_opentelemetry: {"app": "from opentelemetry.metrics import Meter"},
    only_connections_to_others_import_aiohttp: {"clients.module": "import aiohttp"},
    no_file_is_too_long: {"app": "\n" * (MOST_LINES + 1)},
    every_folder_says_what_it_is_for: {"flows.__init__": "import this"},
    there_are_few_entries_at_the_top: {f"module_{number}": "" for number in range(MOST_ENTRIES + 1)},
}
"""Each rule with modules that break it."""


def name_of(rule: Rule) -> str:
    return rule.__name__


@pytest.fixture(scope="module")
def modules() -> Modules:
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in SOURCE.rglob("*.py")
    }


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_package_keeps_the_rule(rule: Rule, modules: Modules) -> None:
    assert rule(modules) == []


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_module_that_breaks_the_rule_is_found(rule: Rule) -> None:
    assert rule(RULES[rule])


def test_the_table_of_layers_names_nothing_that_is_gone(modules: Modules) -> None:
    assert {top(module) for module in modules} >= FLOOR_OF.keys()


@pytest.mark.parametrize("library", ["joserfc", "redis"])
def test_a_door_starts_without_what_only_signed_tokens_or_several_hosts_need(library: str) -> None:
    """It keeps its memory and its start small; see `protocol.jwk` and `storage.open`."""
    look = (
        "import sys, seed_oauth.cli.main, seed_oauth.server.single, seed_oauth.server.supervisor; "
        "from seed_oauth import Settings, create_app; create_app(Settings(store_url='sqlite:///:memory:')); "
        f"print('{library}' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert run.stdout == "False\n"
