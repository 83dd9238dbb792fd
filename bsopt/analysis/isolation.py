"""Blocks of code that leave the process's random state as they found it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["untouched_random_state"]


@contextmanager
def untouched_random_state(*, seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed Python, NumPy and torch for the block, and put their states back afterwards, also on an error.

    Args:
        seed: Non-negative.
        device: An accelerator whose generator is to be saved as well; the CPU's always is.
    """
    python, array = random.getstate(), np.random.get_state()
    accelerator = device if device is not None and device.type in ("cuda", "xpu") else None
    devices = [] if accelerator is None else [accelerator]
    kind = "cuda" if accelerator is None else accelerator.type
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.default_generator.manual_seed(seed)
            if accelerator is not None:
                torch.get_device_module(accelerator).manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
