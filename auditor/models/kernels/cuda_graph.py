"""A step of work recorded once and run again without Python between its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_WARM = 2  # runs before a recording: kernels are chosen and their memory is taken in these


def recorded(
    work: Callable[[], None], state: Sequence[torch.Tensor], device: torch.device
) -> Callable[[], None]:
    """`work` as a CUDA graph, or as it is on other devices.

    Parameters
    ----------
    work : callable()
        Reads and writes tensors in place, always the same ones, and looks at no number of them.
    state : tensors
        What it changes and reads again: as it was when this returns, although `work` ran.
    device : torch.device

    Returns
    -------
    callable()
    """
    before = [tensor.clone() for tensor in state]
    if device.type != "cuda":
        work()  # so that what must be put back is put back on every device
        again = work
    else:
        again = _graph(work)
    for tensor, was in zip(state, before, strict=True):
        tensor.copy_(was)
    return again


def _graph(work: Callable[[], None]) -> Callable[[], None]:
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
