"""Free main memory."""

from __future__ import annotations

import os
from pathlib import Path


def free_ram() -> int:
    """Free main memory in bytes, within a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    allowed = _left_to_container(Path("/sys/fs/cgroup"))
    return free if allowed is None else min(free, allowed)


def _left_to_container(folder: Path) -> int | None:
    """Bytes left within a cgroup v2 limit; None without a limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = dict(x.split() for x in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    # The page cache counts as used, but can be reclaimed.
    return max(0, limit - used + int(stat.get("inactive_file", 0)))
