"""What a trial runs on: the device's name, what it has free, and whether its memory ran out."""

from __future__ import annotations

from typing import Any

from bsopt.callbacks._device import peak_memory_bytes, peak_resident_bytes, uses_cuda
from bsopt.training.error_text import says_out_of_memory

__all__ = ["device_name", "free_gpu_bytes", "grown_bytes", "is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, RuntimeError):
        return says_out_of_memory(type(error).__name__, str(error))
    return isinstance(error, MemoryError) or says_out_of_memory(type(error).__name__, "")


def device_name(trainer: Any) -> str:
    """Return the name of the device that a Trainer runs on ("cpu", "NVIDIA H200")."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        import torch

        return str(torch.cuda.get_device_name(device))
    return str(device.type)


def grown_bytes(trainer: Any | None, *, resident_before: int) -> int:
    """Return what training took at most, in bytes: allocated on the GPU; elsewhere by how much this process grew.

    Args:
        trainer: The Trainer; None where none was built.
        resident_before: The process's peak before training.
    """
    if trainer is not None and uses_cuda(trainer):
        return peak_memory_bytes(trainer)
    return max(0, peak_resident_bytes() - resident_before)


def free_gpu_bytes(trainer: Any) -> int:
    """Return what a GPU has free for this process, in bytes; what PyTorch has reserved counts as free."""
    import torch

    device = trainer.strategy.root_device
    return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
