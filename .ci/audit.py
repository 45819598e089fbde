"""Asks vulnerability services about the locked runtime dependencies, by pip-audit on PATH.

Ends with 0 when a service knew nothing against any of them, with 1 when one knew something, and with 2 when none could
be asked about all of them. pip-audit's own exit code does not tell: it is 0 when the service has never heard of the
packages, and 1 when there was no service.

    python3 .ci/audit.py                       # PyPI, then OSV
    python3 .ci/audit.py -s osv --osv-url …    # a service of your own, by pip-audit's options
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCKED = Path(__file__).parents[1] / "requirements.txt"
SERVICES = [["-s", "pypi"], ["-s", "osv"]]

NOTHING_KNOWN, VULNERABLE, NOT_ASKED = 0, 1, 2


def answers(service: list[str]) -> list[dict[str, Any]]:
    """What a service said of each dependency; empty if it did not answer."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["pip-audit", "--progress-spinner=off", "--format=json", f"--output={report}"]
        locked = ["--disable-pip", "--require-hashes", f"--requirement={LOCKED}"]
        asked = subprocess.run(  # noqa: S603 - a fixed program
            [*command, *locked, *service], capture_output=True, text=True, check=False
        )
        if report.exists():
            said: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
            return said
    reason = asked.stderr.strip().rpartition("\n")[2]
    print(f"{' '.join(service)} did not answer: {reason}")
    return []


def vulnerabilities(said: list[dict[str, Any]]) -> list[str]:
    """A line for each dependency of which vulnerabilities are known."""
    return [
        f"VULNERABLE: {dependency['name']} {dependency['version']}: {', '.join(known['id'] for known in vulns)}"
        for dependency in said
        if (vulns := dependency.get("vulns"))
    ]


def audit(services: list[list[str]]) -> int:
    """Ask the services in turn until one has answered for every dependency; the exit code."""
    for service in services:
        said = answers(service)
        if vulnerable := vulnerabilities(said):
            print("\n".join(vulnerable))
            return VULNERABLE
        unheard_of = sum("skip_reason" in dependency for dependency in said)
        if unheard_of:
            print(f"{' '.join(service)} has not heard of {unheard_of} of {len(said)} dependencies")
        elif said:
            print(f"{' '.join(service)} knows nothing against {len(said)} dependencies")
            return NOTHING_KNOWN
    print("NOT AUDITED: no vulnerability service could be asked about the dependencies. Audit them before a release.")
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(audit([sys.argv[1:]] if sys.argv[1:] else SERVICES))
