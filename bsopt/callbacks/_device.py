"""What a training run takes of its device: which kind it is, its peak memory, and waiting for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = [
    "peak_memory_bytes",
    "peak_resident_bytes",
    "reset_peak_memory",
    "synchronize",
    "uses_cuda",
]


def uses_cuda(trainer: Trainer) -> bool:
    """Return whether a Trainer runs on an NVIDIA or AMD GPU."""
    return bool(trainer.strategy.root_device.type == "cuda")


def synchronize(trainer: Trainer) -> None:
    """Wait until the GPU has finished its work; on other devices return at once."""
    if uses_cuda(trainer):
        import torch  # only here: a study's own process, which starts trials and trains none, does without

        torch.cuda.synchronize(trainer.strategy.root_device)


def reset_peak_memory(trainer: Trainer) -> None:
    """Let the GPU's peaks count from now on; elsewhere a peak can't be reset."""
    if uses_cuda(trainer):
        import torch

        torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)


def peak_memory_bytes(trainer: Trainer) -> int:
    """Return the most bytes so far: allocated by PyTorch on the GPU, elsewhere this process's resident memory."""
    if uses_cuda(trainer):
        import torch

        return int(torch.cuda.max_memory_allocated(trainer.strategy.root_device))
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Return the most memory that this process has had resident since its start, in bytes; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts in bytes, Linux in KiB
