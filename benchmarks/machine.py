"""What a benchmark ran on, and how it prints."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def describe() -> str:
    """The processor, its cores, and the software that decides speed."""
    import torch
    import transformers

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{name}, {os.cpu_count()} cores, {device}; load {os.getloadavg()[0]:.1f}; "
        f"torch {torch.__version__} on {torch.get_num_threads()} threads, "
        f"transformers {transformers.__version__}"
    )


def seconds(work: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median, least and most seconds of a piece of work."""
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent), min(spent), max(spent)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows in aligned columns, for a terminal or a text file."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for n, row in enumerate(cells):
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in widths))
