"""Context managers that restore a network's mode and the global random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def evaluation_mode(network) -> Iterator[None]:
    """Evaluation mode without gradients; restores all random state and each module's mode on exit.

    A module that was frozen in evaluation mode stays in it.
    """
    modes = [(module, module.training) for module in network.modules()]
    with isolated_rng(None), torch.no_grad():
        network.eval()
        try:
            yield
        finally:
            for module, was_training in modes:
                module.training = was_training


@contextmanager
def isolated_rng(seed: int | None) -> Iterator[None]:
    """Seed the global generators (torch, numpy, random) if a seed is given; restore them on exit.

    For libraries that draw from global state.
    """
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=_devices()):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002


def _devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
