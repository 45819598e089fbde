"""What operators copy is held together: configurations of real parts, the image, Compose, Kubernetes, the how-tos."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk import environment_variables

from seed_oauth.http.parameters import MAXIMUM_BODY
from seed_oauth.server.connection_limits import Limits
from seed_oauth.server.listener import DRAIN, METRICS_CONNECTIONS
from seed_oauth.server.process_limits import MOST_CONNECTIONS, OTHER_FILES
from seed_oauth.settings import Settings
from seed_oauth.telemetry.push import SHUTDOWN_TIMEOUT
from tests.cli.test_cli import Server, free_port, serving
from tests.integration.collector import collector
from tests.integration.real_parts import Prometheus, eventually
from tests.real_parts import COLLECTOR, path_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


PROMETHEUS = read("otel/prometheus.yaml")
COMPOSE = read("compose.yaml")
DOCKERFILE = read("Dockerfile")
HOW_TOS = sorted((ROOT / "docs/how-to").glob("*.md"))
OPERATIONS = "\n".join(read(page) for page in HOW_TOS)
KUBERNETES = {str(path.relative_to(ROOT)): read(path) for path in sorted((ROOT / "otel/kubernetes").rglob("*.yaml"))}
COPIED = {"compose.yaml": COMPOSE, "Dockerfile": DOCKERFILE, "how-tos": OPERATIONS, **KUBERNETES}
RULES = sorted((ROOT / "otel/rules").glob("*.yaml"))

# The files keep to one layout, so that they can be read here without a YAML library.
SERVICES = dict(re.findall(r"^  (\w+):\n((?: {4}.*\n|\n)+)", COMPOSE.split("\nservices:\n")[1], re.MULTILINE))
IMAGE = dict(re.findall(r"(SEED_OAUTH_\w+)=(\S+)", DOCKERFILE))
ANYWHERE = "0.0.0.0"  # noqa: S104 - of a container's network


def variables(service: str) -> dict[str, str]:
    """The environment in compose.yaml; what it only passes on is empty."""
    return dict(re.findall(r"^ {6}([A-Z_]+): ?(.*)$", SERVICES[service], re.MULTILINE))


def block(mark: str) -> str:
    """The code block of the how-tos under an HTML comment."""
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", OPERATIONS, re.DOTALL)
    assert found, f"there is no block {mark}"
    return found[1]


def run(*command: str | Path) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    done = subprocess.run(  # noqa: S603 - checkers of real parts, on the project's own files
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def promtool() -> str:
    return path_of("promtool")


# Prometheus, the Collector and Alertmanager read what is theirs


@pytest.mark.real_parts("prometheus")
def test_prometheus_accepts_its_configuration_and_finds_all_rules(promtool: str) -> None:
    code, printed = run(promtool, "check", "config", "otel/prometheus.yaml")
    assert code == 0, printed
    assert f"{len(RULES)} rule files found" in printed


@pytest.mark.real_parts("prometheus")
def test_prometheus_accepts_the_lines_that_operators_add_to_theirs(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yaml").write_text(block("prometheus"), encoding="utf-8")
    code, printed = run(promtool, "check", "config", tmp_path / "prometheus.yaml")
    assert code == 0, printed


@pytest.mark.real_parts("collector")
def test_the_collector_accepts_its_configuration() -> None:
    code, printed = run(COLLECTOR, "validate", "--config=otel/collector.yaml")
    assert code == 0, printed


@pytest.mark.real_parts("collector")
def test_the_collector_accepts_a_trace_store() -> None:
    code, printed = run(COLLECTOR, "validate", "--config=otel/collector.yaml", "--config=otel/collector-traces.yaml")
    assert code == 0, printed
    assert "deprecated" not in printed


@pytest.mark.real_parts("collector")
def test_all_that_the_small_collector_lacks_for_remote_write_is_the_exporter() -> None:
    _, printed = run(COLLECTOR, "validate", "--config=otel/collector.yaml", "--config=otel/collector-remote-write.yaml")
    (complaint,) = re.findall(r"^'.*", printed, re.MULTILINE)
    assert complaint.startswith("'exporters' unknown type: \"prometheusremotewrite\"")


@pytest.mark.real_parts("alertmanager")
def test_alertmanager_accepts_its_configuration_and_tells_a_page_from_a_ticket() -> None:
    amtool = path_of("amtool")
    code, printed = run(amtool, "check-config", "otel/alertmanager.yaml")
    assert code == 0, printed
    for severity in ("page", "ticket"):
        route = [amtool, "config", "routes", "test", "--config.file=otel/alertmanager.yaml", f"severity={severity}"]
        assert severity in run(*route)[1].splitlines()


@asynccontextmanager
async def prometheus_elsewhere(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """A Prometheus with `otel/prometheus.yaml` and the features of Compose, but other targets, and scraping often."""
    config = PROMETHEUS.replace("15s", "500ms")
    for target in re.findall(r"targets: \[(.*)\]", PROMETHEUS):
        config = config.replace(target, targets.get(target, "127.0.0.1:1"))
    (folder / "prometheus.yaml").write_text(config, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        path_of("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        *re.findall(r"--enable-feature=\S+", SERVICES["prometheus"]),
    ]
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,  # noqa: S603 - a fixed program
        httpx.Client(trust_env=False) as http,
    ):

        async def is_ready() -> bool:
            assert process.poll() is None, read(folder / "prometheus.log")
            try:
                return http.get(f"http://{address}/-/ready").is_success
            except httpx.TransportError:
                return False

        try:
            await eventually(is_ready)
            yield Prometheus(f"http://{address}")
        finally:
            process.kill()


@pytest.mark.real_parts("prometheus")
@pytest.mark.real_parts("collector")
async def test_the_same_traffic_by_pull_and_by_push_is_two_jobs_each_of_which_is_right(tmp_path: Path) -> None:
    async with collector(tmp_path) as receiver:
        metrics_port = str(free_port())
        environment = {
            "SEED_OAUTH_METRICS_PORT": metrics_port,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.otlp,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        pushed = httpx.URL(receiver.metrics).netloc.decode()
        targets = {"app:9464": f"127.0.0.1:{metrics_port}", "collector:8889": pushed}
        # Prometheus first: it takes seconds until it begins to scrape.
        async with prometheus_elsewhere(tmp_path, targets) as prometheus, serving(tmp_path, environment) as server:
            for _ in range(3):
                await server.http.post(f"{server.url}/oauth/register", json={})

            async def jobs() -> list[str]:
                series = await prometheus.query("sum by (job) (oauth_dcr_registrations_total) == 3")
                return sorted(one["metric"]["job"] for one in series) if len(series) > 1 else []

            assert await eventually(jobs) == ["seed-oauth", "seed-oauth-pushed"]
            assert len(await prometheus.query("count by (job) (oauth_dcr_registrations_total)")) == 2


# The image


def test_the_image_is_built_from_what_git_has_and_from_nothing_else() -> None:
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)).split()
    assert sorted(copied) == sorted(re.findall(r"^!(\S+)$", read(".dockerignore"), re.MULTILINE))
    assert all((ROOT / name).exists() for name in copied)


def test_nothing_in_the_image_runs_as_root() -> None:
    user = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)[-1]
    assert int(user) > 0
    assert f"install -d -o {user} " in DOCKERFILE


def test_the_image_installs_locked_wheels_and_nothing_that_installs_more() -> None:
    *_, stage = DOCKERFILE.split("\nFROM ")
    installed = re.findall(r"^RUN pip .* install (.*)$", DOCKERFILE, re.MULTILINE)
    assert ["--only-binary=:all:" in options for options in installed] == [True, True]
    assert "--require-hashes --requirement requirements.txt" in installed[0]
    assert "--no-deps" in installed[1]
    assert "RUN python -m venv --without-pip /opt/seed-oauth\n" in DOCKERFILE
    assert "RUN pip uninstall --yes " in stage


def test_the_tools_that_build_the_package_in_the_image_are_locked_by_hash() -> None:
    """THREATS 31."""
    tools = read(".ci/build-requirements.txt")
    (backend,) = re.findall(r"^requires = \[\"(.*)\"\]$", read("pyproject.toml"), re.MULTILINE)
    assert f"{backend} " in tools
    assert len(re.findall(r"^[\w-]+==", tools, re.MULTILINE)) <= tools.count("--hash=sha256:")
    assert "--require-hashes --requirement build-requirements.txt" in DOCKERFILE
    assert re.findall(r"^RUN pip wheel (.*)$", DOCKERFILE, re.MULTILINE)[0].split()[1:3] == [
        "--no-build-isolation",
        "--no-deps",
    ]


def test_the_image_says_what_it_is_and_how_it_is_stopped() -> None:
    labels = dict(re.findall(r"org\.opencontainers\.image\.(\w+)=(\S+)", DOCKERFILE))
    assert (labels["title"], labels["version"], labels["licenses"]) == ("seed_oauth", version("seed-oauth"), "MIT")
    assert "\nSTOPSIGNAL SIGTERM\n" in DOCKERFILE


async def test_the_health_check_of_the_image_asks_whether_it_answers(tmp_path: Path) -> None:
    found = re.search(r"^HEALTHCHECK .*\\\n\s*(\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    _, *arguments = json.loads(found[1])

    def is_healthy(server: Server) -> bool:
        # A proxy for everything else is no way to loopback.
        environment = {"SEED_OAUTH_PORT": str(httpx.URL(server.url).port), "HTTP_PROXY": "http://127.0.0.1:1"}
        asked = subprocess.run(  # noqa: S603 - the Dockerfile's own
            [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, check=False
        )
        return asked.returncode == 0

    async with serving(tmp_path) as server:
        assert is_healthy(server)
    assert not is_healthy(server)


# Compose


def test_every_image_is_pinned_by_its_version() -> None:
    images = re.findall(r"^\s*(?:image:|FROM) (\S+)", "\n".join(COPIED.values()), re.MULTILINE)
    assert len(images) == 9  # two stages, five services, the pod and a hosted platform
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+(-[\w.-]+)?$", image), image
    assert f"registry.example.com/seed-oauth:{version('seed-oauth')}" in images


def test_operators_run_the_collector_that_is_tested() -> None:
    (tested,) = re.findall(r"^  version: (\S+)$", read("otel/builder.yaml"), re.MULTILINE)
    assert f"otel/opentelemetry-collector-contrib:{tested}\n" in COMPOSE


def test_ports_are_published_on_loopback_and_the_metrics_not_at_all() -> None:
    lists = re.findall(r"^    ports: (\[.*\])$", COMPOSE, re.MULTILINE)
    assert len(lists) == COMPOSE.count("ports:")
    published = [port for ports in lists for port in json.loads(ports)]
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)
    assert {port.split(":")[1] for port in published} == set(re.findall(r"<http://127\.0\.0\.1:(\d+)>", OPERATIONS))
    assert IMAGE["SEED_OAUTH_METRICS_PORT"] not in "".join(lists)


def test_every_service_is_confined_and_says_whether_it_is_healthy() -> None:
    assert list(SERVICES) == ["app", "demo", "collector", "jaeger", "prometheus", "alertmanager", "grafana"]
    for name, body in SERVICES.items():
        assert body.startswith("    <<: *confined\n"), name
        # The image of the app has its check within; that of the Collector has no program that could ask.
        assert ("    healthcheck:\n" in body) == (name not in {"app", "demo", "collector"}), name


def test_what_compose_mounts_is_there() -> None:
    mounted = re.findall(r'(?:- |")(\.?[\w./]+):/\w', COMPOSE)
    volumes = re.findall(r"^  (\w+):$", COMPOSE.split("\nvolumes:\n")[1], re.MULTILINE)
    assert {name for name in mounted if not name.startswith(".")} == set(volumes)
    assert all((ROOT / name).exists() for name in mounted if name.startswith("."))


def test_compose_passes_every_setting_on_that_the_image_does_not_make() -> None:
    settings = {f"SEED_OAUTH_{name.upper()}" for name in Settings.model_fields}
    store = "SEED_OAUTH_STORE_URL"
    assert {name for name in variables("app") if name.startswith("SEED_")} == settings - IMAGE.keys() | {store}
    # Compose takes a variable that is not set away from the image, too.
    assert variables("app")[store] == f"${{{store}:-{IMAGE[store]}}}"


def test_the_image_serves_with_what_compose_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    by_default = {"SEED_OAUTH_ISSUER": variables("app")["SEED_OAUTH_ISSUER"].split(":-")[1].strip("}")}
    for name, value in {**IMAGE, **by_default}.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert (settings.host, settings.metrics_host) == (ANYWHERE, ANYWHERE)
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert settings.store_url == f"sqlite:///{volume}/clients.db"


def test_prometheus_looks_where_compose_puts_things() -> None:
    collects = variables("collector")
    assert collects["COLLECTOR_OWN_METRICS_HOST"] == ANYWHERE
    own = re.findall(r"COLLECTOR_OWN_METRICS_PORT:-(\d+)}", read("otel/collector.yaml"))
    assert re.findall(r"targets: \[(.*)\]", PROMETHEUS) == [
        "alertmanager:9093",
        f"app:{IMAGE['SEED_OAUTH_METRICS_PORT']}",
        collects["COLLECTOR_PROMETHEUS"].replace(ANYWHERE, "collector"),
        f"collector:{own[0]}",
    ]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    source = read("grafana/provisioning/datasources/prometheus.yaml")
    assert "url: http://prometheus:9090\n" in source
    assert re.findall(r"timeInterval: (\S+)", source) == re.findall(r"scrape_interval: (\S+)", PROMETHEUS)
    (folder,) = re.findall(r"^ {6}path: (\S+)$", read("grafana/provisioning/dashboards/seed-oauth.yaml"), re.MULTILINE)
    assert f"- ./grafana:{folder}:ro\n" in SERVICES["grafana"]
    home = Path(variables("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).relative_to(folder)
    assert json.loads(read("grafana" / home))["title"] == "Seed MCP Server"


def test_traces_reach_jaeger_and_exemplars_lead_grafana_to_them() -> None:
    assert variables("collector")["COLLECTOR_TRACES"] == "http://jaeger:4318"
    assert "${env:COLLECTOR_TRACES:-" in read("otel/collector-traces.yaml")
    configs = re.findall(r"--config=([^],\s]+)", SERVICES["collector"])
    assert configs == [f"/etc/seed-oauth/otel/{name}.yaml" for name in ("collector", "collector-traces")]

    source = read("grafana/provisioning/datasources/jaeger.yaml")
    assert "url: http://jaeger:16686\n" in source
    (uid,) = re.findall(r"^    uid: (\S+)$", source, re.MULTILINE)
    exemplars = f"exemplarTraceIdDestinations:\n        - name: trace_id\n          datasourceUid: {uid}\n"
    assert exemplars in read("grafana/provisioning/datasources/prometheus.yaml")


def test_docker_compose_accepts_its_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or run(docker, "compose", "version")[0]:
        pytest.skip("docker compose is missing: https://docs.docker.com/compose/install/")
    (tmp_path / ".env").write_text("SEED_OAUTH_SCOPES=mcp:read\n", encoding="utf-8")
    options = ["--env-file", str(tmp_path / ".env"), "--profile", "demo"]
    code, printed = run(docker, "compose", *options, "config", "--format", "json")
    assert code == 0, printed
    services: dict[str, Any] = json.loads(printed)["services"]
    assert set(services) == set(SERVICES)
    assert services["app"]["environment"]["SEED_OAUTH_SCOPES"] == "mcp:read"
    assert services["app"]["environment"]["SEED_OAUTH_WORKERS"] is None
    for service in services.values():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


# The rules of Prometheus as objects of its Operator


def is_yaml(promtool: str, text: str, folder: Path) -> bool:
    """Whether Prometheus' parser reads it; that nothing in it is a setting of Prometheus is another matter."""
    (folder / "any.yaml").write_text(text, encoding="utf-8")
    _, printed = run(promtool, "check", "config", folder / "any.yaml")
    complaints = re.findall(r"^  line \d+: (.*)$", printed, re.MULTILINE)
    return "yaml: unmarshal errors" in printed and all("not found in type config.plain" in line for line in complaints)


@pytest.mark.real_parts("prometheus")
def test_what_is_no_yaml_is_noticed(promtool: str, tmp_path: Path) -> None:
    assert is_yaml(promtool, "a: [b]\n", tmp_path)
    assert not is_yaml(promtool, "a: [b\n", tmp_path)
    assert not is_yaml(promtool, "a: b\n c: d\n", tmp_path)


@pytest.mark.real_parts("prometheus")
def test_the_rules_become_objects_as_shown(promtool: str, tmp_path: Path) -> None:
    code, printed = run("/bin/sh", "-euc", block("rules to objects").replace(" | kubectl apply -f -", ""))
    assert code == 0, printed
    objects = printed.removesuffix("---\n").split("\n---\n")
    assert len(objects) == len(RULES)
    assert all(is_yaml(promtool, text, tmp_path) for text in objects)


def test_what_is_under_way_has_its_time_before_compose_kills_it() -> None:
    # Workers push, then the supervisor; a second is for the processes themselves to end.
    (grace,) = re.findall(r"^    stop_grace_period: (\d+)s$", COMPOSE, re.MULTILINE)
    assert int(grace) >= DRAIN + 2 * SHUTDOWN_TIMEOUT + 1
    assert f"after {DRAIN + 2 * SHUTDOWN_TIMEOUT:.0f} seconds at the latest" in OPERATIONS


def test_the_how_tos_have_the_limits_of_connections_as_they_are() -> None:
    limits = Limits(connections=MOST_CONNECTIONS)
    for line in (
        f"| {limits.head:.0f} s, {limits.head_size >> 10} KiB, {limits.fields} header fields |",
        f"| {limits.body:.0f} s, plus one second for each KiB received; {MAXIMUM_BODY >> 10} KiB,",
        f"| idle between two requests | {limits.idle:.0f} s |",
        f"| response not read | {limits.unread:.0f} s |",
        f"| pipelined requests | {limits.pipelined} queued",
        f"| connections | {limits.connections:,} per process, or half of `ulimit -n` minus {OTHER_FILES};",
        f"its own limit of {METRICS_CONNECTIONS} connections.",
    ):
        assert line in OPERATIONS
    assert limits.body_rate == 1024


# The how-tos


@pytest.mark.parametrize("name", COPIED)
def test_every_variable_is_one_that_somebody_reads(name: str) -> None:
    known = {
        *Settings.known_variables(),
        *vars(environment_variables),
        "OTEL_TRACES_EXPORTER",  # the SDK reads it by its entry points, we by ourselves (telemetry/push.py)
        *re.findall(r"\$\{env:(\w+)", "".join(map(read, sorted(ROOT.glob("otel/collector*.yaml"))))),
    }
    assert set(re.findall(r"\b(?:SEED_OAUTH|OTEL|COLLECTOR|REMOTE)_[A-Z_]*[A-Z]\b", COPIED[name])) <= known


def test_every_file_that_the_how_tos_name_exists() -> None:
    for named in re.findall(r"(?<![\w/])(?:otel|grafana)/[\w./-]+\w", OPERATIONS):
        assert (ROOT / named).exists(), named


def test_every_file_for_operators_is_in_the_how_tos() -> None:
    files = [*(ROOT / "otel").glob("*.yaml"), *RULES, *(ROOT / "otel/kubernetes").rglob("kustomization.yaml")]
    linked = {(ROOT / "docs/how-to" / target).resolve() for target in re.findall(r"\]\((\.\./[^)#]+)\)", OPERATIONS)}
    assert {path.resolve() for path in files if path.name != "builder.yaml"} <= linked  # which is for the tests


async def test_the_app_for_uvicorn_and_gunicorn_serves_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED_OAUTH_STORE_URL", f"sqlite:///{tmp_path}/clients.db")
    shown: dict[str, Any] = {}
    exec(block("main.py"), shown)  # noqa: S102 - the page's own code
    app = shown["app"]
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        assert (await http.get("/healthz")).status_code == 200
