"""Capabilities of the machine: dtypes and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from auditor.errors import TooLargeError
from auditor.system.memory import free_ram

Item = TypeVar("Item")
Row = TypeVar("Row")


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device supports bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def has_tiles() -> bool:
    """Whether the CPU has AMX for bfloat16."""
    return "amx_bf16" in _flags()


@cache
def _flags() -> frozenset[str]:
    """CPU feature flags; empty outside Linux."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()


def free_memory(device: torch.device) -> int:
    """Free memory of the device, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_ram()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    signs = ("out of memory", "not enough memory", "can't allocate", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def empty_cuda_cache() -> None:
    """Empty the CUDA allocator's cache, so that a smaller batch finds contiguous memory."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def retry_with_smaller_batch(
    work: Callable[[list[Item]], list[Row]],
    batch: list[Item],
    *,
    too_large: str,
    note: Callable[[str], None] | None = None,
) -> list[Row]:
    """`work(batch)`, one row per item; halves the batch and calls `note` when memory runs out.

    Raises TooLargeError with the message `too_large` if a single item does not fit.

    >>> retry_with_smaller_batch(lambda batch: [2 * i for i in batch], [1, 2, 3], too_large="")
    [2, 4, 6]
    """
    try:
        return work(batch)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if len(batch) == 1:
            raise TooLargeError(too_large) from None
    # After the except clause, so that the failed attempt's tensors are released first.
    empty_cuda_cache()
    half = len(batch) // 2
    if note is not None:
        note(f"Out of memory with {len(batch)} texts per batch; continuing with {half}.")
    return [
        row
        for part in (batch[:half], batch[half:])
        for row in retry_with_smaller_batch(work, part, too_large=too_large, note=note)
    ]
