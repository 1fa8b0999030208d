"""What the machine can do: number formats and memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Whether this machine multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        try:
            flags = Path("/proc/cpuinfo").read_text()
        except OSError:
            return False
        return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags
    return False


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken now on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    allowed = _left_to_container(Path("/sys/fs/cgroup"))
    return free if allowed is None else min(free, allowed)


def _left_to_container(folder: Path) -> int | None:
    """Bytes that a container's limit leaves (control groups, version 2); None without a limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = dict(x.split() for x in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    # Files that were read count as used until their room is needed.
    return max(0, limit - used + int(stat.get("inactive_file", 0)))
