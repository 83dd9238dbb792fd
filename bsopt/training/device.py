"""What a trial runs on: the device's name, what it has free, and whether its memory ran out."""

from __future__ import annotations

import gc
from typing import Any

from bsopt.callbacks._device import peak_memory_bytes, peak_resident_bytes, uses_cuda
from bsopt.training.error_text import says_out_of_memory

__all__ = ["device_name", "free_gpu_bytes", "give_back_memory", "grown_bytes", "is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, RuntimeError):
        return says_out_of_memory(type(error).__name__, str(error))
    return isinstance(error, MemoryError) or says_out_of_memory(type(error).__name__, "")


def device_name(trainer: Any) -> str:
    """Return the name of the device that a Trainer runs on ("cpu", "NVIDIA H200")."""
    device = trainer.strategy.root_device
    if uses_cuda(trainer):
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


def free_gpu_bytes(trainer: Any) -> int | None:
    """Return what a GPU has free for this process, in bytes; None where the Trainer runs on none.

    What PyTorch has reserved counts as free, and no more than `torch.cuda.set_per_process_memory_fraction` allows.
    """
    if not uses_cuda(trainer):
        return None
    import torch

    device = trainer.strategy.root_device
    free, total = torch.cuda.mem_get_info(device)
    found = free + torch.cuda.memory_reserved(device)
    fraction_of = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # PyTorch 2.7 and newer
    return int(min(found, total * fraction_of(device)) if fraction_of is not None else found)


def give_back_memory() -> None:
    """Free what an ended training left in this process: a trial after one that ran out of memory needs it all."""
    import torch

    gc.collect()  # a Trainer and what it trained refer to each other
    torch.cuda.empty_cache()  # nothing happens where no GPU is in use
