"""What is logged, and how often."""

import logging

import pytest

from tests.test_secrets import logging_as


def tell(logger: str, at: float) -> None:
    record = logging.LogRecord(logger, logging.WARNING, __file__, 1, f"no answer at {at:g}", None, None)
    record.created = at
    logging.getLogger(logger).handle(record)


def test_a_collector_that_is_gone_is_told_once_a_minute_and_anything_else_always(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_as("json"):
        for at in (100, 110, 159, 161, 200, 222):
            tell("opentelemetry.exporter.otlp", at)
        for at in (100, 101):
            tell("uvicorn.error", at)
    told = capsys.readouterr().out
    assert [at for at in (100, 110, 159, 161, 200, 222) if f"no answer at {at}" in told] == [100, 161, 222]
    assert told.count("no answer at 10") == 3
