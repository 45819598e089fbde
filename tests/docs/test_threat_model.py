"""The threat model is held to the code: every threat is in it, and each cited name and test exists."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_protocol_rows import CITATION

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/explanation/threat-model.md").read_text(encoding="utf-8")

RFC_9700 = {
    "4.1": "Insufficient Redirection URI Validation",
    "4.2": "Credential Leakage via Referer Headers",
    "4.3": "Credential Leakage via Browser History",
    "4.4": "Mix-Up Attacks",
    "4.5": "Authorization Code Injection",
    "4.6": "Access Token Injection",
    "4.7": "Cross-Site Request Forgery",
    "4.8": "PKCE Downgrade Attack",
    "4.9": "Access Token Leakage at the Resource Server",
    "4.10": "Misuse of Stolen Access Tokens",
    "4.11": "Open Redirection",
    "4.12": "307 Redirect",
    "4.13": "TLS Terminating Reverse Proxies",
    "4.14": "Refresh Token Protection",
    "4.15": "Client Impersonating Resource Owner",
    "4.16": "Clickjacking",
    "4.17": "Attacks on In-Browser Communication Flows",
}

MCP = [
    "Confused Deputy Problem",
    "Token Passthrough",
    "Server-Side Request Forgery (SSRF)",
    "Session Hijacking",
    "Local MCP Server Compromise",
    "Scope Minimization",
]


def threats(heading: str) -> dict[str, str]:
    """The text on each threat under a heading, by its title."""
    (part,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^### (.*)\n((?:(?!###).*\n)*)", part, re.MULTILINE))


ATTACKS = threats("Attacks on similar servers")
ALL = threats("RFC 9700, section 4") | threats("MCP security best practices") | ATTACKS


def cited(label: str, text: str) -> list[str]:
    """What a bullet of a threat names."""
    bullet = re.search(rf"^- {label}:((?:.*\n)(?:  .*\n)*)", text, re.MULTILINE)
    return re.findall(r"`([^`]+)`", bullet[1]) if bullet else []


@cache
def docstrings(path: str) -> dict[str, str]:
    """The docstrings of a module's tests, by their names."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


def resolved(dotted: str) -> object:
    """The module, or what is in it, that a dotted name below `seed_oauth` stands for."""
    parts = dotted.split(".")
    try:
        return import_module(".".join(["seed_oauth", *parts]))
    except ModuleNotFoundError:
        return getattr(import_module(".".join(["seed_oauth", *parts[:-1]])), parts[-1])


def test_every_threat_of_rfc_9700_is_there_by_number_and_name() -> None:
    assert list(threats("RFC 9700, section 4")) == [f"{number} {title}" for number, title in RFC_9700.items()]


def test_every_threat_of_the_mcp_security_best_practices_is_there() -> None:
    assert list(threats("MCP security best practices")) == MCP


@pytest.mark.parametrize("title", ALL)
def test_a_threat_says_where_it_is_met_and_which_tests_hold_that(title: str) -> None:
    text = ALL[title]
    assert not text.lstrip().startswith("- "), "the measures come first"
    code, tests = cited("Code", text), cited("Tests", text)
    assert code
    assert tests
    for name in code:
        assert resolved(name) is not None, name
    for test in tests:
        path, _, function = test.partition("::")
        assert function.startswith("test_")
        assert function in docstrings(path), test


@pytest.mark.parametrize("title", ATTACKS)
def test_an_attack_is_held_by_a_test_that_cites_its_number(title: str) -> None:
    rows: set[str] = set()
    for test in cited("Tests", ATTACKS[title]):
        path, _, function = test.partition("::")
        for table, found in CITATION.findall(docstrings(path)[function]):
            if table == "THREATS":
                rows |= set(re.split(", | and ", found))
    assert title.partition(".")[0] in rows
