"""The settings of the MCP servers, and their validation."""

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings

from seed_oauth.protocol.host import LOOPBACK_HOSTS, is_plain_host
from seed_oauth.protocol.resource import canonical
from seed_oauth.settings import tools, validators
from seed_oauth.settings.access_lists import AccessLists
from seed_oauth.settings.errors import PREFIX

if TYPE_CHECKING:
    from seed_oauth.settings import Settings

# RFC 6762, RFC 6761, RFC 8375, ICANN resolution 2024.07.29.06, and Kubernetes services in other namespaces.
_PRIVATE_NAMES = (".local", ".localhost", ".home.arpa", ".internal", ".svc")

_PLAIN_PATH = re.compile(r"[\w.~/-]*", re.ASCII)

_OWN_PATHS = re.compile(r"/(oauth|\.well-known|healthz|readyz|authorize|token|register)(/|$)")


def _url(value: str | None) -> str | None:
    """The URL, if requests to it stay private: https, or http to a private address."""
    if value is None:
        return None
    if "," in value or not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("must be the URL of one MCP server, in plain ASCII; SEED_OAUTH_MCP_SERVERS has several")
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL: write http://127.0.0.1:9000/mcp") from None
    if not is_plain_host(host) or url.scheme not in {"https", "http"}:
        raise ValueError("must be an absolute URL: write http://127.0.0.1:9000/mcp")
    if url.query or url.fragment or "#" in value or "@" in url.netloc:
        raise ValueError("must not have a query, a fragment or user:password@")
    if url.scheme == "http" and not is_private(host):
        raise ValueError("must use https (http is for loopback and private addresses only)")
    return value


class ScopeRules(NamedTuple):
    """The scopes that are needed at one protected resource."""

    required: tuple[str, ...]
    """By every request, all of them."""
    tools: tools.Table
    methods: tools.Table


class McpServer(AccessLists):
    """An MCP server behind this server, and the protected resource at which it is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resource: validators.Url
    """The URL that clients connect to, below the issuer or on another host."""
    url: Annotated[str, AfterValidator(_url)]
    """The URL that requests are forwarded to."""
    required_scopes: validators.AdvertisedScopes | None = None
    tool_scopes: tools.ToolScopes | None = None
    method_scopes: tools.MethodScopes | None = None
    """By default, these three are those of the settings with their names."""
    timeout: Annotated[float, Field(gt=0, le=3600)] | None = None
    """By default `mcp_server_timeout`."""
    send_token: bool | None = None
    """By default `mcp_server_send_token`; `False` holds for `/oauth/verify`, too."""

    def scope_rules(self, common: ScopeRules) -> ScopeRules:
        """What is needed here; `common` is what is needed where nothing else is set."""
        return ScopeRules(
            common.required if self.required_scopes is None else self.required_scopes,
            common.tools if self.tool_scopes is None else self.tool_scopes,
            common.methods if self.method_scopes is None else self.method_scopes,
        )


McpServerUrl = Annotated[str | None, AfterValidator(_url), BeforeValidator(lambda value: value or None)]


class McpServerSettings(BaseSettings):
    """What is behind this server, and how requests get there."""

    mcp_server: McpServerUrl = None
    """URL of the MCP server. Requests with a valid access token are forwarded to it. Unset, nothing is forwarded."""
    mcp_servers: tuple[McpServer, ...] = ()
    """Several MCP servers instead of one, each with its `resource` and its `url`, as a JSON list or as
    `[[mcp_servers]]` in the settings file: [Many MCP servers](../how-to/many-mcp-servers.md)."""
    mcp_server_timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds until the response of the MCP server must begin. A response that has begun may take any time."""
    mcp_server_body_limit: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Maximum size of a forwarded request body, in bytes."""
    allowed_origins: validators.Origins = ()
    """Web origins whose scripts may call an MCP server that listens on loopback, separated by commas; `*` allows all.
    Loopback origins and that of this server are always allowed."""
    mcp_server_send_token: bool = True
    """Whether the identity provider's access token is sent to the MCP server if the client has one of this server's;
    `send_token` of an entry of `mcp_servers` overrides it."""

    verify_send_token: bool = False
    """Whether `/oauth/verify` also answers with the identity provider's access token. Keep clients from that path."""


def check(settings: "Settings") -> None:
    """Refuse an MCP server that cannot be served at its resource.

    Raises:
        ValueError: says what to change.
    """
    ours = {canonical(resource) for resource in settings.protected_resources}
    for server in settings.forwarded:
        setting = f"{PREFIX}MCP_SERVER{'S' if settings.mcp_servers else ''}"
        path = path_of(server.resource, settings.issuer)
        if not path or not _PLAIN_PATH.fullmatch(path) or _OWN_PATHS.match(path):
            raise ValueError(
                f"{setting}: the resource {server.resource} must be a path below {PREFIX}ISSUER, or on another host, "
                f"that this server does not use itself: write {settings.issuer}/mcp"
            )
        url = urlsplit(server.url)
        if canonical(server.url) in ours or (url.hostname in LOOPBACK_HOSTS and url.port == settings.port):
            raise ValueError(f"{setting} has the URL of this server: set the URL of the MCP server behind it")


def path_of(resource: str, issuer: str) -> str:
    """The path of a resource below the issuer or on another host, starting with a slash; empty if it is elsewhere."""
    base, whole = canonical(issuer), canonical(resource)
    if base is None or whole is None:
        return ""
    if host_of(resource, issuer):
        return urlsplit(whole).path or "/"
    return (whole.removeprefix(base) or "/") if f"{whole}/".startswith(f"{base}/") else ""


def host_of(resource: str, issuer: str) -> str:
    """The host of a resource, with its port if that is not the default; empty if it is that of the issuer."""
    host = urlsplit(canonical(resource) or "").netloc
    return "" if host == urlsplit(canonical(issuer) or "").netloc else host


def resource_names(settings: "Settings") -> dict[str, str]:
    """The names of the protected resources in the metrics: the path, after the host if that is not the issuer's.

    There are none if there is only one resource.
    """
    found = {}
    for resource in settings.protected_resources:
        path = urlsplit(canonical(resource) or "").path or "/"
        found[resource] = f"{host_of(resource, settings.issuer)}{path}"
    return found if len(found) > 1 else {}


def sent_by_verify(settings: "Settings") -> frozenset[str]:
    """The protected resources for which `/oauth/verify` answers with the identity provider's access token."""
    kept = {server.resource for server in settings.mcp_servers if server.send_token is False}
    return frozenset(settings.protected_resources) - kept if settings.verify_send_token else frozenset()


def script_origins(mcp_server: str, resource: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The web origins whose scripts may call the MCP server, besides those on loopback; `*` for all."""
    if "*" in allowed or urlsplit(mcp_server).hostname not in LOOPBACK_HOSTS:
        return ("*",)
    own = urlsplit(resource)
    return (f"{own.scheme}://{own.netloc}", *allowed)


def is_private(host: str) -> bool:
    """Whether this host is on a private network."""
    if host in LOOPBACK_HOSTS:
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        # Names without a dot belong to containers and to machines on the local network.
        return "." not in host or host.endswith(_PRIVATE_NAMES)
