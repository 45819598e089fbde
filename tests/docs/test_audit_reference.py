"""docs/reference/audit.md is generated from the catalogue of the audit trail."""

from seed_oauth.access.audit import AUDITED, COMMON, FACTS, Event
from tests.docs.pages import DOCS, code, expect, table

INTRODUCTION = """\
# Audit trail

This page is generated from `src/seed_oauth/access/audit.py`.

The audit trail answers who had access, when, with which client and to which tool. It is a stream of its own beside the
log, with one JSON object per line for each decision about somebody's access. Switch it on with `SEED_OAUTH_AUDIT_LOG`:

    SEED_OAUTH_AUDIT_LOG=/var/log/seed-oauth/audit.jsonl

A file is only appended to, by all workers together, and only its owner may read it. After a rotation the next record
begins a new file, so that logrotate needs no `postrotate`. `stdout` and `otlp` work, too. A record that cannot be
written is reported in the log, and its request is answered all the same. Commands such as `seed-oauth clients revoke`
write to the file and to OpenTelemetry, but not to standard output.

Records contain no token, no code, no secret and no argument of a tool. `SEED_OAUTH_AUDIT_SUBJECT` decides how they name
users. The names of the fields are those of the Elastic Common Schema (ECS): OpenTelemetry's conventions are merged with
it, and log stores read flat JSON without a mapping. OCSF would need numeric classes for each event.
"""


def reasons(event: Event) -> str:
    found = sorted({outcome.reason for outcome, audited in AUDITED.items() if audited is event})
    return ", ".join(map(code, found)) or "`command`"


def test_the_audit_reference_is_the_catalogue() -> None:
    events = [(code(event.action), code(event.category), code(event.type), event.meaning) for event in Event]
    rows = [(code(event.action), reasons(event)) for event in Event]
    fields = [*((code(name), meaning) for name, meaning in COMMON.items())]
    facts = [(code(name), meaning) for name, meaning in FACTS.values()]
    parts = [
        INTRODUCTION,
        "## Events\n\n" + table(("`event.action`", "`event.category`", "`event.type`", "meaning"), *events),
        "An event has one of these reasons:\n\n" + table(("`event.action`", "`event.reason`"), *rows),
        "## Fields\n\nEvery record has these:\n\n" + table(("field", "meaning"), *fields),
        "These are left out where they are not known:\n\n" + table(("field", "meaning"), *facts),
    ]
    expect(DOCS / "reference/audit.md", "\n".join(parts))
