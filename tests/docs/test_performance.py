"""The tables on docs/explanation/performance.md are those of the last lines in the history of the benchmarks."""

from goals import PAGE, written

from tests.docs.pages import expect


def test_the_tables_of_goals_and_their_history_are_up_to_date() -> None:
    expect(PAGE, written(PAGE.read_text(encoding="utf-8")))
