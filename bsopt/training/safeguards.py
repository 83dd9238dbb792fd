"""What bsopt adds to the user's training itself: checks, seeds, and whole accumulation windows."""

from __future__ import annotations

from typing import Any

from bsopt.callbacks._base import Callback
from bsopt.callbacks._schedules import misplanned
from bsopt.training.lightning_internals import end_at_sigterm, lift_step_limit
from bsopt.training.seeding import seed_everything
from bsopt.training.task import injection
from bsopt.trial.spec import TrialSpec

__all__ = ["Safeguards"]


class Safeguards(Callback):
    """Checks injection at train start, rescales short accumulation windows, and counts batches."""

    def __init__(self, spec: TrialSpec) -> None:
        super().__init__()
        self._spec = spec
        self._in_window = 0
        self.num_batches = 0
        self.warnings: list[str] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Continue with the trial's own random numbers: data order and dropout, different on every rank."""
        seed_everything(self._spec.seeds.data + trainer.global_rank + 1000 * trainer.current_epoch)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check that what was asked for is in use."""
        if self._spec.plan.world_size > 1:
            end_at_sigterm()  # the process that watches the ranks ends the others
        injection.verify(trainer, self._spec)
        _log_parameters(trainer, self._spec)
        self.warnings = _schedule_warnings(trainer, self._spec)
        _correct_max_steps(trainer, self._spec)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start a new accumulation window."""
        self._in_window = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count the micro-batches of the accumulation window."""
        self._in_window += 1

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Make the gradient of a short window at an epoch's end a mean over its micro-batches.

        Lightning divides each loss by the full window; with k of a micro-batches the sum is a/k too small.
        The hook comes before clipping.
        """
        full = self._spec.plan.accumulate_grad_batches
        if full > 1 and 0 < self._in_window < full and pl_module.automatic_optimization:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(full / self._in_window)
        self._in_window = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count batches."""
        self.num_batches += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the count as plain data, for a checkpoint."""
        return {"num_batches": self.num_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting where the interrupted trial was."""
        self.num_batches = state_dict["num_batches"]


def _log_parameters(trainer: Any, spec: TrialSpec) -> None:
    """Tell the user's loggers which trial this is; they log on rank zero."""
    plan = spec.plan
    told = {
        "study": spec.study,
        "trial": spec.number,
        **spec.init_args,
        "lr": spec.lr,
        "global_batch_size": plan.global_batch_size,
        "micro_batch_size": plan.micro_batch_size,
        "accumulate_grad_batches": plan.accumulate_grad_batches,
        "num_devices": plan.num_devices,
    }
    for logger in trainer.loggers:
        logger.log_hyperparams(told)


def _schedule_warnings(trainer: Any, spec: TrialSpec) -> list[str]:
    """Say of each schedule that doesn't end where training ends what to do about it.

    A module that optimizes by hand steps its schedules itself, in what no one can tell.
    """
    if not trainer.lightning_module.automatic_optimization:
        return []
    has_script = bool(spec.task.source.get("entry"))
    places = {"steps": "trainer.estimated_stepping_batches", "epochs": "trainer.max_epochs"}
    instead = {
        unit: place + (f', or entry.args with "{{max_{unit}}}"' if has_script else "") for unit, place in places.items()
    }
    accumulated = ""
    if spec.plan.accumulate_grad_batches > 1:
        accumulated = f" ({spec.plan.accumulate_grad_batches} batches accumulated to a step)"
    found = misplanned(trainer, num_steps=spec.num_steps, num_epochs=spec.num_epochs)
    words = (f"{one}{accumulated if one.unit == 'steps' else ''}: plan it with {instead[one.unit]}" for one in found)
    return list(dict.fromkeys(words))


def _correct_max_steps(trainer: Any, spec: TrialSpec) -> None:
    """Let the clock end the trial: neither an estimate of max_steps that is too low nor a count of several optimizers.

    Lightning counts the steps of all optimizers together.
    """
    length = spec.budget.length
    if spec.max_steps is not None and length is not None and (length.unit != "steps" or len(trainer.optimizers) > 1):
        lift_step_limit(trainer)
