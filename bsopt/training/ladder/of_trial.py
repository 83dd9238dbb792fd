"""A study's ladder, climbed in a process like a trial's, from the weights that all of its trials start from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from bsopt.laws.lr_ladder import (
    NUM_RUNGS,
    SHORT,
    MeasuredStart,
    Rung,
    climb,
    first_rate,
    is_cheap,
    measured_lr,
    signs_off_scale,
    steps_for,
)
from bsopt.training.ladder.request import LadderRequest
from bsopt.training.ladder.rung import HeldRate, trained_rung
from bsopt.training.task import injection
from bsopt.training.task.ready import use_task
from bsopt.trial.spec import TrialSpec

__all__ = ["measure_start"]


class _Progress(Protocol):
    def progress(self, done: int, total: int) -> None: ...


def measure_start(
    spec: TrialSpec, channel: _Progress, request: LadderRequest, *, clock: Callable[[], float] = time.monotonic
) -> MeasuredStart:
    """Measure where a study's learning rate lives, if that pays.

    Where a ladder costs more than a twentieth of one training, a few steps at the usual default look for a sign that
    it is off scale; without one nothing is measured.

    Args:
        spec: A trial on one device at the batch size to measure at; its learning rate doesn't count.
        channel: Hears of every rung.
        request: What is wanted.
        clock: Monotonic seconds.

    Raises:
        BsoptError: The user's code or settings are wrong.
    """
    began = clock()
    ladder = _Ladder(spec, channel)
    num_steps = steps_for(request.training_steps) or SHORT
    if request.is_asked_for:
        why = "search.lr.measure: always"
    elif is_cheap(request.training_steps):
        why = "it costs less than a twentieth of one training"
    else:
        look = ladder.rung(request.usual_lr, SHORT)
        why = signs_off_scale(look.losses, largest=ladder.largest)
        if not why:
            return MeasuredStart(None, "nothing says that the usual default is far off")
    rungs = climb(lambda lr: ladder.rung(lr, num_steps), start=first_rate(request.optimizer))
    decays = ladder.decays if request.decays_to_end is None else request.decays_to_end
    found = measured_lr(
        rungs,
        batch_size=spec.batch_size,
        num_steps=num_steps,
        training_steps=request.training_steps or num_steps,
        decays_to_end=decays,
        seconds=clock() - began,
    )
    return MeasuredStart(found, why if found is not None else "no learning rate lowered the training loss")


class _Ladder:
    """Trains a trial's first steps again and again, each time built anew."""

    def __init__(self, spec: TrialSpec, channel: _Progress) -> None:
        trainer = {**spec.trainer, "limit_val_batches": min(1, spec.trainer.get("limit_val_batches", 1))}
        self._spec = replace(spec, trainer=trainer, checkpoints=(), resume_file=None, is_rehearsal=True)
        self._channel = channel
        self._num_done = 0
        self.decays = False
        self.largest = 0.0

    def rung(self, lr: float, num_steps: int) -> Rung:
        """Train so many steps at a rate that stays."""
        params = {name: lr if name == "lr" else value for name, value in self._spec.params.items()}
        spec = replace(self._spec, lr=lr, params=params)

        def check(trainer: Any) -> None:
            injection.verify(trainer, spec)

        held = HeldRate(num_steps=num_steps, seed=spec.seeds.data, at_start=check)
        rung = trained_rung(lr, held, lambda: use_task(spec, lambda ready: ready.fit(), callbacks=[held]))
        self.decays, self.largest = held.decays, max(self.largest, held.largest)
        self._num_done += 1
        self._channel.progress(self._num_done, max(self._num_done, NUM_RUNGS + 1))
        return rung
