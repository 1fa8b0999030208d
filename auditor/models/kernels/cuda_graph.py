"""Record work as a CUDA graph and replay it without Python overhead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_WARM = 2  # warm-up runs before recording: they select kernels and allocate memory


def recorded(
    work: Callable[[], None], state: Sequence[torch.Tensor], device: torch.device
) -> Callable[[], None]:
    """`work` as a CUDA graph; unchanged on other devices.

    `work` must read and write the same tensors in place on every call, without reading values on
    the host. `state` are the tensors that it updates; they are restored after the recording runs.
    """
    before = [tensor.clone() for tensor in state]
    if device.type != "cuda":
        work()  # so that CPU tests also cover the restoring of `state`
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
