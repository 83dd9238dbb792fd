"""How a global batch size is realised: micro-batch × accumulation × devices × nodes, or why not.

The equality is exact always: `Plan.global_batch_size` is what one optimizer update averages over. Gradients
are accumulated only where memory (or the user's own limit) forces it, because accumulation buys no
throughput, and with the fewest micro-batches that fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bsopt.errors import PlanError

__all__ = ["Limits", "Plan", "nearest_realisable", "realise"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the devices and the user allow.

    Attributes:
        num_devices: Devices per node.
        num_nodes: Nodes.
        max_micro_batch_size: Most samples in one forward and backward pass of one device; None: no limit.
        max_global_batch_size: Most samples in an update, usually the training set; None: no limit.
        allow_accumulation: Whether gradients may be accumulated at all.
        why: What sets `max_micro_batch_size`, as it is told to the user ("memory", "your limit").
    """

    num_devices: int = 1
    num_nodes: int = 1
    max_micro_batch_size: int | None = None
    max_global_batch_size: int | None = None
    allow_accumulation: bool = True
    why: str = "memory"

    @property
    def world_size(self) -> int:
        """Ranks: devices × nodes."""
        return self.num_devices * self.num_nodes


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to realise a global batch size.

    Attributes:
        micro_batch_size: Samples per device and forward pass.
        accumulate_grad_batches: Micro-batches per optimizer update.
        num_devices: Devices per node.
        num_nodes: Nodes.
        reason: Why gradients are accumulated; empty when they are not.
    """

    micro_batch_size: int
    accumulate_grad_batches: int = 1
    num_devices: int = 1
    num_nodes: int = 1
    reason: str = ""

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer update."""
        return self.micro_batch_size * self.accumulate_grad_batches * self.world_size

    @property
    def world_size(self) -> int:
        """Ranks: devices × nodes."""
        return self.num_devices * self.num_nodes

    def __str__(self) -> str:
        parts = [str(self.micro_batch_size)]
        if self.accumulate_grad_batches > 1:
            parts.append(f"{self.accumulate_grad_batches} accumulated")
        if self.world_size > 1:
            parts.append(f"{self.num_devices} devices" + (f" × {self.num_nodes} nodes" if self.num_nodes > 1 else ""))
        return " × ".join(parts) + (f" = {self.global_batch_size}" if len(parts) > 1 else "")


def realise(global_batch_size: int, limits: Limits) -> Plan:
    """Return the plan that realises a global batch size exactly, with the least accumulation.

    Args:
        global_batch_size: Samples per optimizer update.
        limits: What the devices and the user allow.

    Raises:
        PlanError: It can't be realised; the message says why and `.nearest` lists sizes that can.

    >>> str(realise(96, Limits(max_micro_batch_size=40)))
    '32 × 3 accumulated = 96'
    """
    problem = _problem(global_batch_size, limits)
    if problem:
        sizes = _nearest(global_batch_size, limits)
        hint = f" The nearest that can be: {', '.join(map(str, sizes))}." if sizes else ""
        raise PlanError(f"batch size {global_batch_size} can't be realised: {problem}.{hint}", nearest=sizes)
    per_rank = global_batch_size // limits.world_size
    parts = _fewest_parts(per_rank, limits)
    assert parts is not None
    reason = ""
    if parts > 1:
        reason = f"{limits.why} allows {limits.max_micro_batch_size} samples in one pass, {per_rank} are needed"
    return Plan(
        micro_batch_size=per_rank // parts,
        accumulate_grad_batches=parts,
        num_devices=limits.num_devices,
        num_nodes=limits.num_nodes,
        reason=reason,
    )


def nearest_realisable(global_batch_size: int, limits: Limits) -> Plan:
    """Return the plan of the realisable batch size nearest (in ratio) to the one asked for.

    For samplers that know nothing of devices and propose, say, 911.

    Raises:
        PlanError: No batch size can be realised near it.
    """
    sizes = (global_batch_size,) if not _problem(global_batch_size, limits) else _nearest(global_batch_size, limits)
    if not sizes:
        return realise(global_batch_size, limits)
    return realise(min(sizes, key=lambda size: max(size / global_batch_size, global_batch_size / size)), limits)


def _problem(size: int, limits: Limits) -> str:
    if size < 1:
        return "it must be at least 1"
    if limits.max_global_batch_size is not None and size > limits.max_global_batch_size:
        return f"the training set has {limits.max_global_batch_size} samples"
    if size % limits.world_size:
        return f"it is no multiple of the {limits.world_size} devices"
    if _fewest_parts(size // limits.world_size, limits) is None:
        per_rank = size // limits.world_size
        if not limits.allow_accumulation:
            return f"{limits.why} allows {limits.max_micro_batch_size} samples in one pass and accumulation is off"
        return (
            f"{per_rank} samples per device have no equal parts of at most {limits.max_micro_batch_size} ({limits.why})"
        )
    return ""


def _fewest_parts(per_rank: int, limits: Limits) -> int | None:
    most = limits.max_micro_batch_size
    if most is None or per_rank <= most:
        return 1
    if not limits.allow_accumulation or most < 1:
        return None
    # A micro-batch under an eighth of what fits wastes the device: better another batch size.
    smallest = max(1, most // 8)
    parts = range(-(-per_rank // most), per_rank // smallest + 1)
    return next((k for k in parts if per_rank % k == 0), None)


def _nearest(size: int, limits: Limits) -> tuple[int, ...]:
    below = next((s for s in _downward(size, limits) if not _problem(s, limits)), None)
    above = next((s for s in _upward(size, limits) if not _problem(s, limits)), None)
    return tuple(s for s in (below, above) if s is not None)


def _downward(size: int, limits: Limits) -> Iterator[int]:
    top = size if limits.max_global_batch_size is None else min(size, limits.max_global_batch_size)
    world = limits.world_size
    yield from range(top // world * world, 0, -world)


def _upward(size: int, limits: Limits) -> Iterator[int]:
    world = limits.world_size
    start = max(world, -(-size // world) * world)
    top = limits.max_global_batch_size
    yield from range(start, min(4 * start, top) + 1 if top is not None else 4 * start + 1, world)
