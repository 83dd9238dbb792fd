"""Random numbers of a trial: the initial weights' seed, then the seed of data order and dropout."""

from __future__ import annotations

import random

__all__ = ["seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and PyTorch's generators, those of all GPUs among them.

    Args:
        seed: At least 0; numpy gets its last 32 bits.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
