"""The page of all columns: `python -m reports.analysis.columns_page > docs/columns.md`."""

from reports.analysis.schema import TABLES, Column, Table

_TOP = """# Columns

Every frame of a run and all of its columns. Generated from `reports/analysis/schema.py` by
`make docs`; `reports.analysis.schema.describe(table)` returns the same as a frame. Not listed here
is `run.exposure()`, of an audit with canaries: its columns are those of `measure_canaries` in
`auditor.canaries.exposure`, without prefixes and secrets.

To read only some columns from disk, name them. Names may be patterns:

```python
import auditor

run = auditor.load_run("runs/x")
run.samples(columns=["sample_id", "n_tokens"])
run.candidates(columns=["sample_id", "verdict", "rank:*"])
```

In `DataFrame.query`, a name that contains a colon stands in backticks:

```python
run.candidates().query("personal_e_mail > 0 and `rank:zlib` <= 10")
```

`auditor.load_runs("runs/")` returns the same frames for all runs of a folder, stacked. Their first
column, `run` (category), is the path of the run below that folder.

Types are those of pandas: `Int64` and `boolean` are integers and truth values that may be missing
(`<NA>`); `category` is text with few different values. In `float64`, NaN means undefined; the notes
of the run give the reason. `*` in a name stands for any text. A column that may be absent is
present only if the run has it.
"""


def page() -> str:
    """The page as Markdown; the same schema gives the same text.

    >>> page().startswith("# Columns")
    True
    """
    return "\n".join([_TOP, *(_section(table) for table in TABLES)])


def _section(table: Table) -> str:
    lines = [f"## {table.name}", "", f"`run.{table.name}()`: a row for {table.row}.", ""]
    lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *map(_row, table.columns), ""])


def _row(column: Column) -> str:
    absent = "" if column.required else " May be absent."
    cells = (f"`{column.name}`", f"`{column.dtype}`", column.unit, column.meaning + absent)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
