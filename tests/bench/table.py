"""The figures and their ratios as markdown tables."""

from collections.abc import Collection, Iterable, Mapping, Sequence

Rows = Mapping[str, Mapping[str, float]]
"""Figures by contender and column; a contender may lack a column."""

NOTHING = "-"


def figures(rows: Rows, columns: Sequence[str], corner: str = "contender") -> str:
    shown = {name: {column: in_figures(row[column]) for column in row} for name, row in rows.items()}
    return _table(corner, columns, shown)


def ratios(rows: Rows, columns: Sequence[str], *, baseline: str) -> str:
    """The other rows as multiples of the row `baseline`, where both have the column."""
    base = rows[baseline]
    shown = {
        name: {column: f"{row[column] / base[column]:.2f}" for column in row if column in base}
        for name, row in rows.items()
        if name != baseline
    }
    return _table(f"ratio to {baseline}", columns, shown)


def multiples(rows: Rows, columns: Collection[str], baselines: Iterable[str], of: Iterable[str]) -> dict[str, float]:
    """What `of` takes of each column as a multiple of each baseline that has it, for the history."""
    pairs = ((name, baseline) for name in of for baseline in baselines if {name, baseline} <= rows.keys())
    return {
        f"{name} {column} / {baseline}": rows[name][column] / rows[baseline][column]
        for name, baseline in pairs
        for column in columns
        if column in rows[name].keys() & rows[baseline].keys()
    }


def in_figures(value: float) -> str:
    """Three significant digits and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> str:
    lines = [
        [corner, *columns],
        ["---", *("---:" for _ in columns)],
        *([name, *(row.get(column, NOTHING) for column in columns)] for name, row in rows.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
