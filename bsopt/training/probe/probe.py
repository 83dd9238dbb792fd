"""What a pass costs: step time and peak memory at a few micro-batches, and the largest one that fits.

Each micro-batch is measured in processes of its own (all ranks of a data-parallel run), by real steps of the real
task: forward, backward, optimizer update, and one validation batch at the end. The user's model, data and random
state elsewhere are never touched, and one measurement doesn't see the memory of another.

The probe climbs a ladder (×4 from the smallest batch size) until memory is full or the largest batch size is
reached, fits the laws of `bsopt.laws.step_time`, and then runs the predicted largest micro-batch: what it
returns has really been run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bsopt.laws.estimate import FitStatus
from bsopt.laws.step_time import MEMORY_MARGIN, MemoryFit, StepTimeFit, fit_memory, fit_step_time
from bsopt.training.processes.crash import Crash
from bsopt.training.processes.launcher import Launcher
from bsopt.training.processes.supervision import Supervision
from bsopt.trial.plan import Plan
from bsopt.trial.record import StopReason
from bsopt.trial.spec import TrialSpec
from bsopt.units import count_of, format_bytes, format_number

__all__ = ["ProbeResult", "ProbeRow", "probe"]

_GROWTH = 4
_REFINEMENTS = 6
_CLOSE_ENOUGH = 1.1
_SATURATED = 0.9


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One micro-batch that was run.

    Attributes:
        micro_batch_size: Samples per device and pass.
        status: "ok", "over" (it ran, beyond the memory it may use) or "out_of_memory" (it couldn't).
        num_steps: Timed steps.
        seconds_per_step: Median, data loading included; None where it couldn't run.
        peak_memory_bytes: Highest of all ranks: memory of the GPU; on a CPU what the process grew by.
        capacity_bytes: Memory that a rank may use; None for no limit.
        num_devices: Ranks, each on a device of its own.
        device: The devices' name ("cpu", "NVIDIA H200").
    """

    micro_batch_size: int
    status: Literal["ok", "over", "out_of_memory"]
    num_steps: int = 0
    seconds_per_step: float | None = None
    peak_memory_bytes: int | None = None
    capacity_bytes: int | None = None
    num_devices: int = 1
    device: str = "cpu"

    @property
    def samples_per_second(self) -> float | None:
        """Samples that all devices together train per second; None where it couldn't run."""
        if self.seconds_per_step is None:
            return None
        return self.micro_batch_size * self.num_devices / self.seconds_per_step


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the probe found.

    Attributes:
        rows: Each micro-batch that was run, smallest first.
        step_time: Seconds of a step against the micro-batch.
        memory: Peak bytes against the micro-batch.
        capacity_bytes: Memory that a rank may use; None for no limit.
        max_micro_batch_size: The largest micro-batch that was run and fits; 0 where not even the smallest does.
        is_limited_by_memory: Whether memory set it; else it is the largest that was asked for.
        saturates_at: Micro-batch from which throughput is within a tenth of the best measured.
        message: The finding in a sentence or two.
    """

    rows: tuple[ProbeRow, ...]
    step_time: StepTimeFit
    memory: MemoryFit
    capacity_bytes: int | None
    max_micro_batch_size: int
    is_limited_by_memory: bool
    saturates_at: int | None
    message: str


def probe(
    spec: TrialSpec,
    launcher: Launcher,
    supervision: Supervision,
    *,
    smallest: int,
    largest: int,
    powers_of_two: bool = False,
    budget_bytes: int | None = None,
    devices: Sequence[int] | None = None,
    on_row: Callable[[ProbeRow], None] = lambda row: None,
) -> ProbeResult:
    """Find what micro-batches cost and the largest that fits, each run in processes of its own.

    Args:
        spec: A trial; its plan's devices are used, its micro-batch and budget don't count.
        launcher: Starts the processes.
        supervision: How they are watched.
        smallest: The micro-batch to begin with; smaller ones are tried where it doesn't fit.
        largest: The largest micro-batch of interest.
        powers_of_two: Whether only powers of two are of interest between those.
        budget_bytes: Memory that a rank may use, besides what its device has.
        devices: Indices of the GPUs it may use; None for all.
        on_row: Receives each measurement as it comes.

    Returns:
        The result; also where nothing fits.

    Raises:
        Crash: The task fails for another reason than memory.
        BsoptError: The user's code or settings are wrong.
    """
    rows: dict[int, ProbeRow] = {}

    def fits(size: int) -> bool:
        rows[size] = _judged(_run(spec, size, launcher, supervision, devices), budget_bytes)
        on_row(rows[size])
        return rows[size].status == "ok"

    good, bad = 0, largest + 1
    for size in _ladder(smallest, largest):
        if _is_hopeless(rows.values(), size) or not fits(size):
            bad = size
            break
        good = size
    for _ in range(_REFINEMENTS):
        guess = _next_guess(rows.values(), good, bad, powers_of_two=powers_of_two)
        if guess is None:
            break
        good, bad = (guess, bad) if fits(guess) else (good, guess)
    return _result(tuple(rows[size] for size in sorted(rows)), good, largest)


def _run(
    spec: TrialSpec, size: int, launcher: Launcher, supervision: Supervision, devices: Sequence[int] | None
) -> ProbeRow:
    plan = Plan(size, 1, num_devices=spec.plan.num_devices)
    folder = str(Path(spec.folder) / str(size))
    try:
        row = launcher.call(
            "bsopt.training.probe.measure:measure",
            replace(spec, plan=plan, batch_size=plan.global_batch_size, folder=folder),
            supervision,
            devices=devices,
        )
    except Crash as crash:
        if crash.reason is not StopReason.OUT_OF_MEMORY:
            raise
        return ProbeRow(size, "out_of_memory", num_devices=plan.world_size)
    assert isinstance(row, ProbeRow)
    return row


def _judged(row: ProbeRow, budget_bytes: int | None) -> ProbeRow:
    """Return a measurement with the memory it may use, by the device and by the user, and whether it kept to it."""
    capacity = min((c for c in (row.capacity_bytes, budget_bytes) if c is not None), default=None)
    peak = row.peak_memory_bytes
    is_over = capacity is not None and peak is not None and peak > capacity * (1 - MEMORY_MARGIN)
    return replace(row, capacity_bytes=capacity, status="over" if is_over and row.status == "ok" else row.status)


def _ladder(smallest: int, largest: int) -> list[int]:
    """Sizes to begin with: the smallest, ×4 each, and the largest.

    >>> _ladder(8, 1024)
    [8, 32, 128, 512, 1024]
    """
    sizes = []
    size = max(1, min(smallest, largest))
    while size * 1.5 < largest:
        sizes.append(size)
        size *= _GROWTH
    return [*sizes, largest]


def _is_hopeless(rows: Iterable[ProbeRow], size: int) -> bool:
    """Whether the memory law already says, far beyond doubt, that a size won't fit: don't fill the machine for it."""
    known = list(rows)
    capacity, expected = _capacity(known), _memory_fit(known).predict(size)
    return capacity is not None and expected is not None and expected.low > 1.5 * capacity


def _next_guess(rows: Iterable[ProbeRow], good: int, bad: int, *, powers_of_two: bool) -> int | None:
    """The next micro-batch to try between one that fits and one that doesn't; None where that is close enough."""
    known = list(rows)
    capacity = _capacity(known)
    if bad - good <= 1 or bad <= good * _CLOSE_ENOUGH:
        return None
    law = _memory_fit(known)
    guess = None
    if capacity is not None and law.line is not None:
        fixed, per_sample = law.line
        likely = int((capacity * (1 - MEMORY_MARGIN) - fixed) / per_sample)
        if good and likely <= good:
            return None
        cautious = law.largest_micro_batch(capacity) or 0
        guess = cautious if cautious > good else likely
    if guess is None or not good < guess < bad:
        guess = min(max(math.isqrt(max(good, 1) * bad), good + 1), bad - 1)
    if not powers_of_two:
        return guess
    rounded = max(1 << (guess.bit_length() - 1), 1 << good.bit_length())
    return rounded if good < rounded < bad else None


def _capacity(rows: Iterable[ProbeRow]) -> int | None:
    return min((row.capacity_bytes for row in rows if row.capacity_bytes is not None), default=None)


def _memory_fit(rows: Iterable[ProbeRow]) -> MemoryFit:
    return fit_memory([(r.micro_batch_size, r.peak_memory_bytes) for r in rows if r.peak_memory_bytes is not None])


def _result(rows: tuple[ProbeRow, ...], good: int, largest: int) -> ProbeResult:
    timed = [row for row in rows if row.seconds_per_step is not None]
    step_time = fit_step_time([(row.micro_batch_size, row.seconds_per_step or math.nan) for row in timed])
    memory = _memory_fit(rows)
    capacity = _capacity(rows)
    fitting = [row for row in timed if row.status == "ok"]
    best = max((row.samples_per_second or 0.0 for row in fitting), default=0.0)
    saturated = [row for row in fitting if (row.samples_per_second or 0.0) >= _SATURATED * best]
    saturates_at = saturated[0].micro_batch_size if saturated else None
    is_limited = good < largest
    return ProbeResult(
        rows=rows,
        step_time=step_time,
        memory=memory,
        capacity_bytes=capacity,
        max_micro_batch_size=good,
        is_limited_by_memory=is_limited,
        saturates_at=saturates_at,
        message=_sentence(rows, good, capacity, memory, saturates_at, best, is_limited=is_limited),
    )


def _sentence(
    rows: Sequence[ProbeRow],
    good: int,
    capacity: int | None,
    memory: MemoryFit,
    saturates_at: int | None,
    best: float,
    *,
    is_limited: bool,
) -> str:
    limit = "" if capacity is None else f" of {format_bytes(capacity)}"
    if good == 0:
        peak = rows[0].peak_memory_bytes
        needs = "ran out of memory" if peak is None else f"needs {format_bytes(peak)}{limit}"
        count = rows[0].micro_batch_size
        return f"Not even {count_of(count, 'sample')} in one pass fit: that {needs}."
    peak = next(row.peak_memory_bytes for row in rows if row.micro_batch_size == good)
    if is_limited:
        text = f"At most {good} samples fit in one pass ({format_bytes(peak)}{limit}, which was run)."
    else:
        text = f"All sizes fit: the largest, {good} samples in one pass, takes {format_bytes(peak)}{limit}."
    if memory.status is FitStatus.OK:
        text += f" Memory: {memory.message}"
    if saturates_at is not None and len(rows) > 1:
        place = "is still growing at" if saturates_at == good else "saturates at"
        speed = f"at best {format_number(best, thousands=True)} samples per second"
        text += f" Throughput {place} {saturates_at} samples a pass ({speed})."
    return text
