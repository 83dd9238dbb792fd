"""A ladder of learning rates, each tried for a few steps: where the best one for a whole training is to be expected.

Notation:

    rung    one learning rate, trained from the same initial weights on the same batches for n steps
    n       steps of a rung: 60, or 20 where that would cost too much
    T       steps of the whole training at the ladder's batch size
    ladder  (octaves) log2 of the rate with the lowest loss after n steps, between the rungs by a parabola

The centre for a whole training, measured on 58 small tasks at 32 samples a step with n = 60:

    log2 lr = ladder + 0.3 − 0.40·log2(T/60)    where the rate is constant
    log2 lr = ladder + 0.3 − 0.13·log2(T/60)    where it decays to the end

right within 1.25 octaves (a standard deviation); within 1.5 with n = 20 or at other batch sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bsopt.laws.scaling import Reference, default_rule, horizon_octaves
from bsopt.units import format_duration, format_number

__all__ = [
    "BATCH_SIZE",
    "LONG",
    "MOST_COST",
    "NUM_RUNGS",
    "SHORT",
    "MeasuredLr",
    "MeasuredStart",
    "Rung",
    "climb",
    "first_rate",
    "has_diverged",
    "is_cheap",
    "measured_lr",
    "signs_off_scale",
    "steps_for",
]

BATCH_SIZE = 32
"""Samples of a step at which the constants were measured."""

LONG, SHORT = 60, 20
"""Steps of a rung, and where those would take longer than a training."""

NUM_RUNGS = 6
"""Rungs before the ladder is lengthened because an end of it wins."""

MOST_COST = 0.05
"""Share of one training that a ladder may cost without a sign that the usual default is off."""

_OCTAVES = 2.0  # between rungs
_MOST_RUNGS = 16
_FAR_ABOVE = 10.0
_LARGE = 4.0  # a standardised tensor has 1, an image of 0–1 less
_LARGE_LOSS = 16.0  # 50,000 classes that nothing is known of have 11
_SD, _SD_ELSEWHERE = 1.25, 1.5
_OFFSET = 0.3
_RECENT = 5
_LIKELY = 1.2816
"""Standard deviations either side that hold 80 %."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One learning rate, tried.

    Attributes:
        lr: The rate.
        losses: The training loss of each step; it ends early where the training diverged.
        has_diverged: Whether it did.
    """

    lr: float
    losses: tuple[float, ...]
    has_diverged: bool = False

    @property
    def loss(self) -> float:
        """The mean training loss over the last quarter of the steps; infinite where training diverged."""
        return math.inf if self.has_diverged else float(np.mean(self.losses[-max(1, len(self.losses) // 4) :]))


@dataclass(frozen=True, slots=True)
class MeasuredLr:
    """Where the best learning rate is to be expected, measured on the model itself.

    Attributes:
        batch_size: Samples of a step, at which it was measured and holds.
        lr: The rate for the whole training.
        sd: Octaves by which the best one may lie off it, as a standard deviation.
        rates: The rates that were tried, lowest first, and
        losses: the training loss that each had reached; infinite where there was none.
        num_steps: Steps of each.
        training_steps: Steps of the whole training that `lr` is for.
        seconds: How long measuring took.
    """

    batch_size: int
    lr: float
    sd: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    num_steps: int
    training_steps: float
    seconds: float

    @property
    def factor(self) -> float:
        """The best rate is within this factor in four of five cases.

        >>> round(MeasuredLr(32, 0.03, 1.25, (), (), 60, 900, 4.0).factor)
        3
        """
        return float(2.0 ** (_LIKELY * self.sd))

    @property
    def certainty(self) -> str:
        """How sure that is, and what it took, in words: "within a factor of 3, in 4.0 s"."""
        return f"within a factor of {format_number(self.factor, digits=1)}, in {format_duration(self.seconds)}"

    @property
    def reference(self) -> Reference:
        """The same as the reference that the search starts from: `ScalingSampler(reference=measured.reference)`."""
        return Reference(self.batch_size, self.lr, self.sd)

    def __str__(self) -> str:
        """In words.

        >>> print(MeasuredLr(32, 0.03, 1.25, (), (), 60, 900, 4.0))
        0.03 at batch size 32, within a factor of 3, in 4.0 s
        """
        return f"{format_number(self.lr, digits=2)} at batch size {self.batch_size}, {self.certainty}"


@dataclass(frozen=True, slots=True)
class MeasuredStart:
    """What came of measuring a study's learning rate before its first trial.

    Attributes:
        lr: What was measured; None where nothing was.
        message: Why it was, or why not, as half a sentence.
    """

    lr: MeasuredLr | None
    message: str

    def __str__(self) -> str:
        """In words.

        >>> print(MeasuredStart(None, "nothing says that the usual default is far off"))
        not measured: nothing says that the usual default is far off
        """
        return f"measured: {self.lr} ({self.message})" if self.lr is not None else f"not measured: {self.message}"


def is_cheap(training_steps: float | None) -> bool:
    """Whether a ladder costs little beside one training, in steps.

    >>> is_cheap(7200), is_cheap(7000), is_cheap(None)
    (True, False, False)
    """
    return training_steps is not None and MOST_COST * training_steps >= LONG * NUM_RUNGS


def steps_for(training_steps: float | None) -> int:
    """Return how many steps a rung may have: the ladder never takes longer than one training. 0 where none fits.

    >>> steps_for(900), steps_for(300), steps_for(100), steps_for(None)
    (60, 20, 0, 60)
    """
    return next((n for n in (LONG, SHORT) if training_steps is None or n * NUM_RUNGS <= training_steps), 0)


def first_rate(optimizer: str) -> float:
    """Return the lowest rate of a ladder by the optimizer's name.

    >>> first_rate("SGD") == 2**-9, first_rate("AdamW") == 2**-13
    (True, True)
    """
    return float(2.0**-13 if default_rule(optimizer) == "sqrt" else 2.0**-9)


def signs_off_scale(losses: Sequence[float], *, largest: float) -> str:
    """Return what says that the usual default rate may be far off, in a few words; empty where nothing does.

    Args:
        losses: Of a few steps at that default.
        largest: The largest root mean square of a floating-point tensor in a batch: of inputs or targets.

    >>> signs_off_scale([2.3, 2.2, 2.1, 2.0], largest=1.0), signs_off_scale([2.9e4, 2.8e4], largest=152.0)
    ('', 'inputs or targets as large as 152')
    """
    if largest > _LARGE:
        return f"inputs or targets as large as {format_number(largest, digits=3)}"
    if not losses or has_diverged(losses):
        return "the usual default diverges"
    if losses[0] > _LARGE_LOSS:
        return f"a first loss of {format_number(losses[0], digits=3)}"
    part = max(1, len(losses) // 4)
    if float(np.mean(losses[-part:])) >= float(np.mean(losses[:part])):
        return f"no progress in {len(losses)} steps at the usual default"
    return ""


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether a training's losses so far show that it doesn't converge: not finite, or far above the first one.

    >>> has_diverged([2.3, 2.0, 1.9]), has_diverged([2.3, float("nan")]), has_diverged([1.0] + [50.0] * 5)
    (False, True, True)
    """
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    recent = losses[-_RECENT:]
    return len(losses) > _RECENT and losses[0] > 0 and float(np.mean(recent)) > _FAR_ABOVE * losses[0]


def climb(try_rate: Callable[[float], Rung], *, start: float) -> tuple[Rung, ...]:
    """Try rates a factor of 4 apart, from the lowest up, then lower or higher ones while an end wins.

    Args:
        try_rate: Trains a few steps from the initial weights at a rate.
        start: The lowest rate.

    Returns:
        The rungs, lowest first.
    """
    step = 2.0**_OCTAVES
    rungs = []
    for number in range(NUM_RUNGS):
        rungs.append(try_rate(start * step**number))
        if len(rungs) > 1 and rungs[-1].has_diverged and rungs[-2].has_diverged:
            break  # so do the higher ones
    while len(rungs) < _MOST_RUNGS and _best_of(rungs) == 0:
        rungs.insert(0, try_rate(rungs[0].lr / step))
    while len(rungs) < _MOST_RUNGS and _best_of(rungs) == len(rungs) - 1 and not rungs[-1].has_diverged:
        rungs.append(try_rate(rungs[-1].lr * step))
    return tuple(rungs)


def measured_lr(
    rungs: Sequence[Rung],
    *,
    batch_size: int,
    num_steps: int,
    training_steps: float,
    decays_to_end: bool,
    seconds: float,
) -> MeasuredLr | None:
    """Return where the best rate of a whole training is to be expected; None where none lowers the loss.

    Args:
        rungs: Lowest first.
        batch_size: Samples of a step.
        num_steps: Steps of a rung.
        training_steps: Steps of the whole training at this batch size.
        decays_to_end: Whether its rate decays to the end.
        seconds: How long the rungs took.

    >>> rungs = [Rung(2.0**k, (loss,)) for k, loss in ((-9, 0.5), (-7, 0.3), (-5, 0.5))]
    >>> found = measured_lr(rungs, batch_size=32, num_steps=60, training_steps=60, decays_to_end=True, seconds=1.0)
    >>> float(np.log2(found.lr)).__round__(2)
    -6.7
    """
    at = _best_of(rungs)
    if rungs[at].has_diverged or (at == 0 and len(rungs) >= _MOST_RUNGS):  # not to train at all is best
        return None
    octaves = float(np.log2(rungs[at].lr)) + _OFFSET
    octaves += _parabola_offset([rung.loss for rung in rungs], at) * _OCTAVES
    # The ladder's own rate is constant, whatever the training's is.
    octaves -= horizon_octaves(LONG, decays_to_end=False) - horizon_octaves(num_steps, decays_to_end=False)
    octaves -= horizon_octaves(training_steps, decays_to_end=decays_to_end)
    is_usual = num_steps >= LONG and batch_size == BATCH_SIZE
    return MeasuredLr(
        batch_size=batch_size,
        lr=float(2.0**octaves),
        sd=_SD if is_usual else _SD_ELSEWHERE,
        rates=tuple(rung.lr for rung in rungs),
        losses=tuple(rung.loss for rung in rungs),
        num_steps=num_steps,
        training_steps=float(training_steps),
        seconds=seconds,
    )


def _best_of(rungs: Sequence[Rung]) -> int:
    """Return the rung with the lowest loss, the lowest rate of equals."""
    return int(np.argmin([rung.loss for rung in rungs]))


def _parabola_offset(losses: Sequence[float], at: int) -> float:
    """Return how far beside the lowest loss a parabola through it and its neighbours has its lowest point, in rungs.

    A neighbour that diverged counts as if it hadn't trained at all, as the lowest rate hardly has.
    """
    if not 0 < at < len(losses) - 1:
        return 0.0
    left, middle, right = losses[at - 1 : at + 2]
    if not math.isfinite(right):
        right = max(losses[0], left)
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend > 0 else 0.0
