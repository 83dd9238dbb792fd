"""One rung of a ladder: a few steps of a Trainer at one learning rate that stays, and the losses of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from bsopt.callbacks._base import Callback
from bsopt.callbacks._schedules import is_decaying
from bsopt.errors import BsoptError, TaskError
from bsopt.laws.lr_ladder import Rung, has_diverged
from bsopt.training.device import is_out_of_memory
from bsopt.training.lightning_internals import validate_after_this_batch, validate_never
from bsopt.training.seeding import seed_everything

__all__ = ["HeldRate", "peak_rate", "trained_rung"]

_RATES = ("lr", "initial_lr", "max_lr")
_RAISED = (ArithmeticError, AssertionError, IndexError, RuntimeError, ValueError)
"""What a training step may raise once its weights are beyond all bounds: in a loss that checks its input, say."""


class HeldRate(Callback):
    """Holds the learning rate against every schedule, collects the loss of each step, and ends training after enough.

    The rate of every parameter group is set again right before each optimizer step, whoever has moved it: a scheduler,
    the module's own `optimizer_step`, or code in a manual optimization.

    Args:
        num_steps: Optimizer updates to train; 0 only to look.
        seed: Of data order and dropout, the same for every rung.
        lr: The rate of the first parameter group; the others keep their ratio to it. None for the module's own.
        at_start: Called with the Trainer at train start.

    Attributes:
        losses: The training loss of each step.
        decays: Whether a schedule would have lowered the rate.
        optimizer: Name of the optimizer's class.
        largest: The largest root mean square of a floating-point tensor in the first batch: inputs or targets.
    """

    def __init__(
        self,
        *,
        num_steps: int,
        seed: int,
        lr: float | None = None,
        at_start: Callable[[Any], None] = lambda trainer: None,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self._seed = seed
        self._lr = lr
        self._at_start = at_start
        self._rates: list[float] = []
        self._in_step: list[float] = []
        self._steps_before = 0
        self.losses: list[float] = []
        self.decays = False
        self.optimizer = ""
        self.largest = 0.0

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Draw the same batches and the same dropout on every rung."""
        seed_everything(self._seed)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the rates and let no scheduler move them.

        Raises:
            TaskError: There isn't exactly one optimizer, or it has no learning rate.
        """
        self._at_start(trainer)
        if len(trainer.optimizers) != 1:
            raise TaskError(
                f"the module has {len(trainer.optimizers)} optimizers: what learning rate trains it best can be "
                "measured only where there is exactly one."
            )
        self.decays = is_decaying(trainer)
        self.optimizer = type(trainer.optimizers[0]).__name__
        self._rates = self._scaled([peak_rate(group) for group in trainer.optimizers[0].param_groups])
        self._hold(trainer)
        if pl_module.automatic_optimization:
            trainer.strategy.lr_scheduler_configs = []
        if not self.num_steps:
            trainer.should_stop = True

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the scale of the first batch."""
        if not self.losses and not self._in_step:
            sizes = [float(t.detach().float().square().mean().sqrt()) for t in _float_tensors(batch) if t.numel()]
            self.largest = max(sizes, default=0.0)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Set the rates again."""
        self._hold(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the step's loss; end after enough steps or where training diverges. An epoch ends with a validation.

        Raises:
            TaskError: A step has no loss.
        """
        loss = _loss_of(outputs)
        if loss is not None:
            self._in_step.append(loss)
        if trainer.global_step > self._steps_before:
            self._steps_before = trainer.global_step
            if not self._in_step:
                raise TaskError(
                    "training_step returns no loss, so there is nothing to compare learning rates by: let it return "
                    "the loss, also where the module optimizes by hand."
                )
            self.losses.append(sum(self._in_step) / len(self._in_step))
            self._in_step = []
        is_enough = len(self.losses) >= self.num_steps or has_diverged(self.losses)
        if is_enough:
            trainer.should_stop = True
        if is_enough or trainer.is_last_batch:
            validate_after_this_batch(trainer)
        else:
            validate_never(trainer)

    def _scaled(self, peaks: list[float]) -> list[float]:
        """Return the rate of each parameter group; all the same where the first one's would be 0."""
        if self._lr is None:
            return peaks
        return [peak * self._lr / peaks[0] for peak in peaks] if peaks[0] > 0 else [self._lr] * len(peaks)

    def _hold(self, trainer: Any) -> None:
        groups = trainer.optimizers[0].param_groups
        for group, rate in zip(groups, self._rates, strict=False):  # a group that is added later keeps its own
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def trained_rung(lr: float, held: HeldRate, fit: Callable[[], None]) -> Rung:
    """Return what came of training at a rate.

    A training that raises once it has begun, other than for want of memory, counts as diverged.

    Raises:
        TaskError: There was no step.
        BsoptError: The user's code or settings are wrong.
    """
    raised = False
    try:
        fit()
    except BsoptError:  # InjectionError and others may also be of those kinds
        raise
    except _RAISED as error:
        if len(held.losses) < 1 or is_out_of_memory(error):
            raise
        raised = True
    if not held.losses:
        raise TaskError("the training ended before its first step: is there a batch to train on?")
    return Rung(lr, tuple(held.losses), has_diverged=raised or has_diverged(held.losses))


def peak_rate(group: Mapping[str, Any]) -> float:
    """Return the highest rate that a parameter group's schedule is known to reach: `lr`, `initial_lr` or `max_lr`.

    Raises:
        TaskError: The group has no learning rate.
    """
    rates = [float(group[key]) for key in _RATES if group.get(key) is not None]
    if not rates:
        raise TaskError("the optimizer has no learning rate to measure: one of its parameter groups has no 'lr'.")
    return max(rates)


def _loss_of(outputs: Any) -> float | None:
    """Return the loss in what a training step returned; None where there is none."""
    value = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value.detach())
    return float(value) if isinstance(value, (int, float)) else None


def _float_tensors(batch: Any) -> Iterator[torch.Tensor]:
    if isinstance(batch, torch.Tensor):
        if batch.is_floating_point():
            yield batch
    elif isinstance(batch, Mapping):
        for part in batch.values():
            yield from _float_tensors(part)
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from _float_tensors(part)
