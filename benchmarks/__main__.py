"""All that is measured, as one table: `make bench`, or

    python -m benchmarks --json bench.json
    python -m benchmarks --size small --only sampling --only growth

Every line runs in a process of its own, one after the other, and its peak memory is that process's.
Ratios are of figures of one process. With --against, the figures of another time stand beside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.lines import GROWTH, LINES
from benchmarks.machine import describe, print_table


def run_line(name: str, size: str) -> dict[str, Any]:
    """Rows, seconds and peak memory of a line; `error` where it failed."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.lines", name, "--size", size]
        begun = time.perf_counter()
        child = subprocess.Popen([*command, "--json", str(out)], stderr=subprocess.PIPE)  # noqa: S603
        with child.stderr as stream:
            said = stream.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        unit = 2**20 if sys.platform == "darwin" else 2**10
        found: dict[str, Any] = {
            "line": name,
            "seconds": time.perf_counter() - begun,
            "peak_mb": usage.ru_maxrss / unit,
            "rows": json.loads(out.read_text()) if out.exists() else [],
        }
        if child.returncode:
            told = said.decode(errors="replace").strip().splitlines()
            found["error"] = told[-1] if told else f"exit code {child.returncode}"
    return found


def table(found: list[dict[str, Any]], before: dict[tuple[str, str, str], float]) -> list[list]:
    """The rows of all lines as cells."""
    cells = []
    for line in found:
        for row in line["rows"]:
            then = before.get((line["line"], row["what"], row["unit"]))
            cells.append(
                [
                    line["line"],
                    row["what"],
                    f"{row['value']:,.4g}" if row["value"] < 100 else f"{row['value']:,.0f}",
                    row["unit"],
                    f"{row['ratio']:.2f} of {row['of']}" if row["ratio"] else "",
                    f"{line['peak_mb']:,.0f}",
                    f"{then:,.4g}" if then is not None else "",
                ]
            )
        if "error" in line:
            cells.append([line["line"], f"FAILED: {line['error'][:80]}", "", "", "", "", ""])
    return cells


def growth(found: list[dict[str, Any]]) -> list[str]:
    """What ten times the samples took, in sentences."""
    sizes = [x for x in found if x["line"].startswith("growth-") and x["rows"]]
    told = []
    for one, other in pairwise(sizes):
        times = other["rows"][0]["value"] / one["rows"][0]["value"]
        told.append(
            f"{one['line'].removeprefix('growth-')} to {other['line'].removeprefix('growth-')} "
            f"samples: {times:.2f} times the time, {other['peak_mb'] / one['peak_mb']:.2f} times "
            "the peak memory"
        )
    return told


def _figures(path: Path | None) -> dict[tuple[str, str, str], float]:
    """The figures of another time, by line, name and unit."""
    lines = json.loads(path.read_text())["lines"] if path else []
    return {(x["line"], r["what"], r["unit"]): r["value"] for x in lines for r in x["rows"]}


def main() -> None:
    """Measure all lines and print the table; ends with 1 if a line failed."""
    parser = argparse.ArgumentParser(description="Measure what the tool takes.")
    parser.add_argument("--size", choices=GROWTH, default="full")
    parser.add_argument("--only", action="append", choices=[*LINES, "growth"], help="default all")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--against", type=Path, help="figures of another time, to set beside")
    asked = parser.parse_args()
    before = _figures(asked.against)
    wanted = asked.only or [*LINES, "growth"]
    names = [name for name in wanted if name != "growth"]
    if "growth" in wanted:
        names += [f"growth-{n}" for n in GROWTH[asked.size]]
    machine = describe()
    print(machine, f"size: {asked.size}", "", sep="\n", flush=True)
    found = [run_line(name, asked.size) for name in names]
    header = ["line", "what", "value", "unit", "ratio", "peak MB", "before"]
    print_table(header, table(found, before))
    print("", *growth(found), sep="\n")
    if asked.json:
        figures = {"machine": machine, "size": asked.size, "lines": found}
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if any("error" in line for line in found) else 0)


if __name__ == "__main__":
    main()
