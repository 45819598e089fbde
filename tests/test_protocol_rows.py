"""What the protocol asks and what attackers try, row by row: tests cite these rows, and each is cited by a test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

PROTOCOL = {
    "A1": "only response_type=code",
    "A2": "PKCE with S256",
    "A3": "the form of a code_challenge",
    "A4": "no redirect before client and redirect_uri are known to be good",
    "A5": "every other error goes back to the client, with its state",
    "A6": "redirect_uri is compared exactly, but for the port on loopback",
    "A7": "a parameter comes once, unknown ones are ignored",
    "A8": "answers to the client carry iss",
    "A9": "resource is one that this door protects",
    "A10": "HEAD is not counted, POST works like GET",
    "A11": "consent before a client is first sent to the identity provider",
    "A12": "a login ends in the browser that began it",
    "T1": "a form by POST",
    "T2": "two grant types",
    "T3": "clients authenticate as they registered",
    "T4": "a code is bound to client, redirect_uri and code_challenge",
    "T5": "a code works once",
    "T6": "a refresh token is bound to its client and rotates, with a grace for retries",
    "T7": "answers are JSON that nobody stores, with token_type Bearer",
    "T8": "a refresh may narrow the scope, never widen it",
    "R1": "a registration is answered with the metadata as accepted",
    "R2": "a bad registration is answered with its error",
    "R3": "a client_secret only where one is needed, stored as a hash",
    "R4": "one bad redirect_uri does not sink those beside it",
    "R5": "a client_id may be the URL of a metadata document",
    "R6": "a client_id that is not known any more is an invalid_client",
    "M1": "metadata at every well-known path",
    "M2": "the issuer byte for byte",
    "M3": "metadata tells what is served, and no more",
    "M4": "metadata of the protected resource",
    "M5": "the challenge of a protected resource, and whom it lets in",
    "M6": "CORS where scripts need it, and nowhere else",
    "M7": "a quick 404 for unknown well-known paths",
    "V1": "revocation tells nobody whether there was such a token",
}

THREATS = {
    "1": "PKCE skipped where the verifier is absent",
    "2": "a code redeemed by another client, elsewhere, twice or late",
    "3": "one-time things taken twice in a race",
    "4": "consent skipped, or given in another browser",
    "5": "login CSRF",
    "6": "mix-up of identity providers or of logins",
    "7": "redirect_uri tricks",
    "8": "open redirects on error paths",
    "9": "metadata documents as SSRF",
    "10": "floods of registrations, and hostile metadata",
    "11": "label explosion",
    "12": "secrets in telemetry",
    "13": "timing",
    "14": "header injection",
    "15": "identity headers forged by the client",
    "16": "tokens of others, forged or expired",
    "17": "refresh tokens stolen or used again",
    "18": "exception texts that reach the client",
    "19": "metrics on the public listener",
    "20": "weak or missing keys",
}

CITATION = re.compile(r"\b(PROTOCOL|THREATS) ([A-Z]?\d+(?:(?:, | and )[A-Z]?\d+)*)")


def docstrings_of_tests() -> Iterator[str]:
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


def cited() -> set[tuple[str, str]]:
    """Every row that the docstring of a test cites, with the list that it is of."""
    return {
        (name, row)
        for docstring in docstrings_of_tests()
        for name, rows in CITATION.findall(docstring)
        for row in re.split(", | and ", rows)
    }


def test_every_row_has_a_test_that_cites_it_and_every_citation_a_row() -> None:
    assert cited() == {("PROTOCOL", row) for row in PROTOCOL} | {("THREATS", row) for row in THREATS}
