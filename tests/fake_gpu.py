"""A GPU that isn't there: tensors of the CPU, counted by an allocator with the shape of PyTorch's for CUDA.

PyTorch takes memory from the driver in segments and cuts them into blocks; a block that is freed stays reserved for
the next one that fits, and a request that finds no room fails with `torch.OutOfMemoryError`. So what is reserved is
more than what is allocated, and memory can run out with free gaps left. `FakeGpu` keeps such books (sizes after
https://github.com/pytorch/pytorch/blob/main/c10/cuda/CUDACachingAllocator.cpp, in a smaller unit than a MiB, so that
tests compute little), and `install` makes every tensor of
this process an entry in them. A project under test installs it when its module is imported, so that it works in the
processes of trials, too.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bsopt.callbacks import _device

UNIT = 2**16
"""Stands for a MiB."""
GRAIN = UNIT // 2048
SMALL, SMALL_SEGMENT, LARGE_SEGMENT, WHOLE = UNIT, 2 * UNIT, 20 * UNIT, 10 * UNIT
UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"


@dataclass
class Block:
    """A part of a segment."""

    start: int
    size: int
    is_free: bool = True


@dataclass
class Segment:
    """Memory taken from the driver at once."""

    size: int
    is_small: bool
    blocks: list[Block] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is in use."""
        return all(block.is_free for block in self.blocks)


class FakeGpu:
    """The books of one device.

    Args:
        capacity_bytes: What the device has.
        others_bytes: What others take of it: the CUDA context, other processes.
        fraction: As `torch.cuda.set_per_process_memory_fraction` sets it.
    """

    name = "NVIDIA Fake"

    def __init__(self, capacity_bytes: int, *, others_bytes: int = 0, fraction: float = 1.0) -> None:
        self.capacity_bytes = capacity_bytes
        self.others_bytes = others_bytes
        self.fraction = fraction
        self.segments: list[Segment] = []
        self.allocated = self.peak_allocated = 0
        self.num_synchronized = 0

    @property
    def reserved(self) -> int:
        """Bytes taken from the driver."""
        return sum(segment.size for segment in self.segments)

    def allocate(self, size: int) -> Callable[[], None]:
        """Return what frees a new block of so many bytes.

        Raises:
            torch.OutOfMemoryError: There is no room for it, in the words of PyTorch.
        """
        rounded = max(GRAIN, -(-size // GRAIN) * GRAIN)
        segment, block = self._found(rounded) or self._added(rounded, size)
        rest = block.size - rounded
        if rest > (GRAIN if segment.is_small else SMALL):
            place = segment.blocks.index(block)
            segment.blocks.insert(place + 1, Block(block.start + rounded, rest))
            block.size = rounded
        block.is_free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return lambda: self._free(segment, block)

    def empty_cache(self) -> None:
        """Give segments in which nothing is used back to the driver."""
        self.segments = [segment for segment in self.segments if not segment.is_idle]

    def reset_peaks(self) -> None:
        """Let the peaks count from now on."""
        self.peak_allocated = self.allocated

    def _found(self, size: int) -> tuple[Segment, Block] | None:
        """Return the smallest free block of the pool that has room."""
        free = [
            (block.size, number, segment, block)
            for number, segment in enumerate(self.segments)
            if segment.is_small == (size <= SMALL)
            for block in segment.blocks
            if block.is_free and block.size >= size
        ]
        return min(free, key=lambda item: item[:2])[2:] if free else None

    def _added(self, size: int, asked: int) -> tuple[Segment, Block]:
        is_small = size <= SMALL
        taken = SMALL_SEGMENT if is_small else LARGE_SEGMENT if size < WHOLE else -(-size // (2 * UNIT)) * 2 * UNIT
        if not self._has_room(taken):
            self.empty_cache()
        if not self._has_room(taken):
            raise torch.OutOfMemoryError(self._words(asked))
        segment = Segment(taken, is_small, [Block(0, taken)])
        self.segments.append(segment)
        return segment, segment.blocks[0]

    def _has_room(self, size: int) -> bool:
        most = min(self.capacity_bytes - self.others_bytes, int(self.capacity_bytes * self.fraction))
        return self.reserved + size <= most

    def _words(self, asked: int) -> str:
        free = self.capacity_bytes - self.others_bytes - self.reserved
        idle = self.reserved - self.allocated
        return (
            f"CUDA out of memory. Tried to allocate {asked / UNIT:.2f} MiB. GPU 0 has a total capacity of "
            f"{self.capacity_bytes / UNIT:.2f} MiB of which {free / UNIT:.2f} MiB is free. Of the allocated memory "
            f"{self.allocated / UNIT:.2f} MiB is allocated by PyTorch, and {idle / UNIT:.2f} MiB is reserved by "
            "PyTorch but unallocated."
        )

    def _free(self, segment: Segment, block: Block) -> None:
        block.is_free = True
        self.allocated -= block.size
        merged: list[Block] = []
        for each in segment.blocks:
            if merged and merged[-1].is_free and each.is_free:
                merged[-1].size += each.size
            else:
                merged.append(each)
        segment.blocks = merged


class _Counting(TorchDispatchMode):
    """Enters every new storage of this process in the books."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                storage = leaf.untyped_storage()
                if storage not in self._known:
                    weakref.finalize(storage, self._gpu.allocate(storage.nbytes()))
                    self._known.add(storage)
        return found


@contextlib.contextmanager
def installed(gpu: FakeGpu, *, num_devices: int = 1) -> Iterator[FakeGpu]:
    """Have this process's tensors lie on the device, and PyTorch and bsopt tell of it what its books say."""
    properties = SimpleNamespace(name=gpu.name, total_memory=gpu.capacity_bytes, uuid=UUID)
    said: dict[str, Callable[..., Any]] = {
        "mem_get_info": lambda device=None: (gpu.capacity_bytes - gpu.others_bytes - gpu.reserved, gpu.capacity_bytes),
        "memory_allocated": lambda device=None: gpu.allocated,
        "memory_reserved": lambda device=None: gpu.reserved,
        "max_memory_allocated": lambda device=None: gpu.peak_allocated,
        "reset_peak_memory_stats": lambda device=None: gpu.reset_peaks(),
        "get_per_process_memory_fraction": lambda device=None: gpu.fraction,
        "empty_cache": gpu.empty_cache,
        "get_device_name": lambda device=None: gpu.name,
        "get_device_properties": lambda device=None: properties,
        "device_count": lambda: num_devices,
        "synchronize": lambda device=None: setattr(gpu, "num_synchronized", gpu.num_synchronized + 1),
    }
    asked = _device.uses_cuda
    askers = [module for module in list(sys.modules.values()) if getattr(module, "uses_cuda", None) is asked]
    before = {name: getattr(torch.cuda, name, None) for name in said}
    for name, function in said.items():
        setattr(torch.cuda, name, function)
    for module in askers:
        module.uses_cuda = _yes  # type: ignore[attr-defined]
    try:
        with _Counting(gpu):
            yield gpu
    finally:
        for name, function in before.items():
            if function is None:
                delattr(torch.cuda, name)
            else:
                setattr(torch.cuda, name, function)
        for module in askers:
            module.uses_cuda = asked  # type: ignore[attr-defined]


def install(capacity_bytes: int, *, others_bytes: int = 0, fraction: float = 1.0, num_devices: int = 1) -> FakeGpu:
    """Install a device for the rest of this process."""
    gpu = FakeGpu(capacity_bytes, others_bytes=others_bytes, fraction=fraction)
    _kept.append(installed(gpu, num_devices=num_devices))
    _kept[-1].__enter__()
    return gpu


_kept: list[contextlib.AbstractContextManager[FakeGpu]] = []


def _yes(trainer: object) -> bool:
    return True
